"""DREEAM's three stages and their rates: learning, self-training on distant data, fine-tuning after it.

A teacher learns from annotated evidence; a student learns from distant labels with the teacher's attention in place of
evidence; then the student is fine-tuned on the annotated documents. Each stage is a job; rates are the official ones.
"""

from typing import NamedTuple

from shared.jobs.catalog.docre.models import TrainParams

LARGE = 1024  # hidden width from which an encoder counts as large


class Rates(NamedTuple):
    """How a stage trains."""

    encoder: float
    new_layers: float
    epochs: int
    clip: float
    accumulation: int


BASE = Rates(5e-5, 1e-4, 30, 1.0, 1)
LEARNING = {False: BASE, True: BASE._replace(encoder=3e-5)}
SELF_TRAINING = {False: Rates(3e-5, 1e-4, 2, 5.0, 2), True: Rates(1e-5, 5e-5, 5, 5.0, 2)}
FINE_TUNING = Rates(1e-6, 3e-6, 10, 2.0, 1)


def rates_of(params: TrainParams, width: int) -> Rates:
    """What Params leave out is the stage's own; `width` is the encoder's."""
    is_large = width >= LARGE
    stage = LEARNING[is_large]
    if params.teacher is not None:
        stage = SELF_TRAINING[is_large]
    elif params.start is not None:
        stage = FINE_TUNING
    given = (params.encoder_learning_rate, params.learning_rate, params.epochs, params.clip, params.accumulation)
    return Rates(*(own if value is None else value for value, own in zip(given, stage, strict=True)))  # type: ignore[arg-type]
