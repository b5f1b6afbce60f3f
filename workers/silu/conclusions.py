"""From trained arms to tables, tests and verdicts. Every sentence is made from the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared.jobs.catalog.silu import (
    SEEDS_FOR_SIGNIFICANCE,
    Cell,
    CompareParams,
    Convergence,
    Interval,
    Paired,
    Robustness,
    Verdict,
)
from shared.metrics.paired import bootstrap_interval, effect_size, holm, t_interval, wilcoxon
from workers.silu.study import Arm, Trained

CONVERGED = 0.95  # of the best mean validation accuracy


@dataclass
class Tables:
    """Everything that is compared."""

    cells: list[Cell]
    convergence: list[Convergence]
    robustness: list[Robustness]


class Conclusions:
    """One study's arms, by data set and activation."""

    def __init__(
        self, params: CompareParams, names: Sequence[str], arms: Sequence[Arm], trained: Sequence[Trained]
    ) -> None:
        self.params, self.names = params, names
        self.baseline = "relu" if "relu" in params.activations else params.activations[0]
        self._by_arm = dict(zip(arms, trained, strict=True))
        self.chosen: dict[tuple[int, str], float] = {
            (number, activation): self._best_lr(number, activation)
            for number in range(len(names)) for activation in params.activations
        }  # fmt: skip

    def _best_lr(self, dataset: int, activation: str) -> float:
        """The greatest mean validation accuracy at the end, then the least loss."""

        def quality(lr: float) -> tuple[float, float]:
            arm = self._by_arm[Arm(dataset, activation, lr)]
            accuracy = float(np.mean([curve[-1] for curve in arm.val_accuracy]))
            return accuracy, -float(np.mean([curve[-1] for curve in arm.val_loss]))

        return max(self.params.lr_grid, key=quality)

    def best(self, dataset: int, activation: str) -> Trained:
        """The arm at the chosen learning rate."""
        return self._by_arm[Arm(dataset, activation, self.chosen[dataset, activation])]

    def tables(self) -> Tables:
        """All tables, each with Holm's correction over its own comparisons."""
        return Tables(self._cells(), self._convergence(), self._robustness())

    def _cells(self) -> list[Cell]:
        places = [(number, activation) for number in range(len(self.names)) for activation in self.params.activations]
        values = [self.best(*place).test_accuracy for place in places]
        bases = [self.best(number, self.baseline).test_accuracy for number, _ in places]
        pairs = self._paired(places, values, bases)
        return [
            Cell(
                dataset=self.names[number], activation=activation, lr=self.chosen[number, activation],
                accuracy=interval(own), loss=interval(self.best(number, activation).test_loss), against=against,
            )
            for (number, activation), own, against in zip(places, values, pairs, strict=True)
        ]  # fmt: skip

    def _convergence(self) -> list[Convergence]:
        places, values, bases, thresholds = [], [], [], []
        for number in range(len(self.names)):
            threshold = self.params.threshold or CONVERGED * self._best_mean(number)
            for activation in self.params.activations:
                places.append((number, activation))
                thresholds.append(threshold)
                values.append(self._epochs(number, activation, threshold))
                bases.append(self._epochs(number, self.baseline, threshold))
        return [
            Convergence(
                dataset=self.names[place[0]], activation=place[1], threshold=threshold, epochs=interval(own),
                not_reached=sum(epoch > self.params.epochs for epoch in own), against=against,
            )
            for place, threshold, own, against in zip(
                places, thresholds, values, self._paired(places, values, bases), strict=True
            )
        ]  # fmt: skip

    def _best_mean(self, dataset: int) -> float:
        curves = [self.best(dataset, activation).val_accuracy for activation in self.params.activations]
        return max(float(np.mean(curve, axis=0).max()) for curve in curves)

    def _epochs(self, dataset: int, activation: str, threshold: float) -> list[float]:
        return [
            next((float(epoch) for epoch, value in enumerate(curve, start=1) if value >= threshold),
                 float(self.params.epochs + 1))
            for curve in self.best(dataset, activation).val_accuracy
        ]  # fmt: skip

    def _robustness(self) -> list[Robustness]:
        places, values, bases, sigmas = [], [], [], []
        for number in range(len(self.names)):
            for sigma in self.params.noise_sigmas:
                for activation in self.params.activations:
                    places.append((number, activation))
                    sigmas.append(sigma)
                    values.append(self.best(number, activation).noisy[f"{sigma:g}"])
                    bases.append(self.best(number, self.baseline).noisy[f"{sigma:g}"])
        return [
            Robustness(dataset=self.names[place[0]], activation=place[1], sigma=sigma, accuracy=interval(own),
                       against=against)
            for place, sigma, own, against in zip(
                places, sigmas, values, self._paired(places, values, bases), strict=True
            )
        ]  # fmt: skip

    def _paired(
        self, places: Sequence[tuple[int, str]], values: Sequence[Sequence[float]], bases: Sequence[Sequence[float]]
    ) -> list[Paired | None]:
        """Each row against the baseline's; None for the baseline."""
        compared = [number for number, (_, activation) in enumerate(places) if activation != self.baseline]
        differences = {number: np.subtract(values[number], bases[number]) for number in compared}
        enough = self.params.seeds >= SEEDS_FOR_SIGNIFICANCE
        p = [wilcoxon(differences[number]) for number in compared] if enough else []
        corrected = dict(zip(compared, zip(p, holm(p), strict=True), strict=True)) if enough else {}
        return [
            self._pair(differences[number], corrected.get(number)) if number in differences else None
            for number in range(len(places))
        ]

    def _pair(self, differences: np.ndarray, tested: tuple[float, float] | None) -> Paired:
        low, high = t_interval(differences)
        drawn: tuple[float | None, float | None] = (None, None)
        if tested is None:
            drawn = bootstrap_interval(differences, np.random.default_rng([self.params.seed, 4]))
        p, p_holm = tested if tested else (None, None)
        return Paired(
            difference=float(differences.mean()), low=low, high=high, bootstrap_low=drawn[0], bootstrap_high=drawn[1],
            effect=effect_size(differences), p=p, p_holm=p_holm,
            significant=p_holm < self.params.alpha if p_holm is not None else None,
        )  # fmt: skip


