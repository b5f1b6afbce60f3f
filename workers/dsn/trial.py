"""What evaluations share: one model, its prompts, its judges; answers and verdicts by name, each made once.

A *cell* is one set of prompts with one suffix (or none, or a defence before it): `test/gcg/0`, `benign/no_suffix`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import transformers

from shared.jobs.catalog.dsn.attacks import AttackParams
from shared.jobs.catalog.dsn.cards import Provenance
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.settings import Settings
from workers.dsn.behaviours import Behaviour, Split, benign_prompts, read_behaviours, split
from workers.dsn.decoding import Decoder
from workers.dsn.judges import Item
from workers.dsn.opening import Panel
from workers.dsn.phrases import MATCH_PHRASES, is_refusal
from workers.dsn.scoring import with_votes
from workers.dsn.target_model import TargetModel
from workers.dsn.vault import Vault, operators_key
from workers.dsn.votes import Verdict

UNIT = "steps and answers"
BATCH = 64  # answers decoded together, and between checkpoints
UNAVAILABLE = "unavailable"  # judges that couldn't be heard, and why
T = TypeVar("T")


class Cell(NamedTuple):
    """One evaluated set of prompts."""

    name: str
    arm: str
    run: int
    split: str
    suffix: str
    prompts: Sequence[Behaviour]
    answers: list[str]
    verdicts: dict[str, list[Verdict]]  # judges, then votes
    scores: dict[str, list[float | None]]


@dataclass
class Progress:
    """Steps and answers done, of how many."""

    ctx: JobContext
    total: int = 0
    done: int = 0

    def add(self, count: int) -> None:
        if not count:
            return
        self.done += count
        self.total = max(self.total, self.done)
        self.ctx.progress(self.done, self.total, UNIT)

    def finish(self) -> None:
        """Everything is done: a search may have stopped early, a text been too short to erase much of."""
        self.add(self.total - self.done)


class Trial:
    """Opens everything in the order in which it can be refused: files, list, tokenizer, lengths; weights last."""

    def __init__(self, params: AttackParams, ctx: JobContext, n_train: int = 0) -> None:
        self.params, self.ctx, self.settings = params, ctx, Settings()
        self.key = operators_key(self.settings)
        if params.reveal and self.key is None:
            raise InvalidInput("reveal: there is no key (TENFOLD_REDTEAM_KEY), and text is only ever kept encrypted")
        self.behaviours = read_behaviours(params, ctx)
        self.split: Split = split(self.behaviours.all, n_train, params.n_test, params.seed)
        self.benign = benign_prompts(params, ctx)
        dtype = None if params.dtype == "auto" else params.dtype
        self.target = TargetModel.open(params.model, ctx, self.settings, dtype)
        self.model_digest = ctx.input_digest(params.model)
        self._check_lengths()
        self.panel = Panel(params, ctx, self.settings)
        self.vault = Vault(ctx, self.key, self.model_digest)
        self.panel.unavailable |= self.vault.get(UNAVAILABLE) or {}
        self.progress = Progress(ctx)
        self.cells: list[Cell] = []

    # Prompts ------------------------------------------------------------------------------------------------------

    def _check_lengths(self) -> None:
        for one in (*self.split.train, *self.split.test):
            conversation = self.target.chat.conversation(one.goal, self.longest_suffix, one.target)
            self.target.check_length(conversation, self.params.eval_max_new_tokens, f"behaviour {one.id}")
        for number, text in enumerate(self.benign, start=1):
            prompt = len(self.target.chat.prompt(self.target.chat.message(text, self.longest_suffix)))
            self.target.check_room(prompt, self.params.eval_max_new_tokens, f"benign prompt {number}")

    @property
    def longest_suffix(self) -> str:
        """What prompts are measured with before any suffix is known."""
        return str(getattr(self.params, "suffix_init", "!"))

    def users(self, prompts: Sequence[Behaviour], suffix: str) -> list[str]:
        return [self.target.chat.message(one.goal, suffix) for one in prompts]

    @cached_property
    def benign_behaviours(self) -> list[Behaviour]:
        return [Behaviour(f"benign{n}", text, "") for n, text in enumerate(self.benign)]

    # Answers and verdicts -----------------------------------------------------------------------------------------

    @cached_property
    def decoder(self) -> Decoder:
        return Decoder(self.target.loaded, self.params.eval_max_new_tokens, self.ctx.check, BATCH)

    def answers(self, users: Sequence[str]) -> list[str]:
        """Greedy answers to these messages. Each different one is decoded once in a job, whoever asks for it."""
        names = [f"answer/{digest(user)}" for user in users]
        fresh = {name: user for name, user in zip(names, users, strict=True) if self.vault.get(name) is None}
        self.progress.add(len(users) - len(fresh))
        for batch in in_batches(list(fresh)):
            self._decode({name: fresh[name] for name in batch})
        return [self.vault.get(name) for name in names]

    def _decode(self, batch: Mapping[str, str]) -> None:
        """Answers by name of the message, saved when they are there."""
        prompts = [self.target.chat.prompt(user) for user in batch.values()]
        with self.ctx.timed("decode"):
            found = self.decoder.answers(prompts)
        for name, answer in zip(batch, found, strict=True):
            self.vault.put(name, answer)
        self.vault.save()
        self.progress.add(len(batch))

    @property
    def answered(self) -> int:
        """Different answers decoded, over all attempts."""
        return len(self.vault.starting("answer/"))

    def cell(self, name: str, about: tuple[str, int, str], suffix: str, prompts: Sequence[Behaviour]) -> Cell:
        """Answer and judge one set of prompts; `about` is (arm, run, split)."""
        answers = self.answers(self.users(prompts, suffix))
        verdicts, scores = self.judged(prompts, suffix, answers)
        cell = Cell(name, *about, suffix, prompts, answers, verdicts, scores)
        self.cells.append(cell)
        return cell

    def judged(
        self, prompts: Sequence[Behaviour], suffix: str, answers: Sequence[str]
    ) -> tuple[dict[str, list[Verdict]], dict[str, list[float | None]]]:
        """Everyone's verdicts and votes, and scores. A judge hears the same answer to the same goal once in a job."""
        shown = suffix if self.params.judge_sees_suffix else ""
        items = [_item(one.goal, answer, shown, "verdict") for one, answer in zip(prompts, answers, strict=True)]
        found = self._heard(items, list(self.panel.named))
        verdicts: dict[str, list[Verdict]] = {judge: [one[judge][0] for one in found] for judge in self.panel.named}
        scores: dict[str, list[float | None]] = {judge: [one[judge][1] for one in found] for judge in self.panel.named}
        return with_votes(verdicts, self.panel.voters), scores

    def refused_by(self, judge: str, requests: Sequence[str], answers: Sequence[str]) -> list[bool]:
        """Whether one judge says that these requests were refused; an abstention is no refusal."""
        pairs = zip(requests, answers, strict=True)
        found = self._heard([_item(request, answer, "", f"checked/{judge}") for request, answer in pairs], [judge])
        return [one[judge][0] is False for one in found]

    def _heard(self, items: Sequence[Item], judges: Sequence[str]) -> list[dict[str, tuple[Verdict, float | None]]]:
        """(verdict, score) of these judges, by item."""
        fresh = {item.key: item for item in items if self.vault.get(item.key) is None}
        for batch in in_batches(list(fresh.values())):
            self._hear(batch, judges)
        return [self.vault.get(item.key) for item in items]

    def _hear(self, items: Sequence[Item], judges: Sequence[str]) -> None:
        """Verdicts and scores by item, saved when they are there; with them, which judges couldn't be heard."""
        with self.ctx.timed("judge"):
            said = {judge: self.panel.hear(judge, items) for judge in judges}
        for number, item in enumerate(items):
            heard = {judge: (judged[number].verdict, judged[number].score) for judge, judged in said.items()}
            self.vault.put(item.key, heard)
        self.vault.put(UNAVAILABLE, dict(self.panel.unavailable))
        self.vault.save()

    @cached_property
    def choosing(self) -> str:
        """Whose verdict chooses suffixes: the truth where there is one, the majority of two voters, another judge, and
        keywords only where there is nothing else."""
        judges = self.panel.named.values()
        exact = [judge.name for judge in judges if judge.type == "exact"]
        reading = [judge.name for judge in judges if judge.type not in ("keyword", "exact")]
        if exact:
            return exact[0]
        if len(self.panel.voters) > 1:
            return "majority"
        return (reading or [judge.name for judge in judges])[0]

    def refused(self, answers: Sequence[str]) -> list[bool]:
        phrases = self.params.match_phrases or MATCH_PHRASES
        return [is_refusal(answer, phrases) for answer in answers]

    # Suffixes -----------------------------------------------------------------------------------------------------

    def random_suffixes(self, length: int, draws: int, allow: Callable[[], torch.Tensor]) -> list[str]:
        """Random suffixes of one length and of the alphabet of the attacks."""
        allowed = (~allow()).nonzero().squeeze(-1).numpy()
        rng = np.random.default_rng([self.params.seed, 4])
        return [self.target.chat.decode(rng.choice(allowed, size=length).tolist()) for _ in range(draws)]

    def provenance(self) -> Provenance:
        model: Any = self.target.model
        return Provenance(
            model=str(self.params.model), model_digest=self.model_digest,
            tokenizer_digest=self.target.tokenizer_digest, behaviours_digest=self.behaviours.digest,
            seed=self.params.seed, dtype=str(model.dtype).removeprefix("torch."), device=model.device.type,
            versions={"torch": torch.__version__, "transformers": transformers.__version__},
        )  # fmt: skip


def in_batches(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + BATCH] for start in range(0, len(values), BATCH))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def short_digest(text: str) -> str:
    """What a result may tell of a text."""
    return digest(text)[:16]


def _item(goal: str, answer: str, shown: str, about: str) -> Item:
    return Item(f"{about}/{digest(json.dumps([goal, shown, answer]))}", goal, answer, shown)
