"""Recipes of LayerSkip training by name: the paper's, TRL's and one for short runs."""

from collections.abc import Callable
from typing import Literal, NamedTuple

FROM_SCRATCH_LR = 3e-3  # of small models and short runs
FINE_TUNING_LR = 1e-4


class Preset(NamedTuple):
    """Every choice of a recipe. `trl` trains one rotating early exit beside the last layer, equally."""

    p_max: float = 0.1
    dropout_scale: Literal["exp", "linear", "uniform", "log", "sin", "sigmoid"] = "exp"
    dropout_curriculum: Literal["none", "exp"] = "none"
    e_scale: float = 1.0
    loss_weights: Literal["sum", "uniform", "linear", "sqrt", "inv"] = "sum"
    curriculum: Literal["rotational", "gradual", "none"] = "rotational"
    R: int = 8
    always_last: bool = True
    lr: float | None = None
    one_exit: bool = False
    """One early exit 1 … L − 1 a step, J = (CE_early + CE_last) / 2: the TRL example with s = 1."""


def _plain(from_scratch: bool) -> Preset:
    """Section 4.1 of the paper: e_scale 0.2 and dropout that grows with the steps from scratch, else 1 and constant."""
    if from_scratch:
        return Preset(e_scale=0.2, dropout_curriculum="exp")
    return Preset()


def _short(from_scratch: bool) -> Preset:
    """A few hundred steps: e_scale 1, because 0.2 with R = 8 hardly ever trains an early exit."""
    lr = FROM_SCRATCH_LR if from_scratch else FINE_TUNING_LR
    return Preset(dropout_curriculum="exp" if from_scratch else "none", lr=lr)


def _trl(from_scratch: bool) -> Preset:
    return Preset(p_max=0.0, one_exit=True, lr=FROM_SCRATCH_LR if from_scratch else FINE_TUNING_LR)


def _continual(p_max: float, e_scale: float, R: int, lr: float) -> Callable[[bool], Preset]:
    return lambda from_scratch: Preset(p_max=p_max, e_scale=e_scale, R=R, lr=lr)


def _scratch(p_max: float, R: int) -> Callable[[bool], Preset]:
    return lambda from_scratch: Preset(p_max=p_max, e_scale=0.2, R=R, dropout_curriculum="exp", lr=8e-4)


def _topv2(from_scratch: bool) -> Preset:
    return Preset(p_max=0.2, curriculum="gradual", lr=FINE_TUNING_LR)


PRESETS: dict[str, Callable[[bool], Preset]] = {
    "none": _plain,
    "short": _short,
    "trl": _trl,
    "llama2-7b": _continual(0.1, 0.2, 8, 3e-5),
    "llama2-13b": _continual(0.1, 0.1, 39, 2e-5),
    "llama3-8b": _continual(0.1, 0.1, 8, 3e-5),  # its learning rate isn't published: the 7B one's
    "llama3.2-1b": _continual(0.1, 0.1, 8, 3e-5),  # likewise
    "scratch-1.5b": _scratch(0.1, 23),
    "scratch-7b": _scratch(0.2, 31),
    "code-llama1-7b": _continual(0.1, 1.0, 16, FINE_TUNING_LR),
    "topv2-1.5b": _topv2,
}
