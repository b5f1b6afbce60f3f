"""One layerskip.bench job: strategies side by side on the same prompts, taking turns round by round."""

import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from shared.jobs.catalog.layerskip import BenchParams, BenchResult, BenchRow
from shared.jobs.context import JobContext
from shared.metrics.text import distinct_ngrams
from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer
from workers.layerskip.batching import BatchDecoding
from workers.layerskip.costs import ROWS, Measured, measure, now
from workers.layerskip.decoding import Decoding, Emit
from workers.layerskip.generating import answer_to, generator_of, sampling_of
from workers.layerskip.models import Opened
from workers.layerskip.peers import Transformers
from workers.layerskip.policies import Static
from workers.layerskip.prompts import Prompt
from workers.layerskip.theory import speedup_of


class Contender(NamedTuple):
    """A strategy, and how it answers a prompt."""

    strategy: str
    exit_layer: int | None
    drafts: int | None
    answer: Callable[[int, Emit], Answer]


@dataclass
class Taken:
    """One contender's runs."""

    rounds: list[list[float]] = field(default_factory=list)  # seconds per prompt
    first: list[float] = field(default_factory=list)  # until the first tokens, last round
    answers: list[Answer] = field(default_factory=list)  # of the last round


class Benchmark:
    """All contenders on all prompts."""

    def __init__(self, params: BenchParams, opened: Opened, prompts: Sequence[Prompt], ctx: JobContext) -> None:
        self.params, self.opened, self.prompts, self.ctx = params, opened, prompts, ctx
        self.layers = opened.config.layers
        self.exits = params.exit_layers or sorted({1, max(1, self.layers // 4)})
        for exit_layer in self.exits:
            opened.check_exit(exit_layer, "exit_layers")
        self.positions = max(len(p.ids) + answer_to(p, params, opened).limit for p in prompts)

    def run(self, decoder: LlamaDecoder) -> BenchResult:
        """Every contender once a round."""
        contenders = self._contenders(decoder)
        taken = [Taken() for _ in contenders]
        for number in range(self.params.rounds + 1):  # the first round warms up
            for contender, own in zip(contenders, taken, strict=True):
                own.rounds.append(self._round(decoder, contender, own))
            self.ctx.progress(number, self.params.rounds, "rounds")
        for own in taken:
            del own.rounds[0]
        middle = statistics.mean(len(p.ids) for p in self.prompts) + self.params.max_new_tokens / 2
        costs = measure(decoder, int(middle), sorted({*ROWS, max(self.params.speculations) + 1}))
        return self._result(contenders, taken, costs, decoder)

    def _contenders(self, decoder: LlamaDecoder) -> list[Contender]:
        decoding = Decoding(decoder, sampling_of(self.params), self.positions)
        found = [Contender("autoregressive", None, None, self._plain(decoding, None))]
        found += [
            Contender("early_exit", exit_layer, None, self._plain(decoding, exit_layer)) for exit_layer in self.exits
        ]
        for exit_layer in self.exits:
            for drafts in self.params.speculations:
                found.append(
                    Contender("self_speculative", exit_layer, drafts, self._speculative(decoding, exit_layer, drafts))
                )
        if self.params.compiled:
            found += self._compiled(decoder)
        if self.params.transformers and not self.params.sample:
            found += self._peers()
        return found

    def _plain(self, decoding: Decoding, exit_layer: int | None) -> Callable[[int, Emit], Answer]:
        return lambda number, emit: decoding.plain(self._new(number), self._rng(number), emit, exit_layer)

    def _speculative(self, decoding: Decoding, exit_layer: int, drafts: int) -> Callable[[int, Emit], Answer]:
        return lambda number, emit: decoding.speculative(
            self._new(number), Static(exit_layer, drafts), self._rng(number), emit
        )

    def _compiled(self, decoder: LlamaDecoder) -> list[Contender]:
        """The batch loop with one row, whose shapes stay, through torch.compile; on CUDA as CUDA graphs."""
        compiled = LlamaDecoder(self.opened.load(decoder.dtype, decoder.device.type), None)
        most = max(self.params.speculations)
        compiled.compile(most + 1, "reduce-overhead" if decoder.device.type == "cuda" else None)
        loop = BatchDecoding(compiled, sampling_of(self.params), self.positions, 1)

        def plain(number: int, emit: Emit) -> Answer:
            answer = self._new(number)
            loop.plain([answer], [self._rng(number)], [emit])
            return answer

        def speculative(exit_layer: int) -> Callable[[int, Emit], Answer]:
            def run(number: int, emit: Emit) -> Answer:
                answer = self._new(number)
                loop.speculative([answer], exit_layer, most, [self._rng(number)], [emit])
                return answer

            return run

        rows = [Contender("compiled autoregressive", None, None, plain)]
        return rows + [Contender("compiled self_speculative", own, most, speculative(own)) for own in self.exits[:1]]

    def _peers(self) -> list[Contender]:
        peer = Transformers(self.opened.folder, [*self.opened.config.eos_ids, *self.params.stop_token_ids])

        def answering(exit_layer: int | None, drafts: int) -> Callable[[int, Emit], Answer]:
            def run(number: int, emit: Emit) -> Answer:
                answer = self._new(number)
                emit(answer.commit(peer.generate(answer.prompt, answer.limit, exit_layer, drafts)))
                return answer

            return run

        rows = [Contender("transformers generate", None, None, answering(None, 0))]
        rows += [
            Contender("transformers assistant_early_exit", exit_layer, drafts, answering(exit_layer, drafts))
            for exit_layer in self.exits for drafts in self.params.speculations
        ]  # fmt: skip
        return rows

    def _round(self, decoder: LlamaDecoder, contender: Contender, own: Taken) -> list[float]:
        seconds, own.first, own.answers = list[float](), [], []
        for number in range(len(self.prompts)):
            start = now(decoder)
            first: list[float] = []

            def emit(tokens: Sequence[int], first: list[float] = first, start: float = start) -> None:
                if not first:
                    first.append(now(decoder) - start)

            own.answers.append(contender.answer(number, emit))
            seconds.append(now(decoder) - start)
            own.first.append(first[0] if first else seconds[-1])
            self.ctx.check()
        return seconds

    def _new(self, number: int) -> Answer:
        return answer_to(self.prompts[number], self.params, self.opened)

    def _rng(self, number: int) -> torch.Generator:
        return generator_of(self.params.seed, number)

    # The table --------------------------------------------------------------------------------------------------------

    def _result(
        self, contenders: Sequence[Contender], taken: Sequence[Taken], costs: Measured, decoder: LlamaDecoder
    ) -> BenchResult:
        plain = taken[0].answers
        counted = [number for number, answer in enumerate(plain) if answer.emitted]
        rows = [self._row(c, own, counted, taken[0], costs) for c, own in zip(contenders, taken, strict=True)]
        return BenchResult(
            rows=rows, costs=costs.result, prompts=len(self.prompts), skipped=len(self.prompts) - len(counted),
            distinct_4grams=distinct_ngrams([answer.emitted for answer in plain], 4), environment=environment(decoder),
            warnings=[] if counted else ["nothing was generated: every prompt ended at once"],
        )  # fmt: skip

    def _per_token(self, own: Taken, counted: Sequence[int]) -> list[float]:
        """Seconds per token of each prompt that counts: medians over rounds."""
        medians = [statistics.median(each[number] for each in own.rounds) for number in counted]
        tokens = [max(1, len(own.answers[number].emitted)) for number in counted]
        return [seconds / count for seconds, count in zip(medians, tokens, strict=True)]

    def _row(self, contender: Contender, own: Taken, counted: Sequence[int], plain: Taken, costs: Measured) -> BenchRow:
        each, base = self._per_token(own, counted), self._per_token(plain, counted)
        per_token = statistics.mean(each) if each else None
        answers = [own.answers[number] for number in counted]
        tokens = sum(len(answer.emitted) for answer in answers)
        drafted, accepted = (sum(getattr(answer, name) for answer in answers) for name in ("drafted", "accepted"))
        rates = [answer.accepted / answer.drafted for answer in answers if answer.drafted]
        rounds = [sum(once[number] for number in counted) for once in own.rounds]
        middle = statistics.median(rounds) if rounds else 0.0
        per_step = sum(a.uncut for a in answers) / steps if (steps := sum(len(a.steps) for a in answers)) else None
        return BenchRow(
            strategy=contender.strategy, exit_layer=contender.exit_layer, num_speculations=contender.drafts,
            time_per_token_ms=None if per_token is None else 1000 * per_token,
            tokens_per_second=statistics.mean(1 / seconds for seconds in each) if each else None,
            tokens_per_second_pooled=tokens / middle if middle else None,
            ttft_ms=1000 * statistics.mean(own.first[number] for number in counted) if counted else None,
            speedup=statistics.mean(base) / per_token if per_token else None,
            predicted_speedup=(predicted := self._predicted(contender, per_step, costs)),
            predicted_with_prompt=self._with_prompt(predicted, contender, plain, counted, costs),
            acceptance_micro=accepted / drafted if drafted else None,
            acceptance_macro=statistics.mean(rates) if rates else None, tokens_per_step=per_step,
            equal_outputs=sum(
                answer.emitted == expected.emitted for answer, expected in zip(own.answers, plain.answers, strict=True)
            ),
            spread_ms=[1000 * whole / tokens for whole in (min(rounds), max(rounds))] if tokens and rounds else [],
        )  # fmt: skip

    def _predicted(self, contender: Contender, per_step: float | None, costs: Measured) -> float | None:
        """By measured c and h and the row's own tokens per step."""
        if contender.exit_layer is None or contender.strategy.startswith(("transformers", "compiled")):
            return None
        if contender.drafts is None:  # an early exit: so much less to run
            return (self.layers + costs.model.h) / (contender.exit_layer + costs.model.h)
        if per_step is None:
            return None
        return speedup_of(per_step, contender.exit_layer, contender.drafts, self.layers, costs.model)

    def _with_prompt(
        self, predicted: float | None, contender: Contender, plain: Taken, counted: Sequence[int], costs: Measured
    ) -> float | None:
        """Prompt and answer together: the prompt's pass is the same for both; an early exit runs E layers of it."""
        if predicted is None or not counted:
            return None
        token = costs.layer_s * (self.layers + costs.model.h)
        prompt = max(0.0, statistics.mean(plain.first[number] for number in counted) - token)
        answer = token * statistics.mean(len(plain.answers[number].emitted) for number in counted)
        share = (contender.exit_layer or 1) / self.layers if contender.drafts is None else 1.0
        return (prompt + answer) / (share * prompt + answer / predicted)


def environment(decoder: LlamaDecoder) -> dict[str, str]:
    """What the figures were measured on."""
    import transformers

    return {
        "torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version(),
        "device": str(decoder.device), "dtype": str(decoder.dtype), "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()), "load": f"{os.getloadavg()[0]:.1f}",
        "products": "skinny kernel" if decoder.kernel is not None else "plain: no compiler, or not float32 on a CPU",
    }  # fmt: skip