def interval(values: Sequence[float]) -> Interval:
    """Mean with its t-interval."""
    low, high = t_interval(values)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Interval(mean=float(np.mean(values)), sd=sd, low=low, high=high)


# Verdicts -------------------------------------------------------------------------------------------------------------


def verdicts(params: CompareParams, baseline: str, tables: Tables) -> list[Verdict]:
    """One per activation and claim."""
    found = []
    for activation in params.activations:
        if activation == baseline:
            continue
        accuracy = [(cell.dataset, cell.against) for cell in tables.cells if cell.activation == activation]
        speed = [(row.dataset, row.against) for row in tables.convergence if row.activation == activation]
        noise = [
            (f"{row.dataset} at σ = {row.sigma:g}", row.against) for row in tables.robustness
            if row.activation == activation
        ]  # fmt: skip
        found += [
            verdict(f"{activation} is more accurate than {baseline}", accuracy, 1, "accuracy"),
            verdict(f"{activation} converges faster than {baseline}", speed, -1, "epochs"),
            verdict(f"{activation} is more robust to noise than {baseline}", noise, 1, "accuracy"),
        ]
    return found


def verdict(claim: str, rows: Sequence[tuple[str, Paired | None]], better: int, unit: str) -> Verdict:
    """supported: better somewhere and worse nowhere, beyond chance; mixed: both; else not supported."""
    given = [(name, pair) for name, pair in rows if pair is not None]
    judged = [(name, pair, _direction(pair, better)) for name, pair in given]
    ups, downs = (sum(direction == sign for *_, direction in judged) for sign in (1, -1))
    answer: Literal["supported", "not supported", "mixed"] = "not supported"
    if ups and downs:
        answer = "mixed"
    elif ups:
        answer = "supported"
    parts = [f"{name}: {_said(pair, unit)}" for name, pair in given]
    return Verdict(claim=claim, verdict=answer, sentence=f"{claim}: {answer}. " + "; ".join(parts) + ".")


def _direction(pair: Paired, better: int) -> int:
    """1 better, −1 worse, 0 not beyond chance (or too few seeds to say)."""
    if not pair.significant:
        return 0
    return better if pair.difference > 0 else -better


def _said(pair: Paired, unit: str) -> str:
    span = f"{pair.difference:+.4f} {unit} [{pair.low:+.4f}, {pair.high:+.4f}]"
    if pair.significant is None:
        return f"{span}, too few seeds for a test"
    return f"{span}, {'significant' if pair.significant else 'no significant difference'}, Holm p {pair.p_holm:.3g}"
