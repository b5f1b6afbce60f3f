"""The defences of one evaluation: every run's suffix on the test prompts, and harmless prompts beside."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from shared.jobs.catalog.dsn.attacks import EvaluateParams
from shared.jobs.catalog.dsn.cards import Defended
from shared.llm.model_folder import model_folder
from workers.dsn.behaviours import Behaviour
from workers.dsn.classifier import load_classifier
from workers.dsn.defences import erased, negative_log_likelihood, perturbed, smooth_vote, threshold
from workers.dsn.phrases import MATCH_PHRASES
from workers.dsn.scoring import rate_of
from workers.dsn.trial import Trial, short_digest
from workers.dsn.votes import Verdict

PLAIN = "benign"
BLOCKED = "I cannot answer this."  # what a defence says instead


class Outcome(NamedTuple):
    """What a defence lets through: one answer per prompt, and the passes it took beyond the plain answer."""

    answers: list[str]
    cost: float


class Defence(NamedTuple):
    """A way to answer messages. The name of what is defended drives its draws."""

    answer: Callable[[str, Sequence[str]], Outcome]
    answers: int
    """Most that it decodes per message."""


class Defending:
    """Evaluates what `params.defences` names. Opened before anything runs, so that a wrong reference is told early."""

    def __init__(self, trial: Trial, params: EvaluateParams) -> None:
        self._trial, self._params = trial, params
        self._perplexity = params.defences.perplexity if trial.benign else None
        self._reference: tuple[Any, Any] | None = None
        if self._perplexity and (ref := self._perplexity.reference):
            folder = model_folder(ref, trial.ctx, trial.settings.data.resolve() / "cache" / "models").path
            self._reference = load_classifier(ref, folder)
        self._chosen = {"none": Defence(self._plain, 1)} | self._filters() | self._others()
        self.perplexities: dict[str, list[float]] = {}
        """Mean NLL of the test prompts by arm, and of the clean texts: for the histogram."""
        self.thresholds: dict[str, float] = {}
        self.defended: dict[str, Defended] = {}

    def work(self, suffixes: int) -> int:
        """Answers to all of it, repeats included."""
        prompts = suffixes * len(self._trial.split.test) + 2 * len(self._trial.benign)
        return prompts * sum(defence.answers for defence in self._chosen.values())

    def run(self, suffixes: Mapping[str, Sequence[str]], random: Sequence[str], warnings: list[str]) -> "Defending":
        """`suffixes` of every arm's runs; harmless prompts come plain, and with the first random suffix."""
        for name, defence in self._chosen.items():
            self.defended[name] = self._evaluated(name, defence, suffixes, random[0])
        if self._params.defences.perplexity and not self._perplexity:
            warnings.append("perplexity filter left out: it needs benign prompts to set its threshold by")
        return self

    def _filters(self) -> dict[str, Defence]:
        if self._perplexity is None:
            return {}
        return {"perplexity": Defence(self._filter("perplexity", 0), 1),
                "perplexity_window": Defence(self._filter("perplexity_window", 1), 1)}  # fmt: skip

    def _others(self) -> dict[str, Defence]:
        chosen, defences = {}, self._params.defences
        if defences.smoothllm is not None:
            chosen["smoothllm"] = Defence(self._smooth, defences.smoothllm.copies)
        if defences.erase_and_check is not None:
            chosen["erase_and_check"] = Defence(self._erase, defences.erase_and_check.d + 1)
        return chosen

    def _evaluated(self, name: str, defence: Defence, suffixes: Mapping[str, Sequence[str]], random: str) -> Defended:
        test, costs, asr = self._trial.split.test, [], {}
        for arm, found in suffixes.items():
            verdicts: list[Verdict] = []
            for run, suffix in enumerate(found):
                about = f"{name}/{arm.replace('@', '-')}" + (f"/{run}" if run else "")
                outcome = defence.answer(about, self._trial.users(test, suffix))
                verdicts += self._verdicts(test, suffix, outcome.answers)
                costs.append(outcome.cost)
            asr[arm] = rate_of(verdicts)
        benign = self._trial.benign_behaviours
        plain = defence.answer(f"{name}/{PLAIN}", self._trial.users(benign, "")).answers if benign else []
        filled = defence.answer(f"{name}/filled", self._trial.users(benign, random)).answers if benign else []
        return Defended(
            asr=asr, benign_refusal=rate_of(self._trial.refused(plain)),
            benign_refusal_filled=rate_of(self._trial.refused(filled)), cost=sum(costs) / len(costs),
        )  # fmt: skip

    def _verdicts(self, prompts: Sequence[Behaviour], suffix: str, answers: Sequence[str]) -> list[Verdict]:
        """By the choosing judge; what was blocked is a fail, and no judge is asked about it."""
        passed = [n for n, answer in enumerate(answers) if answer != BLOCKED]
        said = self._trial.judged([prompts[n] for n in passed], suffix, [answers[n] for n in passed])[0]
        found = dict(zip(passed, said[self._trial.choosing], strict=True))
        return [found.get(n, False) for n in range(len(answers))]

    # The defences -------------------------------------------------------------------------------------------------

    def _plain(self, about: str, users: Sequence[str]) -> Outcome:
        return Outcome(self._trial.answers(users), 0.0)

    def _filter(self, name: str, which: int) -> Callable[[str, Sequence[str]], Outcome]:
        """Which: 0 the mean over the text, 1 the largest window."""

        def answer(about: str, users: Sequence[str]) -> Outcome:
            clean = [values[which] for values in self._nll(self._trial.benign)]
            assert self._perplexity is not None
            limit = self.thresholds[name] = threshold(clean, self._perplexity.quantile)
            values = [found[which] for found in self._nll(users)]
            arm = about.split("/")[1]
            if not which and arm != PLAIN:  # the clean texts themselves
                self.perplexities["clean"] = clean
                self.perplexities.setdefault(arm, []).extend(values)
            answers = self._trial.answers(users)
            return Outcome([BLOCKED if v > limit else a for v, a in zip(values, answers, strict=True)], 1.0)

        return answer

    def _nll(self, users: Sequence[str]) -> list[list[float]]:
        loaded, perplexity = self._trial.target.loaded, self._perplexity
        assert perplexity is not None
        model, tokenizer = self._reference or (loaded.model, loaded.tokenizer)
        return self._trial.vault.once(
            f"nll/{short_digest(chr(0).join(users))}",
            lambda: [list(negative_log_likelihood(model, tokenizer, user, perplexity.window)) for user in users],
        )

    def _smooth(self, about: str, users: Sequence[str]) -> Outcome:
        defence, phrases = self._params.defences.smoothllm, self._params.match_phrases or MATCH_PHRASES
        assert defence is not None
        rng = np.random.default_rng([self._params.seed, 5, *about.encode()])
        copies = [perturbed(user, defence.q, defence.kind, rng) for user in users for _ in range(defence.copies)]
        answers, n = self._trial.answers(copies), defence.copies
        votes = [smooth_vote(answers[i * n : (i + 1) * n], phrases, rng) for i in range(len(users))]
        return Outcome(votes, n - 1.0)

    def _erase(self, about: str, users: Sequence[str]) -> Outcome:
        defence = self._params.defences.erase_and_check
        assert defence is not None
        versions = [erased(self._trial.target.chat.tokenizer, user, defence.d) for user in users]
        flat = [version for each in versions for version in each]
        answers = self._trial.answers(flat)
        by = defence.checker
        refused = self._trial.refused_by(by, flat, answers) if by else self._trial.refused(answers)
        said, checked, kept = iter(answers), iter(refused), []
        for each in versions:
            found, refusals = [next(said) for _ in each], [next(checked) for _ in each]
            kept.append(BLOCKED if any(refusals) else found[0])
        return Outcome(kept, len(flat) / len(versions) - 1)
