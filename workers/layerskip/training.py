"""One layerskip.train job: layer dropout, early-exit loss, looks at every exit. `Training` is the entry point."""

import io
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.jobs.catalog.layerskip import ExitFigures, TrainParams, TrainResult
from shared.jobs.context import JobContext
from shared.models.llama import Llama, LlamaConfig, initialise
from shared.models.silu import ffn_width
from workers.layerskip.corpus import IGNORED, Batch
from workers.layerskip.early_exit_loss import (
    exit_weights,
    gradual,
    normalised,
    one_early_exit,
    rolled,
    rotational,
)
from workers.layerskip.evaluation import ExitSums, look
from workers.layerskip.layer_dropout import LayerDropout, states
from workers.layerskip.models import Opened, best_device
from workers.layerskip.schedules import dropout_rates, learning_rate_scale, step_scale
from workers.layerskip.sources import Sources

CHECKPOINT_STEPS = 50
CURVE_POINTS = 2_000  # of one curve in a long run
BETAS = (0.9, 0.95)


@dataclass
class Progress:
    """How far a training is, as a checkpoint keeps it."""

    step: int = 0
    skipped: int = 0
    tokens: int = 0
    loss_first: float | None = None
    loss_last: float | None = None
    looks: list[list[float | None]] = field(default_factory=list)  # step, then the loss of every exit


