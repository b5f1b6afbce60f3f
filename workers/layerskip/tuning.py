"""One layerskip.tune job: a plain pass per prompt, every (E, K) simulated, priced, and the best ones run for real."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from shared.jobs.catalog.layerskip import Choice, Divergence, TuneParams, TuneResult
from shared.jobs.context import JobContext
from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer
from workers.layerskip.costs import ROWS, Measured, measure, now
from workers.layerskip.decoding import Decoding
from workers.layerskip.generating import answer_to, generator_of, sampling_of
from workers.layerskip.models import Opened
from workers.layerskip.policies import Static
from workers.layerskip.prompts import Prompt
from workers.layerskip.simulation import Recorded, agrees, expected_acceptance, record, simulate
from workers.layerskip.theory import speedup_of, tokens_per_step

MOST_EXITS = 15  # looked at by default
LEAST_GAIN = 1.05  # predicted below this, plain decoding is chosen
CONFIRM_PROMPTS = 8
MOST_DIVERGENCES = 100  # named


class Priced(NamedTuple):
    """One (E, K)."""

    exit_layer: int
    drafts: int
    acceptance: float | None
    tokens_per_step: float
    predicted: float


class Confirmed(NamedTuple):
    """Real runs of some choices: speed-up by choice, and whether they were as simulated."""

    speedups: dict[tuple[int, int], float]
    counts_equal: bool
    divergences: list[Divergence]
    plain_s: float  # per token


class Tuning:
    """Records in turn; the rest is measured at the end, and again after a resume."""

    def __init__(self, params: TuneParams, opened: Opened, prompts: Sequence[Prompt], ctx: JobContext) -> None:
        self.params, self.opened, self.prompts, self.ctx = params, opened, prompts, ctx
        self.layers = opened.config.layers
        if self.layers > 1:
            for exit_layer in params.exit_layers:
                opened.check_exit(exit_layer, "exit_layers")
        self.exits = params.exit_layers or list(range(1, min(self.layers, MOST_EXITS + 1)))
        self.positions = max(len(p.ids) + answer_to(p, params, opened).limit for p in prompts)
        self.records: list[Recorded] = []

    def run(self, decoder: LlamaDecoder) -> None:
        """A plain pass of every prompt."""
        restored = self.ctx.restored()
        if restored:
            self.records = [Recorded(**state) for state in restored.state["records"]]
        decoding = Decoding(decoder, sampling_of(self.params), self.positions)
        total = sum(answer_to(prompt, self.params, self.opened).limit for prompt in self.prompts)
        done = sum(len(each.tokens) for each in self.records)
        for number in range(len(self.records), len(self.prompts)):

            def emit(tokens: Sequence[int]) -> None:
                nonlocal done
                done += len(tokens)
                self.ctx.progress(min(done, total), total, "tokens")

            answer = answer_to(self.prompts[number], self.params, self.opened)
            self.records.append(record(decoding, answer, generator_of(self.params.seed, number), emit))
            self.ctx.checkpoint({"records": [each.state for each in self.records]})

    # Prices -----------------------------------------------------------------------------------------------------------

    def measured(self, decoder: LlamaDecoder) -> Measured:
        """c(n) and h in the middle of an answer."""
        middle = statistics.mean(
            len(prompt.ids) + len(each.tokens) / 2 for prompt, each in zip(self.prompts, self.records, strict=True)
        )
        return measure(decoder, int(middle), sorted({*ROWS, max(self.params.speculations) + 1}))

    def priced(self, costs: Measured) -> list[Priced]:
        """Every (E, K), the best predicted speed-up first."""
        found = [
            self._price(exit_layer, drafts, costs) for exit_layer in self.exits for drafts in self.params.speculations
        ]
        return sorted(found, key=lambda each: (-each.predicted, each.exit_layer, each.drafts))

    def _price(self, exit_layer: int, drafts: int, costs: Measured) -> Priced:
        expected = expected_acceptance(self.records, exit_layer)
        if expected is not None:
            tokens = tokens_per_step(expected, drafts)
            predicted = speedup_of(tokens, exit_layer, drafts, self.layers, costs.model)
            return Priced(exit_layer, drafts, expected, tokens, predicted)
        steps = [counts for each in self.records for counts in simulate(each, exit_layer, drafts)]
        accepted, drafted = sum(each.accepted for each in steps), sum(each.drafted for each in steps)
        tokens = 1 + accepted / len(steps)
        predicted = speedup_of(tokens, exit_layer, drafts, self.layers, costs.model)
        return Priced(exit_layer, drafts, accepted / drafted if drafted else None, tokens, predicted)

    # Real runs --------------------------------------------------------------------------------------------------------

    def confirm(self, decoder: LlamaDecoder, best: Sequence[Priced]) -> Confirmed:
        """Plain and the best choices, taking turns; medians over repeats of time per token, means over prompts."""
        decoding = Decoding(decoder, sampling_of(self.params), self.positions)
        numbers = range(min(len(self.prompts), CONFIRM_PROMPTS))
        places: list[tuple[int, int] | None] = [None, *((each.exit_layer, each.drafts) for each in best)]
        taken: dict[tuple[int, int] | None, list[float]] = {place: [] for place in places}
        counts_equal, diverged = True, dict[tuple[int, tuple[int, int]], Divergence]()
        for _ in range(self.params.repeats):
            for place in places:
                seconds = []
                for number in numbers:
                    start = now(decoder)
                    answer = self._real(decoding, number, place)
                    seconds.append((now(decoder) - start) / max(1, answer.uncut))
                    if place is not None and (found := self._divergence(answer, number, place)):
                        diverged[number, place] = found
                    else:
                        counts_equal &= self._as_simulated(answer, number, place)
                    self.ctx.check()
                taken[place].append(statistics.mean(seconds))
        plain = statistics.median(taken[None])
        speedups = {place: plain / statistics.median(each) for place, each in taken.items() if place is not None}
        return Confirmed(speedups, counts_equal, list(diverged.values()), plain)

    def _real(self, decoding: Decoding, number: int, place: tuple[int, int] | None) -> Answer:
        answer = answer_to(self.prompts[number], self.params, self.opened)
        rng = generator_of(self.params.seed, number)
        if place is None:
            return decoding.plain(answer, rng)
        return decoding.speculative(answer, Static(*place), rng)

    def _as_simulated(self, answer: Answer, number: int, place: tuple[int, int] | None) -> bool:
        if place is None or not sampling_of(self.params).is_greedy:
            return True
        return agrees(answer.steps, simulate(self.records[number], *place))

    def _divergence(self, answer: Answer, number: int, place: tuple[int, int]) -> Divergence | None:
        """Where a greedy run left the plain tokens, if it did. A run that only stopped elsewhere leaves at its end."""
        if not sampling_of(self.params).is_greedy:
            return None
        recorded = self.records[number]
        expected = recorded.tokens[:-1] if recorded.ended else recorded.tokens
        if answer.emitted == expected:
            return None
        pairs = zip(answer.emitted, expected, strict=False)
        shorter = min(len(answer.emitted), len(expected))
        at = next((position for position, (one, other) in enumerate(pairs) if one != other), shorter)
        margin = recorded.margins[min(at, len(recorded.margins) - 1)]
        return Divergence(
            prompt=number, exit_layer=place[0], num_speculations=place[1], position=at, margin=margin
        )  # fmt: skip

    # The answer -------------------------------------------------------------------------------------------------------

    def result(self, priced: Sequence[Priced], confirmed: Confirmed, costs: Measured) -> TuneResult:
        """The choice whose real run was fastest, if the formula and the run say that it pays."""
        chosen = max(
            (each for each in priced if (each.exit_layer, each.drafts) in confirmed.speedups),
            key=lambda each: confirmed.speedups[each.exit_layer, each.drafts],
        )
        real = confirmed.speedups[chosen.exit_layer, chosen.drafts]
        pays = chosen.predicted > LEAST_GAIN and real > 1
        said = f"predicted {chosen.predicted:.2f}×, measured {real:.2f}×"
        place = f"E = {chosen.exit_layer}, K = {chosen.drafts}"
        verdict = (
            f"speculate with {place}: {said}" if pays else f"speculation does not pay here: the best is {place}, {said}"
        )
        return TuneResult(
            pays=pays, verdict=verdict, exit_layer=chosen.exit_layer if pays else None,
            num_speculations=chosen.drafts if pays else None, predicted_speedup=chosen.predicted,
            confirmed_speedup=real, costs=costs.result,
            best=[choice_of(each, confirmed) for each in priced[:12]], counts_equal=confirmed.counts_equal,
            ids_equal=not confirmed.divergences, divergences=confirmed.divergences[:MOST_DIVERGENCES],
            layers=self.layers, prompts=len(self.prompts),
            tokens=sum(len(each.tokens) for each in self.records), warnings=self._warnings(),
        )  # fmt: skip

    def _warnings(self) -> list[str]:
        from shared.metrics.text import distinct_ngrams

        distinct = distinct_ngrams([each.tokens for each in self.records], 4)
        if distinct is not None and distinct < 0.3:
            return [
                f"the text loops (distinct 4-grams {distinct:.2f}): acceptance says little of text that does not; look "
                "at agreement in layerskip.eval_exits too"
            ]
        return []


def choice_of(priced: Priced, confirmed: Confirmed) -> Choice:
    """As results show it."""
    return Choice(
        exit_layer=priced.exit_layer, num_speculations=priced.drafts, acceptance_rate=priced.acceptance,
        tokens_per_step=priced.tokens_per_step, predicted_speedup=priced.predicted,
        measured_speedup=confirmed.speedups.get((priced.exit_layer, priced.drafts)),
    )  # fmt: skip
