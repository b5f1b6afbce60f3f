"""Kinds in a package of their own, in a pool of their own:

the proof that outside methods need no change to the tree.
"""

from typing import Literal

from pydantic import Field

from shared.jobs.references import Ref
from shared.jobs.spec import JobSpec, Params, Result, Seed, Text


class NoopParams(Params):
    note: Text = Field("", max_length=5000, description="Returned as it came.")
    size: int = Field(0, ge=0, le=60_000, description="Bytes of padding in the result.")


class NoopResult(Result):
    note: str = Field(description="The note.")
    padding: str = Field("", description="As many bytes as asked for.")


class WalkParams(Params):
    """A random walk: cheap, long if asked, checkpointed, and the same bits whatever interrupts it."""

    steps: int = Field(20, ge=1, le=100_000, description="Steps of the walk.")
    step_s: float = Field(0.0, ge=0, le=10, description="Seconds of work per step.")
    seed: Seed = 0
    die: Literal["never", "in_the_middle", "before_commit", "after_commit"] = Field(
        "never", description="Kill the own process there, once."
    )
    source: Ref | None = Field(None, description="A walk to start from.")


class WalkResult(Result):
    position: float = Field(description="Where the walk ended.")
    farthest: float = Field(description="Its largest distance from the start.")


class FailParams(Params):
    how: Literal["error", "permanent", "invalid_input", "retryable", "exit", "big_result", "nan"] = Field(
        description="Which failure."
    )
    times: int = Field(1000, ge=0, description="Attempts that fail; later ones succeed.")


class StubbornParams(Params):
    """Work that never asks whether it should stop, with a subprocess of its own."""

    seconds: float = Field(60, gt=0, le=3600, description="How long.")


class StubbornResult(Result):
    child_pid: int = Field(description="The subprocess's pid.")


class ChatterParams(Params):
    tokens: int = Field(10, ge=1, le=20_000, description="Token events.")
    every_s: float = Field(0.1, ge=0, le=10, description="Pause between them.")


class ChatterResult(Result):
    tokens: int = Field(description="How many were said.")


def _spec(verb: str, params: type[Params], result: type[Result], summary: str, version: int = 1) -> JobSpec:
    entry = f"tenfold_test_kinds.jobs:{verb}"
    return JobSpec(f"test.{verb}", params, result, "test", summary, "steps", version=version, entry=entry)


KINDS = [
    _spec("noop", NoopParams, NoopResult, "Do nothing."),
    _spec("walk", WalkParams, WalkResult, "Walk at random, with checkpoints."),
    _spec("fail", FailParams, NoopResult, "Fail in a chosen way."),
    _spec("stubborn", StubbornParams, StubbornResult, "Ignore every request to stop."),
    _spec("chatter", ChatterParams, ChatterResult, "Say tokens at a steady pace."),
]
