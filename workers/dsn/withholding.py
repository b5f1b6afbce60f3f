"""What goes wrong unexpectedly is told without its words: they may quote a suffix or an answer, and logs keep them."""

import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import PurePath
from typing import ParamSpec, TypeVar

import redis

from shared.jobs.errors import Interrupted, TenfoldError

P = ParamSpec("P")
R = TypeVar("R")
FRAMES = 3  # innermost, that are told


class Withheld(RuntimeError):
    """An unexpected error's type and where it arose."""


def withholds_text(entry: Callable[P, R]) -> Callable[P, R]:
    """Errors that Tenfold explains, and those of its store, pass; of any other only type and place do."""

    @wraps(entry)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return entry(*args, **kwargs)
        except (TenfoldError, redis.RedisError, BaseExceptionGroup):
            raise
        except Exception as error:
            if (interruption := _interruption(error)) is not None:
                raise interruption from None
            message = f"{type(error).__name__} at {_place(error)}; its words are withheld, they may quote what was said"
        raise Withheld(message)

    return guarded


def _interruption(error: Exception) -> Interrupted | None:
    """The one that a library wrapped in an error of its own."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, Interrupted):
        seen = seen.__cause__ or seen.__context__
    return seen


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
