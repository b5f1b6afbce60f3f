"""Reading requests strictly: JSON bodies, query strings, sizes.

A body is UTF-8 JSON in which no key comes twice; integers stay within what every reader keeps exactly (±2⁵³); NaN, NUL
and lone surrogates are refused, and so is nesting beyond MAX_DEPTH. Pydantic then validates in strict mode: "5" is
not 5.
"""

import json
from contextlib import suppress
from typing import IO, Any, NamedTuple, NoReturn, TypeVar

from flask import Request, request
from gunicorn.http.errors import ParseException
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import ClientDisconnected

from services.gateway.problems import Problem, field_errors
from services.gateway.state import gateway
from shared.jobs.errors import BadRequest, FieldError
from shared.jobs.spec import MAX_INTEGER

M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]
BROKEN_OFF = (OSError, ClientDisconnected, ParseException)  # what reading a body may raise
DRAIN_BYTES = 16 * 2**20
MAX_DEPTH = 100
JSON = "application/json"


class Body(NamedTuple):
    """A JSON body as it came, and read: the text is what pydantic validates, the value is what it says."""

    text: bytes
    value: dict[str, Any]


def read_json() -> Body:
    """The object that a JSON call brought. Raises Problem 400, 413, 415, BadRequest."""
    here: Request = request._get_current_object()  # type: ignore[attr-defined]  # the proxy costs at each use
    if here.environ.get("CONTENT_TYPE") != JSON and not _is_json(here):
        raise Problem("unsupported_media_type", "send the body as application/json, in UTF-8")
    limit = gateway().settings.max_body
    length = here.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    text = read(here.stream, limit + 1) if length is None else read(here.environ["wsgi.input"], length)
    if len(text) > limit:
        raise _too_large(limit)
    value = parse_json(text)
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object", [FieldError(("body",), "expected an object", "object")])
    return Body(text, value)


def _is_json(here: Request) -> bool:
    return here.mimetype == JSON and here.mimetype_params.get("charset", "utf-8").lower() == "utf-8"


def read_model(model: type[M]) -> M:
    """The JSON body as a model. Raises Problem 400, 413, 415, BadRequest naming each bad field."""
    return validate(model, read_json().text)


def refuse_oversize(limit: int) -> None:
    """413 for a body announced as larger, before any of it is kept."""
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)


def read(stream: IO[bytes], size: int) -> bytes:
    """So many bytes of a request's body, fewer at its end. Raises Problem 400 for one that breaks off."""
    try:
        return stream.read(size)
    except BROKEN_OFF:
        raise broken_off() from None


def broken_off() -> Problem:
    return Problem("malformed", "the body breaks off, or its chunks are malformed")


def drain() -> None:
    """Read away up to 16 MiB of what a refused request still sends, so that its client gets to the answer."""
    left = DRAIN_BYTES
    if request.content_length is None and not request.environ.get("wsgi.input_terminated"):
        return  # a request without a body
    with suppress(Problem):
        while left > 0 and (chunk := read(request.environ["wsgi.input"], min(left, 1 << 16))):
            left -= len(chunk)


def parse_json(data: bytes) -> Any:
    """The JSON value. Raises Problem 400 for what is not JSON, BadRequest for numbers and text out of bounds."""
    numbers = _Numbers()
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_int=numbers.integer,
            parse_float=numbers.fraction,
            parse_constant=_no_constant,
            object_pairs_hook=_object,
        )
    except UnicodeDecodeError as error:
        raise Problem("malformed", f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Problem("malformed", f"the body is not JSON: {error.msg} at position {error.pos}") from None
    except RecursionError:
        raise _too_deep() from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _refuse_depth(value, MAX_DEPTH)
    if numbers.some_are_odd or b"\\u" in data:
        _refuse_odd_values(value, ("body",))
    return value


def validate(model: type[M], text: bytes) -> M:
    """The model, from JSON text. Raises BadRequest naming each bad field."""
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        errors = field_errors(error, ("body",), json.loads(text))
        raise BadRequest("the body does not fit the schema", errors) from None


def validate_query(model: type[M]) -> M:
    """The query string as a model. Raises BadRequest; a parameter given twice is refused unless it is a list."""
    if not request.query_string:
        return model()
    values: dict[str, Any] = {}
    for name, given in request.args.lists():
        field = model.model_fields.get(name)
        if field is not None and _is_list(field.annotation):
            values[name] = given
        elif len(given) > 1:
            raise BadRequest(
                "a query parameter is given twice", [FieldError(("query", name), "given twice", "repeated")]
            )
        else:
            values[name] = given[0]
    _refuse_odd_values(values, ("query",))
    try:
        return model.model_validate(values, strict=False)  # the strings mode knows no lists
    except ValidationError as error:
        raise BadRequest("the query does not fit the schema", field_errors(error, ("query",))) from None


def refuse_query() -> None:
    """For calls that take no query: what would be ignored is a mistake of the caller's. Raises BadRequest."""
    if request.query_string:
        errors = [
            FieldError(("query", _printable(name)), "unknown parameter", "extra_forbidden") for name in request.args
        ]
        raise BadRequest("this call takes no query parameters", errors)


class _Numbers:
    """Reads JSON numbers. One out of bounds becomes an `_Odd`, whose place is looked for afterwards."""

    def __init__(self) -> None:
        self.some_are_odd = False

    def integer(self, text: str) -> Any:
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER + 1:
            return self._odd(f"{text[:40]} is outside ±2^53", "integer_range")
        return int(text)

    def fraction(self, text: str) -> Any:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            return self._odd(f"{text[:40]} is too large a number", "finite_number")
        return value

    def _odd(self, msg: str, type: str) -> "_Odd":
        self.some_are_odd = True
        return _Odd(msg, type)


class _Odd(NamedTuple):
    msg: str
    type: str


def _refuse_odd_values(value: Any, path: Path) -> None:
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):
            raise _odd_value(path, _Odd("text must not hold NUL or lone surrogates", "text"))
    elif isinstance(value, _Odd):
        raise _odd_value(path, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_odd_values(key, (*path, key))
            _refuse_odd_values(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_odd_values(item, (*path, index))


def _odd_value(path: Path, what: _Odd) -> BadRequest:
    return BadRequest(what.msg, [FieldError(tuple(_printable(part) for part in path), what.msg, what.type)])


def _refuse_depth(value: Any, left: int) -> None:
    if left == 0:
        raise _too_deep()
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items:
        if isinstance(item, dict | list):
            _refuse_depth(item, left - 1)


def _too_deep() -> Problem:
    return Problem("malformed", f"the body is nested more than {MAX_DEPTH} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Problem("malformed", f"the key {_printable(twice)!r} comes twice in one object")
    return found


def _no_constant(text: str) -> NoReturn:
    raise Problem("malformed", f"the body is not JSON: {text} is not a JSON value")


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (list, tuple)


def _too_large(limit: int) -> Problem:
    return Problem("too_large", f"the body is larger than {limit} bytes")


def _printable(part: str | int) -> str | int:
    return part.encode("ascii", "backslashreplace").decode() if isinstance(part, str) else part
