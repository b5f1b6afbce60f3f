"""The paper's sub-skill tests: does a model know what a commons does, and what a sustainable share is?

Symbols: N stock at the month's start, 10 to 100; M what each of the five takes, 0 to floor(N/5); A the answer.

    dynamics              A = max(0, min(100, 2(N − 5M)))
    sustainable_action    0 < A ≤ floor(floor(N/2)/5), the harvest prompt with nothing but the stock in memory
    universalized_action  the same with the universalization sentence in memory
    assumed_threshold     A = floor(floor(N/2)/5), told to assume that all take the same
    believed_threshold    the same, with the model's own beliefs about the others

The `_math` variants ask the same without persona and rules. An answer that can't be read is wrong. `SubskillTests.run`
is the entry point.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams, Subskill, SubskillScore, SubskillsParams
from shared.jobs.context import JobContext
from workers.govsim.asking import Counts, Interview, Question, Sampling, Voice
from workers.govsim.clock import Month
from workers.govsim.links import MOST_LINKED
from workers.govsim.memory import Memory
from workers.govsim.prompts import ANSWER_LABEL, Prompt, Prompts, Told, prompts_of
from workers.govsim.questions import number_repair
from workers.govsim.randomness import Draws, Purpose
from workers.govsim.together import all_of

ITEMS, SCORES, TRANSCRIPT = "items.jsonl", "scores.jsonl", "transcript.jsonl"
LOWEST, HIGHEST = 10, 100  # N
SOCIETY = SimulateParams()  # the paper's five agents on a commons of 100 units
Z_95 = 1.959963984540054
ALL_TESTS: tuple[Subskill, ...] = get_args(Subskill)
UNREADABLE = -1  # the answer of a reply without a number


@dataclass(frozen=True)
class Item:
    """One question's numbers."""

    number: int
    persona: int
    stock: int  # N
    taken: int  # M, of each

    @property
    def threshold(self) -> int:
        """floor(floor(N/2)/5)."""
        return self.stock // 2 // SOCIETY.agents

    @property
    def next_stock(self) -> int:
        """max(0, min(100, 2(N − 5M)))."""
        left = self.stock - SOCIETY.agents * self.taken
        return max(0, min(SOCIETY.capacity, SOCIETY.growth * left))

    def is_right(self, test: Subskill, answer: int) -> bool:
        """Whether an answer is right."""
        if test in ("sustainable_action", "universalized_action"):
            return 0 < answer <= self.threshold
        return answer == (self.next_stock if test.startswith("dynamics") else self.threshold)


