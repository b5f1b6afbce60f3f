"""Everything a call can end in, as one tree.

ClientError
├── Unreachable       nothing answers at the address
├── Refused           the cluster answered, and said no; `.problem` holds its words
│   ├── NotAllowed    no token, a wrong one, or one without the scope (401, 403)
│   ├── NotFound      there is no such thing (404)
│   ├── Conflict      the job's state doesn't allow this (409)
│   ├── Invalid       the request can't be accepted; `.problem.errors` names each bad field (400, 413, 415, 422)
│   ├── TooMany       come back later, after `.retry_after_s` (429)
│   └── Unavailable   the cluster can't do it now (5xx)
├── Damaged           what arrived isn't what the cluster said it would send
└── TimedOut          the job isn't finished after the time you gave
"""

from pydantic import BaseModel, ConfigDict, Field


class FieldProblem(BaseModel):
    """One refused field."""

    model_config = ConfigDict(frozen=True, extra="allow")

    loc: list[str | int] = Field(default_factory=list, description="Path in the request body.")
    msg: str = ""
    type: str = ""

    @property
    def path(self) -> str:
        return ".".join(map(str, self.loc))


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str = ""
    status: int
    detail: str | None = None
    errors: list[FieldProblem] = Field(default_factory=list)

    @property
    def sentence(self) -> str:
        """What a person should read, the refused fields included."""
        fields = "; ".join(f"{error.path}: {error.msg}" for error in self.errors)
        said = self.detail or self.title or f"HTTP status {self.status}"
        return f"{said} ({fields})" if fields and fields not in said else said


class ClientError(Exception):
    """A call to the cluster that didn't do what was asked."""


class Unreachable(ClientError):
    """Nothing answers at the address."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no cluster can be reached at {url}: {reason}")
        self.url = url


class Refused(ClientError):
    """The cluster answered, and said no."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(problem.sentence)
        self.problem = problem
        self.retry_after_s = retry_after_s


class NotAllowed(Refused):
    """No token, a wrong one, or one without the scope."""


class NotFound(Refused):
    """There is no such thing."""


class Conflict(Refused):
    """The job's state doesn't allow this."""


class Invalid(Refused):
    """The request can't be accepted."""


class TooMany(Refused):
    """Too many jobs, streams or calls of this caller."""


class Unavailable(Refused):
    """The cluster can't do it now."""


class Damaged(ClientError):
    """What arrived isn't what the cluster said it would send."""


class TimedOut(ClientError):
    """The job isn't finished after the time you gave."""


def refusal(problem: Problem, retry_after_s: float | None = None) -> Refused:
    """The exception for a problem, by its status."""
    by_status: dict[int, type[Refused]] = {
        400: Invalid, 401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict,
        413: Invalid, 415: Invalid, 422: Invalid, 429: TooMany,
    }  # fmt: skip
    family = Unavailable if problem.status >= 500 else Refused
    return by_status.get(problem.status, family)(problem, retry_after_s)
