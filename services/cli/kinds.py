"""`tenfold kinds [KIND]`: what can be submitted, and what each kind takes."""

from typing import Annotated, Any

import typer

from services.cli.options import AsJson, connect
from services.cli.output import print_json, print_pairs, print_table
from services.client import Kind


def add_to(app: typer.Typer) -> None:
    app.command()(kinds)


def kinds(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Show this one's parameters.")] = None,
    as_json: AsJson = False,
) -> None:
    """The kinds of jobs, or one kind's parameters."""
    with connect() as tenfold:
        found: Kind | list[Kind] = tenfold.kind(kind) if kind else tenfold.kinds()
    if as_json:
        print_json(found)
    elif isinstance(found, Kind):
        _describe(found)
    else:
        print_table(("kind", "pool", "what it does"), [(k.kind, k.pool, k.summary) for k in found])


def _describe(kind: Kind) -> None:
    print_pairs([("kind", f"{kind.kind} (version {kind.version})"), ("pool", kind.pool), ("", kind.summary)])
    typer.echo("\nparameters")
    print_table(("name", "type", "default", "meaning"), _fields(kind.params_schema))
    typer.echo("\nresult")
    print_table(("name", "type", "", "meaning"), _fields(kind.result_schema))


def _fields(schema: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    required = set(schema.get("required", []))
    return [
        (
            name,
            type_of(field),
            "required" if name in required else _default(field),
            str(field.get("description", "")),
        )
        for name, field in schema.get("properties", {}).items()
    ]


def _default(field: dict[str, Any]) -> str:
    return str(field["default"]) if "default" in field else ""


def type_of(field: dict[str, Any]) -> str:
    """A JSON Schema's type with its bounds, in a few characters: `integer 1…100`, `fishery | pasture`."""
    if "enum" in field:
        return " | ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " | ".join(dict.fromkeys(type_of(option) for option in field[union]))
    if field.get("type") == "array":
        return f"list of {type_of(field.get('items', {}))}"
    return f"{field.get('type', 'any')}{_bounds(field)}"


def _bounds(field: dict[str, Any]) -> str:
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    return "" if low is None and high is None else f" {'' if low is None else low}…{'' if high is None else high}"
