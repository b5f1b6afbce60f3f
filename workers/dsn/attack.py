"""One attack: a search from the initial suffix, looked at every few steps, its best suffix chosen by success.

The lowest loss is not the best suffix: kept is the one with the highest success on the train prompts at those looks,
by the choosing judge (never keywords, where there is another: a large α can reword the refusal); ties go to the lower
loss.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from shared.jobs.context import JobContext
from workers.dsn.search import Search, Step, Suffix
from workers.dsn.steps import HEADER, STEPS_CSV
from workers.dsn.vault import Vault

EVERY = 10  # steps between checkpoints


@dataclass(frozen=True)
class Arm:
    """One attack of the comparison."""

    name: str  # gcg, dsn, dsn@10
    alpha: float

    @property
    def key(self) -> str:
        return self.name.replace("@", "-")


class Look(NamedTuple):
    """What a test step shows of a suffix."""

    success: float | None  # on train prompts, by the choosing judge
    refused: float  # of them, by keywords
    test_success: float | None  # on test prompts, where asked for
    successes: int
    test_successes: int


class Schedule(NamedTuple):
    """How long, how often looked at, when to stop."""

    n_steps: int
    test_steps: int
    stop_on_success: bool


@dataclass
class Attack:
    """Runs one search of an arm, resumable."""

    arm: Arm
    run: int
    search: Search
    schedule: Schedule
    look: Callable[[Suffix], Look]
    vault: Vault
    ctx: JobContext
    stepped: Callable[[int], None]  # progress

    def found(self, initial: Suffix, seed: int) -> dict[str, Any]:
        """The chosen suffix, the one with the lowest loss, and what was seen on the way."""
        name = f"searching/{self.arm.key}/{self.run}"
        self._open_table()
        self.search.begin(initial, seed)
        looks: list[dict[str, Any]] = []
        if saved := self.vault.get(name):
            self.search.restore(saved["search"])
            looks = saved["looks"]
        self.stepped(self.search.step_number)
        seconds, first = 0.0, self.search.step_number
        while True:
            if self._is_due(looks):
                looks.append(self._looked(self.search.step_number))
                self._keep(name, looks)
            elif self.search.step_number < self.schedule.n_steps and not self._is_done(looks):
                started = time.monotonic()
                step = self.search.step()
                seconds += time.monotonic() - started
                self._tell(step)
                self.stepped(1)
                self._keep(name, looks)
                if self.search.step_number % EVERY == 0:
                    self.vault.save()
            else:
                break
        self._say_how_fast(seconds, self.search.step_number - first)
        self.vault.put(name, None)
        best = max(looks, key=lambda one: (one["success"] if one["success"] is not None else -1.0, -one["total"]))
        return {"chosen": best, "last": looks[-1], "looks": looks, "steps": self.search.step_number}

    def _say_how_fast(self, seconds: float, steps: int) -> None:
        """In the timings and the log: clocks have no place in results."""
        if steps and seconds:
            self.ctx.timing(f"steps.{self.arm.key}", seconds)
            rows = steps * self.search.width.batch
            self.ctx.log(
                f"{self.arm.name} {self.run}: {seconds / steps:.3f} s/step, {rows / seconds:,.0f} candidates/s, each "
                f"for {len(self.search.prompts)} prompts"
            )

    def _keep(self, name: str, looks: Sequence[dict[str, Any]]) -> None:
        """What the next save holds, whoever saves: always of the same step as the tables that grow."""
        self.vault.put(name, {"search": self.search.state(), "looks": list(looks)})

    def _is_due(self, looks: Sequence[dict[str, Any]]) -> bool:
        """Whether this step is one to look at, and hasn't been."""
        step = self.search.step_number
        is_one = step > 0 and (step % self.schedule.test_steps == 0 or step == self.schedule.n_steps)
        return is_one and not (looks and looks[-1]["step"] == step)

    def _is_done(self, looks: Sequence[dict[str, Any]]) -> bool:
        return self.schedule.stop_on_success and bool(looks) and looks[-1]["success"] == 1.0

    def _looked(self, number: int) -> dict[str, Any]:
        """The best suffix so far, by loss, with its answers judged."""
        suffix, losses = self.search.best, self.search.best_losses
        seen = self.look(suffix)
        for metric, value in (("train_success", seen.success), ("train_refused", seen.refused)):
            self.ctx.metric(f"{self.arm.key}.{self.run}.{metric}", number, value)
        return {"step": number, "suffix": suffix, "target_loss": losses[0], "refusal_loss": losses[1],
                "total": self.search.total(losses), **seen._asdict()}  # fmt: skip

    def _open_table(self) -> None:
        table = self.ctx.journal(STEPS_CSV)
        table.handle.flush()
        if not table.path.stat().st_size:
            table.append(HEADER.encode())

    def _tell(self, step: Step) -> None:
        losses = (step.target_loss, step.refusal_loss, step.total, step.best_total)
        cells = ",".join(f"{loss:.9g}" for loss in losses)
        self.ctx.journal(STEPS_CSV).append(f"{self.arm.name},{self.run},{step.number},{cells}\n".encode())
        self.ctx.metric(f"{self.arm.key}.{self.run}.target_loss", step.number, step.target_loss)
        self.ctx.metric(f"{self.arm.key}.{self.run}.refusal_loss", step.number, step.refusal_loss)
