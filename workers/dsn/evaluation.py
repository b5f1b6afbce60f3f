"""`dsn.evaluate`: attacks, controls, judges, votes, defences, in one job. `Evaluation(params, ctx).run()`."""

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import torch

from shared.jobs.catalog.dsn.attacks import MAX_SUFFIX, EvaluateParams
from shared.jobs.catalog.dsn.cards import EvaluateResult
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from workers.dsn.attack import Arm, Attack, Look, Schedule
from workers.dsn.behaviours import Behaviour, rewritten
from workers.dsn.conversation import Conversation
from workers.dsn.defending import Defending
from workers.dsn.phrases import LOSS_PHRASES, mine
from workers.dsn.prompts import Objective, Prompt
from workers.dsn.reachability import Reachability
from workers.dsn.search import Search, Suffix, Width
from workers.dsn.trial import Trial

LEAST_SAID = 0.05  # refusal loss × pairs / keywords without an attack: below it the model never says these phrases


class Evaluation:
    """One evaluation, from its params to its card."""

    def __init__(self, params: EvaluateParams, ctx: JobContext) -> None:
        self.params, self.ctx = params, ctx
        self.trial = Trial(params, ctx, params.n_train)
        self.chat = self.trial.target.chat
        targets = [one.target for one in self.trial.split.train]
        self.targets = rewritten(targets, params.seed) if params.target_rewrite == "seeded" else targets
        self.conversations = [self._conversation(one, target) for one, target in
                              zip(self.trial.split.train, self.targets, strict=True)]  # fmt: skip
        self._check_suffix()
        self.defending = Defending(self.trial, params)
        self.arms = self._arms()
        self.trial.progress.total = self._work()
        self.found: dict[tuple[str, int], dict[str, Any]] = {}
        self.said: float | None = None
        self.warnings: list[str] = []

    def run(self) -> EvaluateResult:
        from workers.dsn.card import evaluate_result, write_artifacts

        self._controls()
        for run in range(self.params.n_suffixes):
            for arm in self.arms:
                self._attack(arm, run)
        self._random_control()
        defending = self.defending
        result = evaluate_result(self, defending.run(self.suffixes, self.random, self.warnings))
        write_artifacts(self, result, defending)
        return result

    # Before anything runs -----------------------------------------------------------------------------------------

    def _conversation(self, one: Behaviour, target: str) -> Conversation:
        return self.chat.conversation(one.goal, self.params.suffix_init, target)

    def _check_suffix(self) -> None:
        starts = {conversation.suffix for conversation in self.conversations}
        if len(starts) > 1:
            raise InvalidInput(
                f"suffix_init encodes differently behind different goals with the tokenizer of {self.params.model}; "
                "choose another one"
            )
        length = len(self.conversations[0].suffix)
        if length > MAX_SUFFIX:
            raise InvalidInput(f"suffix_init is {length} tokens long; at most {MAX_SUFFIX} are allowed")

    def _arms(self) -> list[Arm]:
        alphas = self.params.alphas
        names = ["dsn"] if len(alphas) == 1 else [f"dsn@{alpha:g}" for alpha in alphas]
        arms = [Arm("gcg", 0.0)] if self.params.objective != "dsn" else []
        return arms + (
            [Arm(*pair) for pair in zip(names, alphas, strict=True)] if self.params.objective != "gcg" else []
        )

    def _work(self) -> int:
        """Steps and answers of the whole job; the longest it can take, as searches may stop early."""
        p, benign = self.params, len(self.trial.benign)
        looks = -(-p.n_steps // p.test_steps) * (p.n_train + p.test_curve * p.n_test)
        attacks = len(self.arms) * p.n_suffixes * (p.n_steps + looks + p.n_train + p.n_test + benign)
        controls = (1 + p.random_draws) * (p.n_train + p.n_test) + benign
        return attacks + controls + self.defending.work(len(self.arms) * p.n_suffixes)

    # Attacks ------------------------------------------------------------------------------------------------------

    @cached_property
    def keywords(self) -> list[list[int]]:
        phrases = self.params.refusal_phrases or LOSS_PHRASES
        encoded = [self.chat.tokenizer(phrase, add_special_tokens=False)["input_ids"] for phrase in phrases]
        return [ids for ids in encoded if ids]

    @cached_property
    def forbidden(self) -> torch.Tensor:
        return self.trial.target.forbidden(allow_non_ascii=self.params.allow_non_ascii)

    def objective(self, arm: Arm) -> Objective:
        decay = self.params.cosine_decay
        is_gcg = arm.name == "gcg"
        return Objective(
            arm.alpha, not is_gcg if decay is None else decay, self.params.grad_refusal and not is_gcg,
            self.params.grad_alpha,
        )  # fmt: skip

    def search(self, arm: Arm) -> Search:
        objective, model = self.objective(arm), self.trial.target.model
        prompts = self._prompts(objective.cosine_decay)
        reachability = Reachability(self.chat, self.conversations) if self.params.filter_candidates else None
        width = Width(self.params.batch_size, self.params.topk)
        return Search(model, prompts, objective, width, self.forbidden, reachability)

    @cache  # noqa: B019 - one evaluation, two entries, gone with it
    def _prompts(self, cosine_decay: bool) -> list[Prompt]:
        model = self.trial.target.model
        return [Prompt(model, one, self.keywords, cosine_decay=cosine_decay) for one in self.conversations]

    def _attack(self, arm: Arm, run: int) -> None:
        def compute() -> dict[str, Any]:
            p = self.params
            schedule = Schedule(p.n_steps, p.test_steps, p.stop_on_success)
            attack = Attack(arm, run, self.search(arm), schedule, self._look, self.trial.vault, self.ctx,
                            self.trial.progress.add)  # fmt: skip
            return attack.found(self.conversations[0].suffix, p.seed + run)

        with self.ctx.timed(f"search.{arm.key}"):
            found = self.trial.vault.once(f"attack/{arm.key}/{run}", compute)
        self.found[arm.name, run] = found
        suffix = self.chat.decode(found["chosen"]["suffix"])
        sets = (("train", self.trial.split.train), ("test", self.trial.split.test))
        for split, prompts in (*sets, ("benign", self.trial.benign_behaviours)):
            self._evaluate(f"{split}/{arm.key}/{run}", (arm.name, run, split), suffix, prompts)

    def _look(self, suffix: Suffix) -> Look:
        """Answers of the train prompts (and test prompts, where asked for) with a suffix in the making."""
        text = self.chat.decode(suffix)
        train = self._success(self.trial.split.train, text)
        test = self._success(self.trial.split.test, text) if self.params.test_curve else None
        refused = self.trial.refused(train[1])
        return Look(train[0], sum(refused) / len(refused), test[0] if test else None, train[2], test[2] if test else 0)

    def _success(self, prompts: Sequence[Behaviour], suffix: str) -> tuple[float | None, list[str], int]:
        answers = self.trial.answers(self.trial.users(prompts, suffix))
        said = self.trial.judged(prompts, suffix, answers)[0]
        judged = [verdict for verdict in said[self.trial.choosing] if verdict is not None]
        return sum(judged) / len(judged) if judged else None, answers, sum(judged)

    # Controls -----------------------------------------------------------------------------------------------------

    def _controls(self) -> None:
        """No suffix: what the model does by itself, and whether it ever says the phrases of the loss."""
        for split, prompts in (("train", self.trial.split.train), ("test", self.trial.split.test),
                               ("benign", self.trial.benign_behaviours)):  # fmt: skip
            self._evaluate(f"{split}/no_suffix", ("no_suffix", 0, split), "", prompts)
        if self.params.objective != "gcg":
            self._warn_of_unsaid_phrases()
        self._warn_of_short_targets()

    def _random_control(self) -> None:
        for number, suffix in enumerate(self.random):
            for split, prompts in (("train", self.trial.split.train), ("test", self.trial.split.test)):
                self._evaluate(f"{split}/random/{number}", ("random_suffix", number, split), suffix, prompts)

    @cached_property
    def random(self) -> list[str]:
        length = len(self.conversations[0].suffix)
        return self.trial.random_suffixes(length, self.params.random_draws, lambda: self.forbidden.cpu())

    @property
    def suffixes(self) -> dict[str, list[str]]:
        """Every run's suffix, by arm."""
        return {
            arm.name: [self.chat.decode(self.found[arm.name, run]["chosen"]["suffix"])
                       for run in range(self.params.n_suffixes)]
            for arm in self.arms
        }  # fmt: skip

    def _evaluate(self, name: str, about: tuple[str, int, str], suffix: str, prompts: Sequence[Behaviour]) -> None:
        if not prompts:
            return
        if about[2] == "benign":  # goals of no judge's: keywords tell whether they are refused
            answers = self.trial.answers(self.trial.users(prompts, suffix))
            self.trial.vault.put(f"refused/{name}", self.trial.refused(answers))
        else:
            self.trial.cell(name, about, suffix, prompts)

    def _warn_of_unsaid_phrases(self) -> None:
        """The refusal loss of the model as it is, without a suffix that matters, by what it could be."""

        def compute() -> float:
            search = self.search(Arm("dsn", 1.0))
            refusal = search.losses(self.conversations[0].suffix)[1]
            pairs = sum(prompt.refusal.pairs for prompt in search.prompts) / len(search.prompts)
            return refusal * pairs / max(1, len(self.keywords))

        self.said = self.trial.vault.once("phrases_said", compute)
        if self.said < LEAST_SAID:
            refused = [a for cell in self.trial.cells if cell.arm == "no_suffix" for a in cell.answers]
            starts = ", ".join(f"{text!r}" for text, _ in mine(refused, self.chat.tokenizer, 5))
            self.warnings.append(
                f"the model hardly ever says refusal_phrases ({self.said:.4f} < {LEAST_SAID}), so their loss says "
                f"little; its answers begin with {starts}"
            )

    def _warn_of_short_targets(self) -> None:
        """A refusal that starts right after the target is invisible to both losses (keywords of one token aside)."""
        short = sum(target.rstrip().endswith((":", ".", "\n")) for target in self.targets)
        if short:
            self.warnings.append(
                f"{short} of {len(self.targets)} targets end before the answer begins, where the losses can't see a "
                "late refusal: let targets reach one or two tokens into it"
            )
