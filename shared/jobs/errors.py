"""Everything that can go wrong with a job, as one tree.

    TenfoldError
    ├── BadRequest            the caller's input can't be accepted (422)
    │   └── UnknownReference  a reference in Params leads nowhere
    ├── NotFound              no such job, kind, artifact, file or sweep (404)
    ├── Conflict              the job's state doesn't allow this (409)
    ├── QuotaExceeded         too many unfinished jobs of one owner (429)
    ├── StorageFull           Redis is too full to accept work (503)
    ├── Interrupted           the method must stop now; never an error of the method
    │   ├── Cancelled         somebody asked for it
    │   ├── HandBack          this worker is stopping; the job goes on elsewhere
    │   ├── TimedOut          the job's running time is used up
    │   └── LeaseLost         the job is no longer this worker's
    ├── Retryable             a failure that may not happen again (endpoint down, disk busy)
    └── Permanent             a failure that will happen again
        └── InvalidInput      an input's content is wrong; names the file, the line and the remedy

Methods raise `Retryable`, `Permanent` and `InvalidInput`; they never see HTTP.
"""


class TenfoldError(Exception):
    """Something Tenfold can explain in one sentence."""

    @property
    def message(self) -> str:
        return str(self)


class FieldError(dict[str, object]):
    """One refused field: `loc` (path in the body), `msg`, `type`."""

    def __init__(self, loc: tuple[str | int, ...], msg: str, type: str) -> None:
        super().__init__(loc=list(loc), msg=msg, type=type)


class BadRequest(TenfoldError):
    """The request is understood and can't be accepted; `errors` names each bad field."""

    def __init__(self, message: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []


class UnknownReference(BadRequest):
    """A reference in Params leads nowhere."""


class NotFound(TenfoldError):
    """There is no such thing."""


class Conflict(TenfoldError):
    """The job's state doesn't allow this."""


class QuotaExceeded(TenfoldError):
    """This owner has too many unfinished jobs."""


class StorageFull(TenfoldError):
    """The job store is too full to take new work."""


class Interrupted(TenfoldError):
    """The method must stop at once."""


class Cancelled(Interrupted):
    """Somebody asked for the job to end."""


class HandBack(Interrupted):
    """The worker is stopping; the job goes back to its queue."""


class TimedOut(Interrupted):
    """The job's running time is used up."""


class LeaseLost(Interrupted):
    """The job belongs to another claim now."""


class Retryable(TenfoldError):
    """The failure may pass: try again later."""


class Permanent(TenfoldError):
    """The failure will happen again: don't retry."""

    type = "failed"


class InvalidInput(Permanent):
    """An input's content is wrong. Say which file, which line, and what would be accepted."""

    type = "invalid_input"
