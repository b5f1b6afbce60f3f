"""Pages for people: `/docs`, and what each problem type means."""

import html
from functools import cache
from typing import Any

from flask import Response

from services.gateway.operations import Answer, Operation, Routes
from services.gateway.problems import PROBLEMS
from services.gateway.redteam import offered
from services.gateway.state import gateway
from shared.jobs.catalog import find
from shared.jobs.errors import NotFound
from shared.jobs.spec import JobSpec

routes = Routes()
HTML = ("text/html",)


@routes.add(Operation("GET", "/docs", "documents", "The same for people", {200: Answer(None, "A page", HTML)}))
def docs() -> Response:
    return Response(_page("Tenfold HTTP API", _operations_html(tuple(offered()))), mimetype="text/html")


@routes.add(
    Operation(
        "GET",
        "/problems/{problem}",
        "documents",
        "What a problem means",
        {200: Answer(None, "A page", HTML)},
        problems=(404,),
    )
)
def problem_page(problem: str) -> Response:
    if problem not in PROBLEMS:
        raise NotFound(f"there is no problem {problem}; known: {', '.join(PROBLEMS)}")
    kind = PROBLEMS[problem]
    text = f"<p>{html.escape(kind.explanation)}</p>"
    return Response(_page(f"{kind.status} {kind.title}", text), mimetype="text/html")


@cache
def _operations_html(offered_kinds: tuple[str, ...]) -> str:
    rows = []
    for operation in gateway().operations:
        scopes = ", ".join(operation.scopes) or ("no token" if operation.is_open else "any token")
        cells = (
            f"<code>{operation.method} {html.escape(operation.path)}</code>",
            html.escape(operation.summary),
            scopes,
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    kinds = "".join(_kind_html(spec) for spec in map(find, offered_kinds))
    table = f"<table><tr><th>call</th><th>answer</th><th>scope</th></tr>{''.join(rows)}</table>"
    return f"<p>Machine-readable: <a href='/openapi.json'>/openapi.json</a>.</p>{table}<h2>Kinds</h2>{kinds}"


def _kind_html(spec: JobSpec) -> str:
    heading = f"<h3 id='{spec.kind}'><code>{spec.kind}</code></h3>"
    return f"{heading}<p>{html.escape(spec.summary)}</p>{_fields_html(spec.params_schema())}"


def _fields_html(schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = []
    for name, about in schema.get("properties", {}).items():
        default = "required" if name in required else html.escape(repr(about.get("default")))
        rows.append(
            f"<tr><td><code>{name}</code></td><td>{html.escape(str(about.get('type', '')))}</td><td>{default}</td>"
            f"<td>{html.escape(about.get('description', ''))}</td></tr>"
        )
    return f"<table><tr><th>param</th><th>type</th><th>default</th><th>meaning</th></tr>{''.join(rows)}</table>"


def _page(title: str, body: str) -> str:
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
        "table{border-collapse:collapse;margin:1rem 0}td,th{border-bottom:1px solid #d0d7de;padding:.3rem .8rem;"
        "text-align:left;vertical-align:top}code{font-size:.9em}"
    )
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{style}</style><h1>{html.escape(title)}</h1>{body}</html>"
    )
