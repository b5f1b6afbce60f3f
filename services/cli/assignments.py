"""`-p key=value`, `--label k=v`, `--grid field=v1,v2`: text of the command line into values.

A value is read as JSON where it is JSON (`3`, `true`, `null`, `[1, 2]`, `{"type": "greedy"}`), else as text.
`-p a.b=3` sets a field of a field.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer


def value_of(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> Any:
    """NaN and Infinity aren't JSON, although Python reads them: they stay text."""
    raise ValueError(name)


def params_of(file: Path | None, assignments: Iterable[str]) -> dict[str, Any]:
    """The file's object with the assignments laid over it."""
    params = _read_object(file) if file else {}
    for text in assignments:
        path, value = _split(text, "-p", "key=value")
        _assign(params, path, value_of(value))
    return params


def _read_object(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except OSError as failure:
        raise typer.BadParameter(f"--params {file}: {failure.strerror}") from failure
    except ValueError as failure:
        raise typer.BadParameter(f"--params {file} is not JSON: {failure}") from failure
    if not isinstance(found, dict):
        raise typer.BadParameter(f"--params {file} must hold an object, it holds a {type(found).__name__}")
    return found


def _assign(params: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    inner = params
    for depth, name in enumerate(outer):
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            held = ".".join(outer[: depth + 1])
            raise typer.BadParameter(f"-p {path}: {held} is already a value, not an object")
    inner[last] = value


def labels_of(texts: Iterable[str]) -> dict[str, str]:
    return dict(_split(text, "--label", "key=value") for text in texts)


def grid_of(texts: Iterable[str]) -> dict[str, list[Any]]:
    """`field.path=v1,v2` or `field.path=[JSON list]` into the values to try."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        path, listed = _split(text, "--grid", "field=v1,v2")
        whole = value_of(listed) if listed.startswith("[") else None
        grid[path] = whole if isinstance(whole, list) else [value_of(item) for item in listed.split(",")]
    return grid


def seeds_of(text: str | None) -> list[int]:
    """`1,2,5` or `1-10`, both ends included."""
    seeds: list[int] = []
    for part in filter(None, (text or "").split(",")):
        first, dash, last = part.partition("-")
        try:
            seeds.extend(range(int(first), int(last) + 1) if dash else [int(first)])
        except ValueError:
            raise typer.BadParameter(f"--seeds {text}: write numbers as 1,2,5 or a range as 1-10") from None
    return seeds


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{option} {text}: write {form}")
    return name, value


def merged(given: Mapping[str, Any]) -> dict[str, Any]:
    """Only what was given on the command line: the cluster knows the defaults."""
    return {name: value for name, value in given.items() if value not in (None, {}, [])}
