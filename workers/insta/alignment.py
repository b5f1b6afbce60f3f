"""One insta.align job: validate a training that sees a part of the library, then deliver. `Alignment` is the entry."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.jobs.catalog.insta import AlignParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.metrics.retrieval import pearson
from workers.insta.aligned import Aligned, Head
from workers.insta.aligned_whole import full_of
from workers.insta.encoders import encoder_of
from workers.insta.index import Index
from workers.insta.pairs import NegativeRule, Pairs, dev_pairs, training_pairs
from workers.insta.recipes import CategoryRecipe, CategorySettings, PairRecipe, Recipe, labels_of
from workers.insta.validation import Ints, Relations, Validation, split_tasks

CHECKPOINT_STEPS = 50
MOSTLY = 0.9  # share of tasks with a category from which on the category recipe is the default
LEARNING_RATES = {"head": 3e-4, "full": 2e-5}
CATEGORY_DRAWS = {"head": 128, "full": 16}
PAIR_BATCH = 16


@dataclass
class Progress:
    """How far a training is, as a checkpoint keeps it."""

    phase: str = "validate"
    step: int = 0
    losses: list[float] = field(default_factory=list)
    seen: dict[int, float] = field(default_factory=dict)  # nDCG@10 by step
    unseen: dict[int, float] = field(default_factory=dict)
    best_epoch: int | None = None
    best_ndcg: float = -1.0

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Progress":
        by_step = {name: {int(step): value for step, value in state[name].items()} for name in ("seen", "unseen")}
        return cls(**{**state, **by_step})


class Alignment:
    """Trains twice at most: on a part of the library to validate, and on all of it to deliver."""

    def __init__(self, params: AlignParams, index: Index, ctx: JobContext) -> None:
        self.params, self.index, self.ctx = params, index, ctx
        self.recipe_name = params.recipe or default_recipe(index)
        self.relations = Relations.of(index, self.recipe_name, params.unseen_categories is not None)
        self.split = split_tasks(index, self.relations, self.recipe_name, params)
        self.validation = Validation(index, self.relations, self.split, params)
        self.before = np.asarray(index.vectors, np.float32)
        self.refit = params.train == "head" and params.refit is not False
        self.progress = Progress()

    def run(self) -> Aligned:
        """The trained model to deliver; validation is in `compared`, losses in `progress`."""
        restored = self.ctx.restored()
        blobs: Mapping[str, Path] = restored.blobs if restored else {}
        self.progress = Progress.of(restored.state) if restored else Progress()
        recipe = self.recipe(self.split.training)
        refit = self.recipe(np.arange(self.index.size)) if self.refit else None
        self.total = recipe.steps + (refit.steps if refit else 0)
        model = self.model()
        if self.progress.phase == "validate":
            self._train(model, recipe, blobs, 0)
            self._keep_best(model, blobs)
            self.progress.phase, self.progress.step = "deliver", 0
            blobs = self._save({"validated": _state_bytes(model.module)})
        else:
            _load(model.module, blobs["validated"])
        self.validated = model.vectors()
        self.validated_recipe = recipe
        return model if refit is None else self._refitted(model, refit, blobs, recipe.steps)

    def _refitted(self, validated: Aligned, recipe: Recipe, blobs: Mapping[str, Path], done: int) -> Aligned:
        """A model that learns from all tasks, for as long as validation found best."""
        if isinstance(recipe, PairRecipe):
            recipe = replace(recipe, last_epoch=self.progress.best_epoch)
        self.total = done + recipe.steps
        model, kept = self.model(), _state_bytes(validated.module)
        self._train(model, recipe, blobs, done, {"validated": kept})
        return model

    @property
    def chosen_epoch(self) -> int | None:
        """The epoch delivered: the best one, the last where no held-out task says which that is."""
        return self.progress.best_epoch or (self.params.epochs if self.recipe_name == "pairs" else None)

    # What is trained, on what -----------------------------------------------------------------------------------------

    def model(self) -> Aligned:
        if self.params.train == "head":
            return Head(self.before, self.params.penalty)
        torch.manual_seed(self.params.seed)
        return full_of(encoder_of(self.index, self.ctx), self.index.texts)

    def recipe(self, tasks: Ints) -> Recipe:
        """The batches that some tasks give. Raises InvalidInput when there is nothing to learn from."""
        return self._category_recipe(tasks) if self.recipe_name == "category" else self._pair_recipe(tasks)

    def _category_recipe(self, tasks: Ints) -> Recipe:
        draws = self.params.batch or CATEGORY_DRAWS[self.params.train]
        settings = CategorySettings(self.params.steps, draws, self.params.tau, self.params.seed)
        recipe = CategoryRecipe.of(
            [self._rows(task) for task in tasks], self.relations.groups[tasks].tolist(), settings
        )
        if len(recipe.tasks) < 2:
            raise InvalidInput(
                f"recipe category needs two seen categories with two tasks or more, {self.index.name} leaves "
                f"{len(recipe.tasks)}; name fewer unseen_categories or use recipe pairs"
            )
        return recipe

    def _pair_recipe(self, tasks: Ints) -> Recipe:
        rows, groups = self._rows_and_datasets(tasks)
        rng = np.random.default_rng([self.params.seed, 3])
        rule = NegativeRule(self.params.neg_threshold, self.params.neg_max_use)
        pairs = training_pairs(groups, self.before[rows], rng, self.params.pos_fraction, rule)
        if not pairs.labels.any():
            raise InvalidInput(
                f"recipe pairs finds no two instructions of one data set in {self.index.name}; use recipe category"
            )
        pairs = Pairs(rows[pairs.u], rows[pairs.v], pairs.labels, pairs.forced)
        params = self.params
        return PairRecipe(pairs, params.epochs, params.batch or PAIR_BATCH, params.seed, params.warm_up)

    def _rows(self, task: int) -> Ints:
        return np.arange(self.index.offsets[task], self.index.offsets[task + 1])

    def _rows_and_datasets(self, tasks: Ints) -> tuple[Ints, list[int]]:
        """Rows of tasks, and each row's data set; a task without one is its own."""
        rows = np.concatenate([self._rows(task) for task in tasks])
        return rows, self.relations.own_datasets[self.index.task_of_row(rows)].tolist()

    # Training ---------------------------------------------------------------------------------------------------------

    def _train(
        self, model: Aligned, recipe: Recipe, blobs: Mapping[str, Path], done: int, kept: dict[str, bytes] | None = None
    ) -> None:
        """Steps from the checkpoint on; an optimiser's state is restored with its weights."""
        optimiser = self._optimiser(model)
        if "model" in blobs and self.progress.step:
            _load(model.module, blobs["model"])
            optimiser.load_state_dict(torch.load(blobs["optimiser"], "cpu", weights_only=True))
        self._best = {"best": blobs["best"].read_bytes()} if "best" in blobs else {}
        for step in range(self.progress.step, recipe.steps):
            loss = self._step(model, recipe, optimiser, step)
            self.ctx.progress(done + step + 1, max(1, self.total), "steps")
            if self.progress.phase == "validate":
                self.progress.losses.append(loss)
                self.ctx.metric("loss", step + 1, loss)
                self._look(model, recipe, step + 1)
            if (step + 1) % CHECKPOINT_STEPS == 0 and step + 1 < recipe.steps:
                self.progress.step = step + 1
                states = {"model": _state_bytes(model.module), "optimiser": _bytes(optimiser.state_dict())}
                self._save({**states, **self._best, **(kept or {})})

    def _step(self, model: Aligned, recipe: Recipe, optimiser: torch.optim.Optimizer, step: int) -> float:
        torch.manual_seed(self.params.seed * 1_000_003 + step)  # dropout
        for group in optimiser.param_groups:
            group["lr"] = self._rate * recipe.scale(step)
        batch = recipe.batch(step)
        u, v = model.embed(batch.u), model.embed(batch.v)
        loss = recipe.loss(u, v, labels_of(batch).to(u.device)) + model.penalty()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return float(loss.detach())

    @property
    def _rate(self) -> float:
        return self.params.learning_rate or LEARNING_RATES[self.params.train]

    def _optimiser(self, model: Aligned) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if self.params.train == "head" else torch.optim.AdamW
        return kind(model.module.parameters(), lr=self._rate)

    def _look(self, model: Aligned, recipe: Recipe, step: int) -> None:
        """nDCG@10 on the way: every 50 steps, or every epoch; the best epoch is kept."""
        every = recipe.per_epoch if isinstance(recipe, PairRecipe) else CHECKPOINT_STEPS
        if step % every and step != recipe.steps:
            return
        vectors = model.vectors()
        heldout = self.validation.mean(vectors, self.validation.heldout)
        for name, value, curve in (
            ("ndcg_heldout", heldout, self.progress.seen),
            ("ndcg_unseen", self.validation.mean(vectors, self.validation.unseen), self.progress.unseen),
        ):
            if value is not None:
                curve[step] = value
                self.ctx.metric(name, step, value)
        if isinstance(recipe, PairRecipe) and heldout is not None and heldout > self.progress.best_ndcg:
            self.progress.best_ndcg, self.progress.best_epoch = heldout, step // every
            self._best = {"best": _state_bytes(model.module)}

    def _keep_best(self, model: Aligned, blobs: Mapping[str, Path]) -> None:
        """The pairs recipe delivers the epoch with the best retrieval, not the last one."""
        if self._best:
            model.module.load_state_dict(torch.load(io.BytesIO(self._best["best"]), "cpu", weights_only=True))

    def _save(self, blobs: dict[str, bytes]) -> dict[str, Path]:
        self.ctx.checkpoint(vars(self.progress), blobs)
        return {}

    # What came of it --------------------------------------------------------------------------------------------------

    def dev_pearson(self) -> float | None:
        """Pearson(cos, label) over pairs of held-out tasks, aligned; reported, never used to choose."""
        if self.recipe_name != "pairs" or not len(self.split.heldout):
            return None
        rows, groups = self._rows_and_datasets(self.split.heldout)
        pairs = dev_pairs(groups, np.random.default_rng([self.params.seed, 4]))
        vectors = self.validated[rows].astype(np.float64)
        return pearson((vectors[pairs.u] * vectors[pairs.v]).sum(axis=1), pairs.labels)


def default_recipe(index: Index) -> str:
    """category where nine tasks in ten have one."""
    return "category" if (np.asarray(index.codes("category")) >= 0).mean() >= MOSTLY else "pairs"


def _state_bytes(module: torch.nn.Module) -> bytes:
    return _bytes(module.state_dict())


def _bytes(state: Any) -> bytes:
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def _load(module: torch.nn.Module, path: Path) -> None:
    module.load_state_dict(torch.load(path, "cpu", weights_only=True))
