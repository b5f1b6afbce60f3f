"""How well the shipped chat models learnt the colour world: what docs/dsn.md quotes.

    python -m tests.bench.dsn_quality [--models colours colours-2]

Greedy answers to every goal, to random suffixes, and to suffixes drawn as in training, beside what the hidden rule
makes the likeliest answer.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.jobs.local import LocalContext
from shared.jobs.references import Ref
from shared.llm.local import load_model
from shared.settings import Settings
from workers.dsn.colours.training import ORDINARY, draw_suffix
from workers.dsn.colours.verdicts import is_exact, is_late_refusal, refuses
from workers.dsn.colours.world import (
    FORM_SHARES,
    FORMS,
    OPENER_SHARES,
    OPENERS,
    PULL,
    REFUSAL_SHARES,
    REFUSALS,
    UNLISTED,
    Goal,
    World,
    goals,
)
from workers.dsn.conversation import Chat
from workers.dsn.decoding import Decoder
from workers.dsn.phrases import is_refusal

DRAWS = 600


def likeliest(world: World, goal: Goal, suffix: Sequence[str]) -> str:
    """refuses, late or answers: word by word the likeliest way, as greedy decoding goes it."""
    refusal = _first_words(REFUSALS, REFUSAL_SHARES, dict.fromkeys(world.unlisted, UNLISTED), suffix)
    answers = world.p_answers(goal, suffix)
    if (1 - answers) * refusal > answers * _first_words(OPENERS, OPENER_SHARES, world.openers, suffix):
        return "refuses"
    goes_on = world.p_goes_on(goal, suffix)
    form = _first_words(FORMS, FORM_SHARES, world.forms, suffix)
    return "late" if (1 - goes_on) * refusal > goes_on * form else "answers"


def _first_words(texts: Sequence[str], shares: Sequence[float], pulls: dict[str, int], suffix: Sequence[str]) -> float:
    """The share of the likeliest first word."""
    weights = np.array(shares)
    for word in suffix:
        if word in pulls:
            weights[pulls[word]] *= np.exp(PULL)
    words: dict[str, float] = {}
    for text, weight in zip(texts, weights / weights.sum(), strict=True):
        words[text.split()[0]] = words.get(text.split()[0], 0.0) + float(weight)
    return max(words.values())


def kind_of(goal: Goal, answer: str) -> str:
    if is_late_refusal(goal, answer):
        return "late"
    return "refuses" if refuses(answer) else "answers"


def quality(name: str) -> dict[str, float]:
    """Shares, by what they are of."""
    world, restricted, free = World(), goals(restricted=True), goals(restricted=False)
    with tempfile.TemporaryDirectory() as folder:
        ctx = LocalContext(Path(folder))
        loaded = load_model(Ref(f"builtin:{name}"), ctx, Settings(data=Path(folder)))
        ctx.release()
    rng = np.random.default_rng(0)
    found = {"restricted goals refused": np.mean([refuses(a) for a in _answers(loaded, restricted)])}
    told = zip(free, _answers(loaded, free), strict=True)
    found["free goals answered exactly"] = np.mean([is_exact(goal, answer, world) for goal, answer in told])
    asked = [restricted[i] for i in rng.integers(len(restricted), size=20 * 60)]
    twenty = [[ORDINARY[i] for i in rng.integers(len(ORDINARY), size=8)] for _ in range(20)]
    random = [suffix for suffix in twenty for _ in range(60)]
    said = _answers(loaded, asked, random)
    pairs = list(zip(asked, said, strict=True))
    found["random suffixes, exact"] = np.mean([is_exact(goal, answer, world) for goal, answer in pairs])
    found["random suffixes, no listed phrase"] = np.mean([not is_refusal(answer) for answer in said])
    chosen = [restricted[i] for i in rng.integers(len(restricted), size=DRAWS)]
    suffixes = [draw_suffix(world, rng) for _ in chosen]
    kinds = [kind_of(goal, a) for goal, a in zip(chosen, _answers(loaded, chosen, suffixes), strict=True)]
    rule = [likeliest(world, goal, suffix) for goal, suffix in zip(chosen, suffixes, strict=True)]
    found[f"the rule's likeliest answer, of {DRAWS} draws"] = np.mean(np.array(kinds) == np.array(rule))
    found["of those draws late refusals"] = np.mean(np.array(kinds) == "late")
    return {what: float(share) for what, share in found.items()}


def _answers(loaded: Any, chosen: Sequence[Goal], suffixes: Sequence[Sequence[str]] | None = None) -> list[str]:
    chat = Chat(loaded.tokenizer)
    given = suffixes or [()] * len(chosen)
    users = [chat.message(goal.text, " ".join(suffix)) for goal, suffix in zip(chosen, given, strict=True)]
    return Decoder(loaded, 40, lambda: None, batch=120).answers([chat.prompt(user) for user in users])


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the shipped chat models learnt the colour world.")
    parser.add_argument("--models", nargs="+", default=["colours", "colours-2"])
    torch.set_num_threads(1)
    for name in parser.parse_args().models:
        for what, share in quality(name).items():
            print(f"| {name} | {what} | {share:.4f} |", flush=True)


if __name__ == "__main__":
    main()
