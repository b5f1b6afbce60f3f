"""Libraries of instruction tasks in the field's formats, one reader for all: `read_tasks`.

    JSONL, also .gz             one task a line: id, instructions or templates, and what else is known of it
    CSV                         task_id,instruction[,category,dataset,source,split]; further columns are kept
    promptsource                a `templates` tree of templates.yaml (a folder, or packed as .tar or .zip)
    Super-NaturalInstructions   a folder of tasks/*.json (the same)

Every refusal is an InvalidInput that names the file, the line and the remedy.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from shared.data.trees import files_of, is_packed
from shared.jobs.errors import InvalidInput

Style = Literal["plain", "jinja", "python"]
NEW_FIELDS = ("instructions", "templates", "instances")
"""Fields that are read apart and not kept as further fields."""
TEXT_COLUMNS = ("category", "dataset", "source", "split")
"""Columns of a CSV that mean what the JSONL field of that name does; equal in all rows of a task."""
MOST_BYTES = 2**32
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Template:
    """One instruction as the library holds it: plain text, a Jinja template, or a Python format string."""

    text: str
    style: Style = "plain"
    original: bool | None = None  # promptsource's `original_task`; None where nobody says


@dataclass(frozen=True)
class Instance:
    """One input and its output."""

    input: str
    output: str

    @property
    def text(self) -> str:
        """As the sample-based baseline embeds it."""
        return f"{self.input}\nOutput: {self.output}"


@dataclass(frozen=True)
class InstructionTask:
    """One task of a library."""

    id: str
    templates: tuple[Template, ...]
    where: str  # file and line, for messages
    category: str | None = None
    dataset: str | None = None
    source: str | None = None
    languages: tuple[str, ...] | None = None
    split: str | None = None
    example: Instance | None = None
    n_examples: int | None = None
    instances: tuple[Instance, ...] = ()
    further: dict[str, Any] = field(default_factory=dict)  # unknown fields, kept


def read_tasks(path: Path, name: str, need_id: bool = True) -> list[InstructionTask]:
    """All tasks of a library; `name` is how messages call it. Raises InvalidInput."""
    tasks = list(_unique(_read(path, name, need_id)))
    if not tasks:
        raise InvalidInput(f"{name} holds no task; give one task a line, each with id and instructions")
    return tasks


def _read(path: Path, name: str, need_id: bool) -> Iterator[InstructionTask]:
    if path.is_dir() or is_packed(path):
        return _tree(path, name)
    lines = read_lines(path, name)
    first = next((line for _, line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        return (task_of(record, where, need_id) for where, record in json_lines(path, name))
    header = {column.strip().lower() for column in next(csv.reader([first]), [])}
    if {"task_id", "instruction"} <= header:
        return _csv(path, name)
    raise InvalidInput(
        f"{name} is no library: line 1 is neither a JSON object nor a CSV header with task_id,instruction; accepted "
        "are JSONL (also .gz), CSV, and promptsource or natural-instructions folders packed as .tar or .zip"
    )


def _unique(tasks: Iterator[InstructionTask]) -> Iterator[InstructionTask]:
    seen: dict[str, str] = {}
    for task in tasks:
        if task.id in seen:
            raise InvalidInput(f"{task.where}: task id {task.id!r} is also at {seen[task.id]}; ids must be unique")
        seen[task.id] = task.where
        yield task


# Lines ------------------------------------------------------------------------------------------------------------


def read_lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """(line number, text). Raises InvalidInput with the line that isn't UTF-8."""
    with _binary(path) as handle:
        try:
            for number, line in enumerate(handle, start=1):
                yield number, _decoded(line, name, number)
        except (EOFError, gzip.BadGzipFile) as error:
            raise InvalidInput(f"{name} is a damaged gzip file: {error}") from None


def json_lines(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) of every line that isn't blank. Raises InvalidInput."""
    for number, line in read_lines(path, name):
        if line.strip():
            where = f"{name} line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise InvalidInput(f"{where} is no JSON: {error.msg} at column {error.colno}") from None
            if not isinstance(record, dict):
                raise InvalidInput(f'{where} is no JSON object: give {{"id": …, "instructions": […]}}')
            yield where, record


def _binary(path: Path) -> Any:
    with path.open("rb") as handle:
        packed = handle.read(2) == GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")


