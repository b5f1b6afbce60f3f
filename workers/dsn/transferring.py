"""`dsn.transfer`: the suffixes of an earlier evaluation on another model of the list."""

import json
from typing import Any

from shared.jobs.catalog.dsn.attacks import TransferParams
from shared.jobs.catalog.dsn.cards import Suffix, TransferResult
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.sealed import SealError
from workers.dsn.card import SUFFIXES, shared_figures, write_common
from workers.dsn.trial import Trial


def run_transfer(params: TransferParams, ctx: JobContext) -> TransferResult:
    """No suffix as the control, then each stored one, on the test prompts."""
    trial = Trial(params, ctx)
    stored = _unsealed(params, ctx, trial)
    tried = [Suffix.model_validate(one["about"]) for one in stored["suffixes"]]
    trial.progress.total = (len(tried) + 1) * (len(trial.split.test) + len(trial.benign))
    for name, arm, run, text in [("no_suffix", "no_suffix", 0, ""), *_named(stored)]:
        trial.cell(f"test/{name}", (arm, run, "test"), text, trial.split.test)
        if trial.benign:
            answers = trial.answers(trial.users(trial.benign_behaviours, text))
            trial.vault.put(f"refused/benign/{name}", trial.refused(answers))
    result = TransferResult(
        **shared_figures(trial, [(one.arm, one.run) for one in tried], []),
        from_model=stored["model_digest"],
        tried=tried,
    )
    write_common(trial, result.model_dump(mode="json"))
    return result


def _named(stored: dict[str, Any]) -> list[tuple[str, str, int, str]]:
    """(name, arm, run, text) of every suffix."""
    return [
        (f"{about['arm'].replace('@', '-')}/{about['run']}", about["arm"], about["run"], one["text"])
        for one in stored["suffixes"] for about in [one["about"]]
    ]  # fmt: skip


def _unsealed(params: TransferParams, ctx: JobContext, trial: Trial) -> dict[str, Any]:
    if trial.key is None:
        raise InvalidInput("suffixes: there is no key (TENFOLD_REDTEAM_KEY), and they are encrypted")
    try:
        found: dict[str, Any] = json.loads(trial.key.unseal(ctx.input(params.suffixes).read_bytes(), SUFFIXES))
    except SealError as error:
        raise InvalidInput(f"{params.suffixes} can't be opened: {error}") from None
    return found
