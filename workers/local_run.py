"""`tenfold run`: one job in this process, over a folder."""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.jobs.catalog import find
from shared.jobs.errors import NotFound, TenfoldError
from shared.jobs.local import LocalContext
from workers.runtime.registry import entry_of


def run_here(kind: str, params_file: Path | None, pairs: list[str], inputs: list[str], out: Path) -> int:
    """Print the result as JSON; the exit code: 0, 1 for a failed job, 2 for wrong usage."""
    try:
        spec = find(kind)
        raw = read_params(params_file, pairs)
        params = spec.params.model_validate_json(json.dumps(raw))
        context = LocalContext(out, dict(pair.split("=", 1) for pair in inputs), _say)
    except (NotFound, ValidationError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        result = entry_of(kind)(params, context)
    except TenfoldError as error:
        print(error.message, file=sys.stderr)
        return 1
    context.close()
    print(result.model_dump_json(indent=2))
    return 0


def read_params(file: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Params from a JSON file, overlaid with `a.b=value` pairs; a value that isn't JSON is text."""
    params: dict[str, Any] = json.loads(file.read_text()) if file else {}
    for pair in pairs:
        path, found, text = pair.partition("=")
        if not found:
            raise ValueError(f"-p {pair!r}: expected key=value")
        *parents, leaf = path.split(".")
        target = params
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = _value(text)
    return params


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _say(event: str, data: dict[str, Any]) -> None:
    if event == "progress":
        print(f"\r{data['done']}/{data['total']} {data['unit']} {data['message']}", end="", file=sys.stderr)
        if data["done"] == data["total"]:
            print(file=sys.stderr)
    elif event == "log":
        print(data["message"], file=sys.stderr)
