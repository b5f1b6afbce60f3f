"""The entry functions of the test kinds."""

import os
import signal
import subprocess
import sys
import time
from typing import Any, NoReturn

import numpy as np

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput, Permanent, Retryable
from shared.jobs.references import Ref
from tenfold_test_kinds import (
    ChatterParams,
    ChatterResult,
    FailParams,
    NoopParams,
    NoopResult,
    StubbornParams,
    StubbornResult,
    WalkParams,
    WalkResult,
)

CHECKPOINT_EVERY = 10


def noop(params: NoopParams, ctx: JobContext) -> NoopResult:
    return NoopResult(note=params.note, padding="x" * params.size)


def walk(params: WalkParams, ctx: JobContext) -> WalkResult:
    """Steps of a Gaussian walk; the whole generator state is in the checkpoint."""
    rng = np.random.Generator(np.random.PCG64(params.seed))
    state: dict[str, Any] = {
        "step": 0,
        "position": _start(params, ctx),
        "farthest": 0.0,
        "rng": rng.bit_generator.state,
    }
    if restored := ctx.restored():
        state = restored.state
    rng.bit_generator.state = state["rng"]
    trace = ctx.journal("trace.jsonl")
    for step in range(state["step"], params.steps):
        _work(params.step_s)
        state["position"] += float(rng.standard_normal())
        state["farthest"] = max(state["farthest"], abs(state["position"]))
        trace.append_json({"step": step, "position": state["position"]})
        ctx.metric("position", step, state["position"])
        ctx.progress(step + 1, params.steps, "steps")
        if (step + 1) % CHECKPOINT_EVERY == 0:
            state |= {"step": step + 1, "rng": rng.bit_generator.state}
            ctx.checkpoint(state)
        if params.die == "in_the_middle" and step == params.steps // 2:
            _die_once(ctx)
    with ctx.artifact("end.txt") as out:
        out.write(f"{state['position']!r}\n".encode())
    if params.die in ("before_commit", "after_commit"):
        _die_around_the_commit(ctx, params.die)
    return WalkResult(position=state["position"], farthest=state["farthest"])


def fail(params: FailParams, ctx: JobContext) -> NoopResult:
    attempt = getattr(getattr(ctx, "_claim", None), "attempt", 1)
    if attempt > params.times:
        return NoopResult(note=f"attempt {attempt}")
    ctx.write_text("before.txt", "written before the failure")
    match params.how:
        case "permanent":
            raise Permanent("this will not work")
        case "invalid_input":
            raise InvalidInput("line 3 of the input is cut off; export it again")
        case "retryable":
            raise Retryable("the endpoint answered 503")
        case "exit":
            os._exit(7)
        case "big_result":
            return NoopResult(note="x" * 70_000)
        case "nan":
            ctx.metric("loss", 0, float("nan"))
    raise RuntimeError("an error of the method")


def stubborn(params: StubbornParams, ctx: JobContext) -> StubbornResult:
    """A subprocess that outlives everything but its process group, and a loop that never checks."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({params.seconds * 10})"])
    ctx.log(f"child {child.pid}")
    _work(params.seconds)
    child.kill()
    return StubbornResult(child_pid=child.pid)


def chatter(params: ChatterParams, ctx: JobContext) -> ChatterResult:
    for n in range(params.tokens):
        ctx.token(f"token-{n}", sent_ms=int(time.time() * 1000))
        _work(params.every_s)
        ctx.check()
    return ChatterResult(tokens=params.tokens)


def _start(params: WalkParams, ctx: JobContext) -> float:
    if params.source is None:
        return 0.0
    ref = params.source if params.source.artifact or params.source.scheme == "file" else Ref(f"{params.source}/end.txt")
    try:
        return float(ctx.input(ref).read_text())
    except ValueError:
        raise InvalidInput(f"{params.source} does not hold one number") from None


def _work(seconds: float) -> None:
    """Wait as a method waits for an endpoint: the pause is the load under test."""
    if seconds:
        time.sleep(seconds)


def _die_once(ctx: JobContext) -> None:
    """kill -9 of the own process, in the first attempt only."""
    if ctx._claim.attempt == 1:
        _kill_myself()


def _die_around_the_commit(ctx: JobContext, when: str) -> None:
    """Kill the process between its last write and the commit script, or right after it, in the first attempt."""
    claim, store = ctx._claim, ctx._heartbeat._store
    if claim.attempt > 1:
        return
    commit = store.commit

    def deadly(*args: Any) -> NoReturn:
        if when == "after_commit":
            commit(*args)
        _kill_myself()

    store.commit = deadly


def _kill_myself() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")
