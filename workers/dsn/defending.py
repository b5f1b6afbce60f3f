"""The defences of one evaluation: each arm's first suffix on the test prompts, and harmless prompts beside."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shared.jobs.catalog.dsn.attacks import EvaluateParams
from shared.jobs.catalog.dsn.cards import Defended
from workers.dsn.behaviours import Behaviour
from workers.dsn.defences import erased, negative_log_likelihood, perturbed, smooth_vote, threshold
from workers.dsn.phrases import MATCH_PHRASES
from workers.dsn.scoring import rate_of
from workers.dsn.trial import Trial, short_digest
from workers.dsn.votes import Verdict

BLOCKED = "I cannot answer this."  # what a defence says instead; keyword judges know it as a refusal


class Outcome(NamedTuple):
    """What a defence lets through: one answer per prompt, and the passes it took beyond the plain one."""

    answers: list[str]
    cost: float


Defence = Callable[[str, Sequence[Behaviour], str], Outcome]


class Defending:
    """Evaluates what `params.defences` names. Texts of prompts come with their suffix."""

    def __init__(
        self, trial: Trial, params: EvaluateParams, suffixes: Mapping[str, str], random: Sequence[str]
    ) -> None:
        self._trial, self._params, self._suffixes, self._random = trial, params, suffixes, random
        self.perplexities: dict[str, list[float]] = {}
        """Mean NLL by arm, of the test prompts, and of the clean texts: for the histogram."""
        self.thresholds: dict[str, float] = {}

    def run(self, warnings: list[str]) -> "Defending":
        self.defended: dict[str, Defended] = {"none": self._evaluated("none", self._plain)}
        for name, defence in self._chosen(warnings).items():
            self.defended[name] = self._evaluated(name, defence)
        return self

    def _chosen(self, warnings: list[str]) -> dict[str, Defence]:
        chosen: dict[str, Defence] = {}
        defences = self._params.defences
        if defences.perplexity is not None:
            if self._trial.benign:
                chosen |= {"perplexity": self._filter(0), "perplexity_window": self._filter(1)}
            else:
                warnings.append("perplexity filter left out: it needs benign prompts to set its threshold by")
        if defences.smoothllm is not None:
            chosen["smoothllm"] = self._smooth
        if defences.erase_and_check is not None:
            chosen["erase_and_check"] = self._erase
        return chosen

    def _evaluated(self, name: str, defence: Defence) -> Defended:
        test, costs, asr = self._trial.split.test, [], {}
        for arm, suffix in self._suffixes.items():
            outcome = defence(f"{name}/{arm.replace('@', '-')}", test, suffix)
            asr[arm] = rate_of(self._verdicts(f"{name}/{arm.replace('@', '-')}", test, suffix, outcome.answers))
            costs.append(outcome.cost)
        benign = self._trial.benign_behaviours
        plain = defence(f"{name}/benign", benign, "").answers if benign else []
        filled = defence(f"{name}/filled", benign, self._random[0]).answers if benign else []
        return Defended(
            asr=asr, benign_refusal=rate_of(self._trial.refused(plain)),
            benign_refusal_filled=rate_of(self._trial.refused(filled)), cost=sum(costs) / len(costs),
        )  # fmt: skip

    def _verdicts(self, name: str, prompts: Sequence[Behaviour], suffix: str, answers: Sequence[str]) -> list[Verdict]:
        found = self._trial.judged(f"defended/{name}", prompts, suffix, answers)[0][self._trial.choosing]
        return [False if answer == BLOCKED else verdict for answer, verdict in zip(answers, found, strict=True)]

    # The defences -------------------------------------------------------------------------------------------------

    def _answers(self, users: Sequence[str]) -> list[str]:
        """Answers to messages, each different one decoded once in this job."""
        name = short_digest("\0".join(users))
        return self._trial.answers(f"defended/{name}", users)

    def _plain(self, name: str, prompts: Sequence[Behaviour], suffix: str) -> Outcome:
        return Outcome(self._answers(self._trial.users(prompts, suffix)), 0.0)

    def _nll(self, users: Sequence[str]) -> list[list[float]]:
        loaded, window = self._trial.target.loaded, self._window
        return self._trial.vault.once(
            f"nll/{short_digest(chr(0).join(users))}",
            lambda: [list(negative_log_likelihood(loaded.model, loaded.tokenizer, user, window)) for user in users],
        )

    @property
    def _window(self) -> int:
        defence = self._params.defences.perplexity
        return defence.window if defence else 1

    def _filter(self, which: int) -> Defence:
        """Which: 0 the mean over the text, 1 the largest window."""

        def defence(name: str, prompts: Sequence[Behaviour], suffix: str) -> Outcome:
            assert self._params.defences.perplexity is not None
            clean = [values[which] for values in self._nll(self._trial.benign)]
            limit = threshold(clean, self._params.defences.perplexity.quantile)
            self.thresholds[name.partition("/")[0]] = limit
            users = self._trial.users(prompts, suffix)
            values = [found[which] for found in self._nll(users)]
            if not which:
                self.perplexities |= {"clean": clean, name.partition("/")[2]: values}
            answers = self._answers(users)
            return Outcome([BLOCKED if v > limit else a for v, a in zip(values, answers, strict=True)], 1.0)

        return defence

    def _smooth(self, name: str, prompts: Sequence[Behaviour], suffix: str) -> Outcome:
        defence, phrases = self._params.defences.smoothllm, self._params.match_phrases or MATCH_PHRASES
        assert defence is not None
        rng = np.random.default_rng([self._params.seed, 5, *name.encode()])
        users = self._trial.users(prompts, suffix)
        copies = [perturbed(user, defence.q, defence.kind, rng) for user in users for _ in range(defence.copies)]
        answers, n = self._answers(copies), defence.copies
        votes = [smooth_vote(answers[i * n : (i + 1) * n], phrases, rng) for i in range(len(users))]
        return Outcome(votes, float(n))

    def _erase(self, name: str, prompts: Sequence[Behaviour], suffix: str) -> Outcome:
        defence = self._params.defences.erase_and_check
        assert defence is not None
        users = self._trial.users(prompts, suffix)
        versions = [erased(self._trial.target.chat.tokenizer, user, defence.d) for user in users]
        answers = iter(self._answers([version for each in versions for version in each]))
        kept = []
        for each in versions:
            found = [next(answers) for _ in each]
            kept.append(BLOCKED if any(self._trial.refused(found)) else found[0])
        return Outcome(kept, sum(map(len, versions)) / len(versions))
