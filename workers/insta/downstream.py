"""Selection → tuning → score: what a selection is worth to a small model. `Downstream` is the entry point.

For each seed and target every arm trains a model from scratch for the same number of steps, adapts it to a few examples
of the target and scores it on others. Targets are held out of the library for all arms, so that `all` is trained once
per seed.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import nn

from shared.data.instruction_tasks import Instance, InstructionTask, read_tasks
from shared.jobs.catalog.insta import ArmScore, Contrast, DownstreamParams, DownstreamResult
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from workers.insta.devices import training_device
from workers.insta.index import Index
from workers.insta.retrieval import Ranker, Retriever, Rules, retriever_of, stored_vectors
from workers.insta.seq2seq import Examples, Score, Size, Vocabulary, collate, draw, loss_of, score, small_t5
from workers.insta.targets import target_of_task

CHECKPOINT_STEPS = 100
SCORES = "scores.jsonl"


class Run(NamedTuple):
    """One training from scratch and the targets it serves."""

    method: str
    seed: int
    targets: tuple[str, ...]
    tasks: tuple[str, ...]  # what it trains on


class Downstream:
    """One insta.downstream job."""

    def __init__(self, params: DownstreamParams, index: Index, ctx: JobContext) -> None:
        self.params, self.index, self.ctx = params, index, ctx
        self.tasks = read_instances(ctx.input(params.tasks), str(params.tasks), index)
        self.targets = self._targets()
        self.pool = [task_id for task_id in self.tasks if task_id not in self.targets]
        if params.k > len(self.pool):
            raise InvalidInput(
                f"k {params.k} is above the {len(self.pool)} tasks that are no targets; give at most that"
            )
        self.vocabulary = Vocabulary(self.tasks.values())
        self.runs = self._runs()

    def run(self) -> DownstreamResult:
        """Every run in turn; scores go to a journal."""
        restored = self.ctx.restored()
        state = restored.state if restored else {"run": 0, "step": 0}
        blobs: Mapping[str, Path] = restored.blobs if restored else {}
        for number in range(int(state["run"]), len(self.runs)):
            first = int(state["step"]) if number == int(state["run"]) else 0
            model = self._train(number, first, blobs if first else {})
            for target in self.runs[number].targets:
                self._record(self.runs[number], target, self._adapted(model, self.runs[number], target))
            self.ctx.checkpoint({"run": number + 1, "step": 0})
        return self._result()

    # What runs there are ----------------------------------------------------------------------------------------------

    def _targets(self) -> list[str]:
        """The named ones, or one of each category, drawn. Raises InvalidInput."""
        needed = self.params.adapt_examples + self.params.eval_examples
        if self.params.targets is None:
            rng = np.random.default_rng([self.params.seed, 5])
            by_category: dict[str | None, list[str]] = {}
            for task in self.tasks.values():
                by_category.setdefault(task.category, []).append(task.id)
            targets = [str(rng.choice(ids)) for ids in by_category.values()]
        else:
            targets = list(dict.fromkeys(self.params.targets))
        for target in targets:
            if target not in self.tasks:
                raise InvalidInput(f"targets names {target!r}, which is no task of {self.params.tasks} with instances")
            if len(self.tasks[target].instances) < needed:
                raise InvalidInput(
                    f"{target} has {len(self.tasks[target].instances)} instances, adapt_examples and eval_examples "
                    f"need {needed}; ask for fewer"
                )
        return targets

    def _runs(self) -> list[Run]:
        runs = []
        for seed in range(self.params.seed, self.params.seed + self.params.seeds):
            for method in self.params.methods:
                if method == "all":
                    runs.append(Run(method, seed, tuple(self.targets), tuple(self.pool)))
                else:
                    runs += [
                        Run(method, seed, (target,), self._selected(method, target, seed)) for target in self.targets
                    ]
        return runs

    def _selected(self, method: Ranker, target: str, seed: int) -> tuple[str, ...]:
        number, retriever = self.index.number_of(target, "targets"), retriever_of(self.index)
        allowed = np.sort([self.index.number_of(task_id, "tasks") for task_id in self.pool])
        asked = target_of_task(self.index, number)
        ranked = _rank(retriever, asked, stored_vectors(self.index, number), Rules(method, seed=seed), allowed)
        return tuple(self.index.task_id(int(task)) for task in ranked[: self.params.k])

    # One run ----------------------------------------------------------------------------------------------------------

    def _train(self, number: int, first: int, blobs: Mapping[str, Path]) -> nn.Module:
        run, params = self.runs[number], self.params
        model = self._model(run.seed)
        optimiser = torch.optim.AdamW(model.parameters(), lr=params.learning_rate)
        if blobs:
            model.load_state_dict(torch.load(blobs["model"], "cpu", weights_only=True))
            optimiser.load_state_dict(torch.load(blobs["optimiser"], "cpu", weights_only=True))
        tasks = [self.tasks[task_id] for task_id in run.tasks]
        for step in range(first, params.steps):
            drawn = draw(tasks, params.batch, np.random.default_rng([run.seed, number, step]))
            _step(model, optimiser, self._batch(drawn))
            self.ctx.progress(number * params.steps + step + 1, len(self.runs) * params.steps, "runs × steps")
            if (step + 1) % CHECKPOINT_STEPS == 0 and step + 1 < params.steps:
                states = {"model": _bytes(model.state_dict()), "optimiser": _bytes(optimiser.state_dict())}
                self.ctx.checkpoint({"run": number, "step": step + 1}, states)
        return model

    def _adapted(self, trained: nn.Module, run: Run, target: str) -> Score:
        """The score on other examples after a few steps on the target's own."""
        params, task = self.params, self.tasks[target]
        model = self._model(run.seed)
        model.load_state_dict(trained.state_dict())
        optimiser = torch.optim.AdamW(model.parameters(), lr=params.learning_rate)
        few = InstructionTask(task.id, task.templates, task.where, instances=task.instances[: params.adapt_examples])
        for step in range(params.adapt_steps):
            drawn = draw([few], params.batch, np.random.default_rng([run.seed, self.targets.index(target), step, 6]))
            _step(model, optimiser, self._batch(drawn))
            self.ctx.check()
        others = task.instances[params.adapt_examples :][: params.eval_examples]
        return score(model, self._batch([(task.templates[0].text, each) for each in others]))

    def _model(self, seed: int) -> nn.Module:
        size = Size(self.params.width, self.params.layers)
        return small_t5(len(self.vocabulary), size, seed).to(training_device())

    def _batch(self, examples: Sequence[tuple[str, Instance]]) -> Examples:
        return Examples(*(tensor.to(training_device()) for tensor in collate(self.vocabulary, examples)))

    def _record(self, run: Run, target: str, measured: Score) -> None:
        category = self.tasks[target].category
        alike = float(np.mean([self.tasks[task].category == category for task in run.tasks]))
        self.ctx.journal(SCORES).append_json({
            "method": run.method, "seed": run.seed, "target": target, "accuracy": measured.accuracy,
            "loss": measured.loss, "same_category": alike, "tasks": list(run.tasks) if run.method != "all" else "all",
        })  # fmt: skip

    # What came of it --------------------------------------------------------------------------------------------------

    def scores(self) -> list[dict[str, Any]]:
        """The journal's lines."""
        journal = self.ctx.journal(SCORES)
        journal.handle.flush()
        return [json.loads(line) for line in journal.path.read_text(encoding="utf-8").splitlines()]

    def _result(self) -> DownstreamResult:
        lines, params = self.scores(), self.params
        model = small_t5(len(self.vocabulary), Size(params.width, params.layers), 0)
        arms = [
            ArmScore(method=method, **{
                name: float(np.mean([line[name] for line in lines if line["method"] == method]))
                for name in ("accuracy", "loss", "same_category")
            }) for method in params.methods
        ]  # fmt: skip
        return DownstreamResult(
            arms=arms, contrasts=[contrast(lines, params.methods[0], other) for other in params.methods[1:]],
            targets=self.targets, seeds=params.seeds, parameters=sum(weight.numel() for weight in model.parameters()),
            runs=len(self.runs),
        )  # fmt: skip