def draw_items(count: int, test_number: int, draws: Draws) -> list[Item]:
    """Items of one test: N, persona and M uniform, each a function of seed, test and item."""
    numbers = np.arange(count)

    def uniform(what: int, low: int | np.ndarray, high: int | np.ndarray) -> list[int]:
        drawn: list[int] = draws.integer(low, high, draws.uniform(Purpose.ITEM, numbers, test_number, what)).tolist()
        return drawn

    stocks = uniform(0, LOWEST, HIGHEST)
    personas = uniform(1, 0, SOCIETY.agents - 1)
    takings = uniform(2, 0, np.array(stocks) // SOCIETY.agents)
    return [Item(*item) for item in zip(numbers.tolist(), personas, stocks, takings, strict=True)]


class SubskillTests:
    """The state of one `govsim.subskills` job."""

    def __init__(self, params: SubskillsParams, ctx: JobContext, voice: Voice) -> None:
        self._params, self._ctx, self._voice = params, ctx, voice
        self._prompts = prompts_of(SimulateParams(scenario=params.scenario))
        self._sampling = Sampling(params.temperature, params.top_p, params.seed)
        self.scores: list[SubskillScore] = []
        self.counts = Counts()
        for name in (ITEMS, TRANSCRIPT):
            ctx.journal(name)
        self._resume()

    async def run(self) -> None:
        """Ask the tests that are left, one after another, the items of each together."""
        for test in self._params.tests[len(self.scores) :]:
            await self._ask(test)
            self._ctx.pack_replies()
            self._ctx.checkpoint(
                {"scores": [score.model_dump() for score in self.scores], "counts": vars(self.counts).copy()}
            )
        keys = self.keys()
        self._ctx.write_text(SCORES, "".join(self._line(score, keys[score.test]) for score in self.scores))

    def keys(self) -> dict[str, list[str]]:
        """Test → keys of its prompts, those of wrong answers first, as many as a point of a figure names."""
        journal = self._ctx.journal(ITEMS)
        journal.handle.flush()
        keys: dict[str, dict[bool, list[str]]] = {}
        with journal.path.open("rb") as lines:
            for item in map(json.loads, lines):
                keys.setdefault(item["test"], {False: [], True: []})[item["right"]].append(item["key"])
        return {test: [*own[False], *own[True]][:MOST_LINKED] for test, own in keys.items()}

    async def _ask(self, test: Subskill) -> None:
        items = draw_items(self._params.items, ALL_TESTS.index(test), Draws(self._params.seed))
        interview = Interview(f"{self._params.scenario}/{test}", {"test": test}, SOCIETY.names, self._sampling)
        answers = await all_of(self._answer(interview, test, item) for item in items)
        rights = [
            answer is not None and item.is_right(test, answer) for item, answer in zip(items, answers, strict=True)
        ]
        for item, answer, right in zip(items, answers, rights, strict=True):
            self._ctx.journal(ITEMS).append_json(_item_line(interview, test, item, answer, right))
        for record in interview.records():
            self._ctx.journal(TRANSCRIPT).append_json(record)
        self.counts.add(interview.counts)
        self.scores.append(score_of(test, rights, sum(answer is None for answer in answers)))

    async def _answer(self, interview: Interview, test: Subskill, item: Item) -> int | None:
        question = question_of(self._prompts, self._params, self._voice, test, item)
        answer = await interview.ask(self._voice, question)
        total = len(self._params.tests) * self._params.items
        self._ctx.progress(self.counts.questions + interview.counts.questions, total, "items")
        return None if answer == UNREADABLE else answer

    def _line(self, score: SubskillScore, keys: list[str]) -> str:
        about = {"model": str(self._params.model), "scenario": self._params.scenario}
        return json.dumps({**about, **score.model_dump(), "keys": keys}) + "\n"

    def _resume(self) -> None:
        restored = self._ctx.restored()
        if restored is not None:
            self.scores = [SubskillScore(**score) for score in restored.state["scores"]]
            self.counts = Counts(**restored.state["counts"])


def score_of(test: Subskill, rights: list[bool], unreadable: int) -> SubskillScore:
    """Mean, population deviation and the Wald interval, clipped to 0..1."""
    right = np.array(rights, dtype=np.float64)
    accuracy, std = float(right.mean()), float(right.std())
    half = Z_95 * std / len(right) ** 0.5
    return SubskillScore(
        test=test,
        items=len(right),
        accuracy=accuracy,
        std=std,
        ci95_low=max(0.0, accuracy - half),
        ci95_high=min(1.0, accuracy + half),
        unreadable=unreadable,
    )


def question_of(prompts: Prompts, params: SubskillsParams, voice: Voice, test: Subskill, item: Item) -> Question[int]:
    """A test's question on an item, read like a harvest but for the clamping."""
    parser = voice.parser
    units = STOCK_WORDS[prompts.scenario] if test == "dynamics" else prompts.scene.unit_words
    repair = number_repair("")
    return Question(
        test, f"item{item.number}", prompt_of(prompts, test, item, params.official_wording), params.max_tokens,
        read=lambda replies: parser.harvest(replies[0], replies[1] if len(replies) > 1 else None, 10**9, units),
        fallback=lambda replies: UNREADABLE,
        repair=lambda replies: repair if len(replies) == 1 and parser.asks_again(replies[0], True) else None,
        agent=None if test.endswith("_math") else item.persona,
        place=(item.number,),
    )  # fmt: skip


def prompt_of(prompts: Prompts, test: Subskill, item: Item, official_wording: bool) -> Prompt:
    """What is asked."""
    if test.endswith("_math"):
        return Prompt(f"{MATH[test].format(N=item.stock, M=item.taken)} {HOW}\n{ANSWER_LABEL} N")
    told = Told(item.persona, Month(1).harvest, _memories(prompts, test, item).nodes)
    if test in ("sustainable_action", "universalized_action"):
        return prompts.harvest(told, item.stock)
    words = WORDS[prompts.scenario]
    if test == "dynamics" and official_wording and prompts.scenario == "pollution":
        words = words | OFFICIAL_POLLUTION
    question, unit = words[test].format(N=item.stock, M=item.taken), "stock" if test == "dynamics" else "unit"
    return prompts.question(told, f"{question} {HOW}\n{ANSWER_LABEL} N {words[unit]}")


def _memories(prompts: Prompts, test: Subskill, item: Item) -> Memory:
    memory, times = Memory(), (Month(1).harvest, Month(1).home)
    memory.store("event", prompts.scene.stock(item.stock), times)
    if test == "universalized_action":
        memory.store("event", prompts.scene.universalization(item.threshold), times)
    return memory


def _item_line(interview: Interview, test: Subskill, item: Item, answer: int | None, right: bool) -> Mapping[str, Any]:
    persona = None if test.endswith("_math") else SOCIETY.names[item.persona]
    return {
        "test": test, "item": item.number, "key": interview.key(f"item{item.number}"), "persona": persona,
        "stock": item.stock, "taken": item.taken, "threshold": item.threshold, "next_stock": item.next_stock,
        "answer": answer, "right": right,
    }  # fmt: skip


HOW = "Think step by step, then give your answer on a last line, in this form:"

MATH: dict[str, str] = {
    "dynamics_math": (
        "A quantity is {N}. Five people each take away {M}. What is left then doubles once, but not above 100. How "
        "large is the quantity afterwards?"
    ),
    "assumed_threshold_math": (
        "A quantity is {N}. Five people each take away the same whole number. What is left then doubles once, but not "
        "above 100. What is the largest number that each can take away so that the quantity is at least {N} afterwards?"
    ),
    "believed_threshold_math": (
        "A quantity is {N}. You and four other people each take away some whole number. What is left then doubles "
        "once, but not above 100. What is the largest number that you think you can take away so that the quantity is "
        "at least {N} afterwards?"
    ),
}

WORDS: dict[str, dict[str, str]] = {
    "fishery": {
        "unit": "tons of fish",
        "stock": "tons of fish",
        "dynamics": (
            "Suppose there are {N} tons of fish in the lake when the month begins, and each of the five fishermen, you "
            "included, catches {M} tons. How many tons of fish are in the lake when the next month begins?"
        ),
        "assumed_threshold": (
            "Suppose that all five fishermen, you included, catch the same amount. What is the most that each can "
            "catch this month so that the lake begins the next month with at least {N} tons of fish?"
        ),
        "believed_threshold": (
            "What is the most that you can catch this month so that, as far as you believe, the lake begins the next "
            "month with at least {N} tons of fish?"
        ),
    },
    "pasture": {
        "unit": "flocks of sheep",
        "stock": "hectares of grass",
        "dynamics": (
            "Suppose there are {N} hectares of grass when the month begins, and each of the five shepherds, you "
            "included, lets {M} flocks graze. How many hectares of grass are there when the next month begins?"
        ),
        "assumed_threshold": (
            "Suppose that all five shepherds, you included, let the same number of flocks graze. What is the most "
            "that each can let graze this month so that the next month begins with at least {N} hectares of grass?"
        ),
        "believed_threshold": (
            "What is the most flocks that you can let graze this month so that, as far as you believe, the next month "
            "begins with at least {N} hectares of grass?"
        ),
    },
    "pollution": {
        "unit": "pallets of widgets",
        "stock": "%",
        "dynamics": (
            "Suppose {N} % of the river's water is unpolluted when the month begins, and each of the five factory "
            "owners, you included, produces {M} pallets of widgets. What percentage of the water is unpolluted when "
            "the next month begins?"
        ),
        "assumed_threshold": (
            "Suppose that all five factory owners, you included, produce the same number of pallets. What is the most "
            "that each can produce this month so that at least {N} % of the water is unpolluted when the next month "
            "begins?"
        ),
        "believed_threshold": (
            "What is the most pallets of widgets that you can produce this month so that, as far as you believe, at "
            "least {N} % of the water is unpolluted when the next month begins?"
        ),
    },
}

STOCK_WORDS = {"fishery": ("tons", "ton"), "pasture": ("hectares", "hectare"), "pollution": ("%", "percent")}
"""What replies call a unit of the stock, for the strict parser."""

OFFICIAL_POLLUTION = {
    "dynamics": (
        "Suppose {N} % of the river's water is unpolluted when the month begins, and each of the five factory owners, "
        "you included, produces {M} pallets of widgets. How polluted, in percent, is the river when the next month "
        "begins?"
    )
}
"""Asks for the polluted share, while the unpolluted one is right: kept for comparison with published scores."""