def _decoded(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{name} line {number} is not UTF-8: byte {line[error.start]:#04x} at position {error.start + 1}; save the "
            "file as UTF-8"
        ) from None


# One task ---------------------------------------------------------------------------------------------------------


def task_of(record: dict[str, Any], where: str, need_id: bool = True) -> InstructionTask:
    """The task of a JSON object. Raises InvalidInput."""
    known = {"id", "category", "dataset", "source", "languages", "split", "example", "n_examples", *NEW_FIELDS}
    return InstructionTask(
        id=_text(record, "id", where) if need_id or "id" in record else where,
        templates=_templates(record, where),
        where=where,
        category=_optional(record, "category", where),
        dataset=_optional(record, "dataset", where),
        source=_optional(record, "source", where),
        languages=_languages(record.get("languages"), where),
        split=_optional(record, "split", where),
        example=_instance(record.get("example"), where, "example"),
        n_examples=_count(record.get("n_examples"), where),
        instances=_instances(record.get("instances"), where),
        further={key: value for key, value in record.items() if key not in known},
    )


def _text(record: dict[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{where}: {key} is {value!r}; give a text that is not empty")
    return _storable(value, where, key)


def _optional(record: dict[str, Any], key: str, where: str) -> str | None:
    return None if record.get(key) is None else _text(record, key, where)


def _storable(text: str, where: str, key: str) -> str:
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise InvalidInput(f"{where}: {key} holds a NUL or half a character; remove it")
    return text


def _templates(record: dict[str, Any], where: str) -> tuple[Template, ...]:
    given = record.get("instructions")
    if given is None and isinstance(record.get("templates"), list):
        found = tuple(_template(entry, f"{where}: template {i}") for i, entry in enumerate(record["templates"], 1))
    elif isinstance(given, list) and all(isinstance(text, str) for text in given):
        found = tuple(Template(_storable(text, where, "instructions")) for text in given)
    else:
        raise InvalidInput(f"{where}: give instructions (a list of texts) or templates (a list of jinja or input)")
    for number, template in enumerate(found, start=1):
        if not template.text.strip():
            raise InvalidInput(f"{where}: instruction {number} of {len(found)} is empty; remove it or write it")
    if not found:
        raise InvalidInput(f"{where}: the task has no instruction; give at least one")
    return found


def _template(entry: Any, where: str) -> Template:
    if isinstance(entry, dict) and isinstance(entry.get("jinja"), str):
        original = entry.get("original_task")
        return Template(
            _storable(entry["jinja"], where, "jinja"), "jinja", original if isinstance(original, bool) else None
        )
    if isinstance(entry, dict) and isinstance(entry.get("input"), str):
        return Template(_storable(entry["input"], where, "input"), "python")
    raise InvalidInput(f"{where} has neither a jinja nor an input text")


def _languages(value: Any, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    raise InvalidInput(f"{where}: languages is {value!r}; give a list of names")


def _instance(value: Any, where: str, key: str) -> Instance | None:
    if value is None:
        return None
    if isinstance(value, dict) and isinstance(value.get("input"), str) and isinstance(value.get("output"), str):
        return Instance(value["input"], value["output"])
    raise InvalidInput(f'{where}: {key} must be {{"input": text, "output": text}}')


def _instances(value: Any, where: str) -> tuple[Instance, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidInput(f'{where}: instances must be a list of {{"input": text, "output": text}}')
    found = [_instance(entry, where, f"instance {number}") for number, entry in enumerate(value, start=1)]
    return tuple(instance for instance in found if instance is not None)


def _count(value: Any, where: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise InvalidInput(f"{where}: n_examples is {value!r}; give a whole number of examples")


# CSV --------------------------------------------------------------------------------------------------------------


def _csv(path: Path, name: str) -> Iterator[InstructionTask]:
    """Rows with the same task_id are one task with several instructions."""
    text = io.StringIO("".join(line for _, line in read_lines(path, name)), newline="")
    reader = csv.DictReader(text)
    reader.fieldnames = [column.strip().lower() for column in reader.fieldnames or []]
    tasks: dict[str, InstructionTask] = {}
    for row in reader:
        task = _csv_task(row, f"{name} line {reader.line_num}")
        before = tasks.get(task.id)
        for column in TEXT_COLUMNS:
            ours, theirs = getattr(task, column), getattr(before or task, column)
            if before and ours != theirs:
                raise InvalidInput(
                    f"{task.where}: task {task.id!r} has {column} {ours!r}, at {before.where} it is {theirs!r}; give "
                    f"it one {column}"
                )
        tasks[task.id] = replace(before, templates=(*before.templates, *task.templates)) if before else task
    yield from tasks.values()


def _csv_task(row: dict[Any, Any], where: str) -> InstructionTask:
    if None in row or row.get("instruction") is None:
        raise InvalidInput(f"{where} has another number of columns than the header; quote texts that hold commas")
    said = {field: row.get(field) or None for field in TEXT_COLUMNS}
    task = task_of({"id": row["task_id"], "instructions": [row["instruction"]], **said}, where)
    rest = {name: value for name, value in row.items() if value and name not in ("task_id", "instruction", *said)}
    return replace(task, further=rest)


# Trees ------------------------------------------------------------------------------------------------------------


def _tree(path: Path, name: str) -> Iterator[InstructionTask]:
    found = False
    for file, data in files_of(path, name):
        base = file.rpartition("/")[2]
        if base == "templates.yaml":
            found = True
            yield _promptsource(data, f"{name}: {file}")
        elif base.startswith("task") and base.endswith(".json"):
            found = True
            yield _natural(data, base.removesuffix(".json"), f"{name}: {file}")
    if not found:
        raise InvalidInput(f"{name} holds neither templates.yaml (promptsource) nor task*.json (natural instructions)")


def _promptsource(data: bytes, where: str) -> InstructionTask:
    from shared.data.promptsource import read_yaml

    record = read_yaml(data, where)
    dataset, subset = record["dataset"], record.get("subset")
    task_id = "/".join(part for part in ("p3", dataset, subset) if part)
    return task_of({"id": task_id, "source": "p3", **record}, where)


def _natural(data: bytes, stem: str, where: str) -> InstructionTask:
    """`Definition` list or str, `Categories`, `Source`, `Input_language`, `Positive Examples`."""
    try:
        given = json.loads(_decoded(data, where, 1))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{where} is no JSON: {error}") from None
    definition = given.get("Definition")
    record: dict[str, Any] = {
        "id": f"niv2/{stem}", "source": "niv2",
        "instructions": [definition] if isinstance(definition, str) else definition,
        "category": _first(given.get("Categories")), "dataset": _first(given.get("Source")),
        "languages": given.get("Input_language"), "example": _positive(given.get("Positive Examples")),
        "n_examples": len(given.get("Instances") or []), "domains": given.get("Domains"),
    }  # fmt: skip
    return task_of(record, where)


def _first(value: Any) -> Any:
    return (value[0] if value else None) if isinstance(value, list) else value


def _positive(examples: Any) -> dict[str, str] | None:
    example = _first(examples)
    if not isinstance(example, dict):
        return None
    return {key: str(_first(example.get(key)) or "") for key in ("input", "output")}