def contrast(lines: Sequence[Mapping[str, Any]], first: str, other: str) -> Contrast:
    """The first arm minus another: differences are means over seeds, the interval is over targets."""
    accuracy, loss = (_paired(lines, first, other, name) for name in ("accuracy", "loss"))
    low, high = t_interval(accuracy)
    loss_low, loss_high = t_interval(loss)
    return Contrast(
        against=other, difference=float(np.mean(accuracy)), low=low, high=high,
        excludes_zero=low is not None and high is not None and (low > 0 or high < 0),
        loss_difference=float(np.mean(loss)), loss_low=loss_low, loss_high=loss_high,
    )  # fmt: skip


def t_interval(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % interval of the mean; undefined for fewer than two."""
    if len(differences) < 2:
        return None, None
    mean = float(np.mean(differences))
    half = (
        float(stats.t.ppf(0.975, len(differences) - 1)) * float(np.std(differences, ddof=1)) / len(differences) ** 0.5
    )
    return mean - half, mean + half


def _paired(lines: Sequence[Mapping[str, Any]], first: str, other: str, name: str) -> list[float]:
    """One difference per target, averaged over seeds."""
    values: dict[str, dict[str, list[float]]] = {}
    for line in lines:
        values.setdefault(line["target"], {}).setdefault(line["method"], []).append(line[name])
    return [float(np.mean(each[first]) - np.mean(each[other])) for each in values.values()]


def read_instances(path: Path, name: str, index: Index) -> dict[str, InstructionTask]:
    """Tasks with instances by id. Raises InvalidInput: no instances, tasks the index doesn't hold."""
    tasks = {task.id: task for task in read_tasks(path, name) if task.instances}
    if not tasks:
        raise InvalidInput(f"no task of {name} has instances; give each task instances [{{input, output}}]")
    for task_id in tasks:
        index.number_of(task_id, f"tasks {name}:")
    return tasks


def _rank(retriever: Retriever, target: Any, vectors: Any, rules: Rules, allowed: Any) -> Any:
    return retriever.rank(target, vectors, rules, allowed).ranking.tasks


def _step(model: nn.Module, optimiser: torch.optim.Optimizer, batch: Examples) -> None:
    loss = loss_of(model, batch)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _bytes(state: Any) -> bytes:
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()