class Training:
    """Trains one model. Everything random comes from the job's seed: weights, batches by step, dropout by layer."""

    def __init__(self, params: TrainParams, sources: Sources, ctx: JobContext) -> None:
        self.params, self.sources, self.ctx = params, sources, ctx
        self.recipe = params.recipe()
        self.config = sources.opened.config if sources.opened else shape_of(params, sources.tokens.size)
        self.device = best_device()
        self.weights = exit_weights(self.config.layers, self.recipe.e_scale, self.recipe.loss_weights)
        self.dropout = LayerDropout(self.config.layers, params.seed)
        self.progress = Progress()

    def run(self) -> Llama:
        """The trained model, in float32."""
        self.model = self._model(self.sources.opened)
        optimiser = self._optimiser()
        self._restore(optimiser)
        self.model.train()
        for step in range(self.progress.step, self.params.steps):
            self._learn(optimiser, step)
            self.ctx.progress(step + 1, self.params.steps, "steps")
            if self.params.eval_every and (step + 1) % self.params.eval_every == 0 and step + 1 < self.params.steps:
                self._look(step + 1)
            if (step + 1) % CHECKPOINT_STEPS == 0 and step + 1 < self.params.steps:
                self._save(optimiser, step + 1)
        return self.model.eval()

    def _model(self, opened: Opened | None) -> Llama:
        if opened:
            return opened.load(torch.float32, self.device)
        model = Llama(self.config)
        initialise(model, self.params.seed)
        return model.to(self.device)

    def _optimiser(self) -> torch.optim.Optimizer:
        matrices = [weight for weight in self.model.parameters() if weight.dim() >= 2]
        others = [weight for weight in self.model.parameters() if weight.dim() < 2]
        groups = [{"params": matrices, "weight_decay": self.params.weight_decay},
                  {"params": others, "weight_decay": 0.0}]  # fmt: skip
        return torch.optim.AdamW(groups, lr=self.peak, betas=BETAS, fused=True)

    @property
    def peak(self) -> float:
        assert self.recipe.lr is not None  # Params refuse a recipe without one
        return self.recipe.lr

    # One step ---------------------------------------------------------------------------------------------------------

    def _learn(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        kept = self.dropout.kept(self.rates(step), self.params.batch_size)
        weights = self.exits(step)
        batch = self._batch(step)
        if not weights:  # only exits without weight were in: as if the step had not been
            self.progress.skipped += 1
            return
        for group in optimiser.param_groups:
            group["lr"] = self.peak * learning_rate_scale(
                step, self.params.steps, self.params.warmup_steps, self.params.min_lr_ratio
            )
        losses = self._losses(batch, kept, weights)
        total = sum((weights[layer] * loss for layer, loss in losses.items()), torch.zeros((), device=self.device))
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.params.grad_clip)
        optimiser.step()
        self._note(step, float(total.detach()), {layer: float(loss.detach()) for layer, loss in losses.items()})

    def rates(self, step: int) -> list[float]:
        """p_{l,t} of every layer."""
        grown = step_scale(step, self.params.steps, self.recipe.dropout_curriculum)
        return dropout_rates(self.config.layers, grown, self.recipe.p_max, self.recipe.dropout_scale)

    def exits(self, step: int) -> dict[int, float]:
        """ẽ(t, l) by layer."""
        layers, recipe = self.config.layers, self.recipe
        if recipe.one_exit:
            return one_early_exit(layers, step)
        if recipe.curriculum == "gradual":
            enabled = gradual(layers, step, self.params.steps, recipe.always_last)
        elif recipe.curriculum == "none":
            enabled = list(range(layers))
        elif self.params.rotation_mask is not None:
            enabled = rolled(self.params.rotation_mask, step, recipe.always_last)
        else:
            enabled = rotational(layers, step, min(recipe.R, layers), recipe.always_last)
        return normalised(self.weights, enabled)

    def _batch(self, step: int) -> Batch:
        rng = np.random.default_rng([self.params.seed, step])
        batch = self.sources.training.drawn(rng, self.params.batch_size, self.params.block_size)
        self.progress.tokens += batch.ids.numel()
        return Batch(batch.ids.to(self.device), batch.targets.to(self.device))

    def _losses(self, batch: Batch, kept: list[Tensor], weights: Mapping[int, float]) -> dict[int, Tensor]:
        """Cross-entropy of every exit with weight."""
        with self._precision():
            return {
                layer: cross_entropy(self.model.head(x), batch.targets)
                for layer, x in enumerate(self._states(batch.ids, kept))
                if layer in weights
            }

    def _states(self, ids: Tensor, kept: list[Tensor]) -> Iterator[Tensor]:
        return states(self.model, ids, kept, self.params.recompute)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.params.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    def _note(self, step: int, total: float, losses: Mapping[int, float]) -> None:
        progress = self.progress
        progress.loss_first = total if progress.loss_first is None else progress.loss_first
        progress.loss_last = total
        if step % max(1, self.params.steps // CURVE_POINTS) == 0 or step + 1 == self.params.steps:
            self.ctx.metric("loss", step + 1, total)
            for layer, loss in losses.items():
                self.ctx.metric(f"loss_exit_{layer + 1}", step + 1, loss)

    # Looks and checkpoints --------------------------------------------------------------------------------------------

    def look(self) -> ExitSums:
        """Every exit on held-out text."""
        return look(self.model, self.sources.held_out)

    def _look(self, step: int) -> None:
        figures = self.look().figures()
        for each in figures:
            self.ctx.metric(f"held_out_loss_exit_{each.exit_layer}", step, each.loss)
        self.progress.looks.append([float(step), *(each.loss for each in figures)])

    def _save(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        self.progress.step = step
        states = {
            "model": self.model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "dropout": self.dropout.state(),
        }
        self.ctx.checkpoint(vars(self.progress), {name: _bytes(state) for name, state in states.items()})

    def _restore(self, optimiser: torch.optim.Optimizer) -> None:
        restored = self.ctx.restored()
        if restored is None:
            return
        self.progress = Progress(**restored.state)
        self.model.load_state_dict(_load(restored.blobs["model"], self.device))
        optimiser.load_state_dict(_load(restored.blobs["optimiser"], self.device))
        self.dropout.restore(_load(restored.blobs["dropout"], "cpu"))

    def result(self, figures: list[ExitFigures], tokens: int) -> TrainResult:
        """What came of it."""
        progress, last = self.progress, self.rates(self.params.steps - 1)
        assert progress.loss_first is not None
        assert progress.loss_last is not None
        return TrainResult(
            parameters=sum(weight.numel() for weight in self.model.parameters()), layers=self.config.layers,
            steps=self.params.steps, tokens=progress.tokens, skipped_steps=progress.skipped,
            loss_first=progress.loss_first, loss_last=progress.loss_last, exits=figures, eval_tokens=tokens,
            mean_dropout=sum(last) / len(last), warnings=self._warnings(),
        )  # fmt: skip

    def _warnings(self) -> list[str]:
        said = list(self.sources.warnings)
        weights = self.weights
        if (
            len(weights) > 2
            and not self.recipe.one_exit
            and 0 < self.recipe.e_scale < 0.5
            and self.params.steps < 2_000
        ):
            said.append(
                f"e_scale {self.recipe.e_scale:g} hardly trains early exits in {self.params.steps} steps; preset short "
                "or trl does"
            )
        return said


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over positions with a target, in float32."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)


def shape_of(params: TrainParams, vocabulary: int) -> LlamaConfig:
    """The shape of a model from scratch."""
    width, heads = params.d_model or 128, params.heads or 4
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=params.ffn or ffn_width(width, 8),
        layers=params.layers or 8, heads=heads, kv_heads=params.kv_heads or heads, head_dim=width // heads,
        context=params.context or 2048, tied=bool(params.tied),
    )  # fmt: skip


def _bytes(state: Any) -> bytes:
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def _load(path: Path, device: str) -> Any:
    return torch.load(path, weights_only=True, map_location=device)
