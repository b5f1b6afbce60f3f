"""One layerskip.generate job: choose E and K, decode prompt after prompt (or batch after batch), stream the tokens."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from shared.jobs.catalog.layerskip import GenerateParams, GenerateResult, Output, PromptParams, TextFigures
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.metrics.text import distinct_ngrams, text_figures
from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.batching import BatchDecoding
from workers.layerskip.decoding import Decoding, Emit
from workers.layerskip.device_loop import takes_compiled
from workers.layerskip.models import Opened
from workers.layerskip.policies import CONFIDENCE, CONSTANT_K, HEURISTIC_K, Adaptive, Heuristic, Policy, Static
from workers.layerskip.prompts import Prompt
from workers.layerskip.theory import CostModel
from workers.layerskip.tokenising import Streamed
from workers.layerskip.warping import Sampling

DEFAULT_K = 4
OUTPUTS, STEPS, SPEED = "outputs.jsonl", "steps.jsonl", "speed.jsonl"
MAX_OUTPUT_BYTES = 40_000


class Chosen(NamedTuple):
    """What E and K a job decodes with, and measured costs where a tuning gave them."""

    exit_layer: int
    drafts: int
    costs: CostModel | None
    warnings: list[str]


def choose(params: GenerateParams, opened: Opened, ctx: JobContext) -> Chosen:
    """E and K: as asked, else as tuned, else max(1, L // 4) and 4. Raises InvalidInput."""
    layers, warnings = opened.config.layers, list[str]()
    exit_layer: int = max(1, layers // 4)
    drafts = HEURISTIC_K if params.policy.startswith("heuristic") else DEFAULT_K
    drafts = CONSTANT_K if params.policy == "constant" else drafts
    costs = None
    if params.tune is not None:
        tuned = _read_tune(ctx.input(params.tune), str(params.tune))
        costs = tuned.costs
        if tuned.exit_layer is None or tuned.drafts is None:
            drafts = 0
            warnings.append("tuning found that speculation doesn't pay here: decoding plainly where K is auto")
        else:
            exit_layer, drafts = tuned.exit_layer, tuned.drafts
    if params.exit_layer != "auto":
        exit_layer = params.exit_layer
    if params.num_speculations != "auto":
        drafts = params.num_speculations
    if params.strategy != "autoregressive":
        opened.check_exit(exit_layer)
    return Chosen(exit_layer, drafts, costs, warnings)


class _Tuned(NamedTuple):
    exit_layer: int | None
    drafts: int | None
    costs: CostModel


def _read_tune(path: Path, name: str) -> _Tuned:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        costs = said["costs"]
        c, c_head = ({int(n): float(value) for n, value in costs[which].items()} for which in ("c", "c_head"))
        return _Tuned(said["exit_layer"], said["num_speculations"], CostModel(c, float(costs["h"]), c_head))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{name} is no tune.json of layerskip.tune: {error!r}") from None


def policy_of(params: GenerateParams, chosen: Chosen, layers: int) -> Policy:
    """The policy by name."""
    asked = params.assistant_confidence_threshold
    confidence = asked if asked is not None else (0.0 if params.policy == "static" else CONFIDENCE)
    if params.policy == "adaptive":
        assert chosen.costs is not None  # Params ask for tune
        return Adaptive(layers, chosen.costs)
    if params.policy.startswith("heuristic"):
        return Heuristic(chosen.exit_layer, chosen.drafts, confidence, params.policy == "heuristic_transient")
    return Static(chosen.exit_layer, chosen.drafts, confidence)


def sampling_of(params: PromptParams) -> Sampling:
    """How tokens are chosen."""
    return Sampling(params.sample, params.temperature, params.top_p, params.top_k, params.no_repeat_ngram_size)


def answer_to(prompt: Prompt, params: PromptParams, opened: Opened) -> Answer:
    """An answer not begun."""
    ends = frozenset((*opened.config.eos_ids, *params.stop_token_ids))
    stopping = Stopping(params.max_new_tokens, ends, tuple(params.stop_words))
    limit = min(params.max_new_tokens, opened.config.context - len(prompt.ids))
    return Answer(prompt.ids, limit, stopping, opened.tokens)


def generator_of(seed: int, prompt: int) -> torch.Generator:
    """Every prompt draws from its own, whatever runs beside it."""
    return torch.Generator().manual_seed((seed << 20) + prompt)


class Generation:
    """Decodes all prompts; finished ones lie in a journal."""

    def __init__(
        self, params: GenerateParams, opened: Opened, prompts: Sequence[Prompt], chosen: Chosen, ctx: JobContext
    ) -> None:
        self.params, self.opened, self.prompts, self.chosen, self.ctx = params, opened, prompts, chosen, ctx
        self.policy = policy_of(params, chosen, opened.config.layers)
        self.total = sum(answer_to(prompt, params, opened).limit for prompt in prompts)
        self._done = self._syncs = 0

    def run(self, decoder: LlamaDecoder) -> None:
        """All prompts, from the checkpoint on."""
        restored = self.ctx.restored()
        first = 0
        if restored:
            first, self._done = restored.state["prompt"], restored.state["tokens"]
            self._syncs = restored.state["syncs"]
            self.policy.restore(restored.state["policy"])
        size = self.params.batch_size
        for start in range(first, len(self.prompts), size):
            numbers = list(range(start, min(start + size, len(self.prompts))))
            answers = self._decode(decoder, numbers)
            for number, answer in zip(numbers, answers, strict=True):
                self._keep(number, answer)
            last = numbers[-1] + 1
            if last < len(self.prompts):
                state = {"prompt": last, "tokens": self._done, "syncs": self._syncs, "policy": self.policy.state()}
                self.ctx.checkpoint(state)

    def _decode(self, decoder: LlamaDecoder, numbers: list[int]) -> list[Answer]:
        answers = [answer_to(self.prompts[number], self.params, self.opened) for number in numbers]
        rngs = [generator_of(self.params.seed, number) for number in numbers]
        clocks = [_Clock(decoder) for _ in numbers]
        emits = [self._said(number, clock) for number, clock in zip(numbers, clocks, strict=True)]
        positions = max(len(answer.prompt) + answer.limit for answer in answers)
        if len(answers) == 1 and not self._in_graphs(decoder):
            decoding = Decoding(decoder, sampling_of(self.params), positions)
            self._one(decoding, answers[0], rngs[0], emits[0])
        else:
            self._many(BatchDecoding(decoder, sampling_of(self.params), positions, len(answers)), answers, rngs, emits)
        for number, answer, clock in zip(numbers, answers, clocks, strict=True):
            self._time(number, answer, clock)
        return answers

    def _in_graphs(self, decoder: LlamaDecoder) -> bool:
        """On CUDA, at a static K: whether the batch loop with one row, compiled, was measured to be faster."""
        if self.params.policy != "static" or self.params.assistant_confidence_threshold:
            return False
        rows = self.chosen.drafts + 1 if self.params.strategy == "self_speculative" else 2
        return takes_compiled(decoder, self.opened.digest, max(2, rows), self.ctx.cache_dir)

    def _one(self, decoding: Decoding, answer: Answer, rng: torch.Generator, emit: Emit) -> None:
        if self.params.strategy == "self_speculative":
            decoding.speculative(answer, self.policy, rng, emit)
        else:
            decoding.plain(answer, rng, emit, self._last_layer)

    def _many(
        self, decoding: BatchDecoding, answers: list[Answer], rngs: list[torch.Generator], emits: list[Emit]
    ) -> None:
        if self.params.strategy == "self_speculative":
            decoding.speculative(answers, self.chosen.exit_layer, self.chosen.drafts, rngs, emits)
        else:
            decoding.plain(answers, rngs, emits, self._last_layer)

    @property
    def _last_layer(self) -> int | None:
        return self.chosen.exit_layer if self.params.strategy == "early_exit" else None

    def _said(self, number: int, clock: "_Clock") -> Callable[[Sequence[int]], None]:
        """Streams an answer's tokens as text (ids where there is no tokenizer), and asks whether to go on."""
        streamed = Streamed(self.opened.tokens) if self.opened.tokens else None

        def emit(tokens: Sequence[int]) -> None:
            clock.said()
            self._done += len(tokens)
            text = streamed.more(tokens) if streamed else "".join(f"{token} " for token in tokens)
            if text:
                self.ctx.token(text, prompt=number)
            self.ctx.progress(min(self._done, self.total), self.total, "tokens")

        return emit

    def _keep(self, number: int, answer: Answer) -> None:
        self._syncs += answer.host_syncs
        self.ctx.journal(OUTPUTS).append_json(output_of(number, answer).model_dump(mode="json"))
        if self.params.strategy == "self_speculative":
            for step in answer.steps:
                self.ctx.journal(STEPS).append_json({"prompt": number, "E": step.exit_layer, "k": step.drafted,
                                                     "accepted": step.accepted})  # fmt: skip

    def _time(self, number: int, answer: Answer, clock: "_Clock") -> None:
        total, tokens = clock.total(), len(answer.emitted)
        self.ctx.timing("ttft", clock.first or 0.0)
        self.ctx.timing("decode", total)
        self.ctx.journal(SPEED).append_json({
            "prompt": number, "ttft_s": clock.first, "total_s": total,
            "time_per_token_s": total / tokens if tokens else None, "tokens_per_second": tokens / total,
        })  # fmt: skip

    # What came of it --------------------------------------------------------------------------------------------------

    def outputs(self) -> list[Output]:
        """Every output, as the journal has it."""
        return [Output.model_validate_json(line) for line in self._lines(OUTPUTS)]

    def _lines(self, name: str) -> list[str]:
        journal = self.ctx.journal(name)
        journal.handle.flush()
        return journal.path.read_text(encoding="utf-8").split("\n")[:-1]

    def steps(self) -> list[tuple[int, int]]:
        """(accepted, drafted) of every step."""
        lines = [json.loads(line) for line in self._lines(STEPS)]
        return [(line["accepted"], line["k"]) for line in lines]

    def result(self, kernel: str) -> GenerateResult:
        """The outputs with their sums."""
        outputs = self.outputs()
        speculative = self.params.strategy == "self_speculative"
        drafted, accepted = sum(each.drafted for each in outputs), sum(each.accepted for each in outputs)
        steps = sum(each.steps for each in outputs)
        rates = [each.acceptance_rate for each in outputs if each.acceptance_rate is not None]
        per_step = [each.tokens_per_step * each.steps for each in outputs if each.tokens_per_step is not None]
        return GenerateResult(
            strategy=self.params.strategy,
            exit_layer=None if self.params.strategy == "autoregressive" else self.chosen.exit_layer,
            num_speculations=self.chosen.drafts if speculative else None,
            outputs=fitting(outputs), outputs_total=len(outputs), num_tokens=sum(each.num_tokens for each in outputs),
            drafted=drafted, accepted=accepted, steps=steps, acceptance_micro=accepted / drafted if drafted else None,
            acceptance_macro=sum(rates) / len(rates) if rates else None,
            tokens_per_step=sum(per_step) / steps if steps else None,
            host_syncs_per_step=self._syncs / steps if steps else None,
            distinct_4grams=distinct_ngrams([each.token_ids for each in outputs], 4),
            empty_outputs=sum(each.num_tokens == 0 for each in outputs), references=self._references(outputs),
            kernel=kernel, warnings=self.chosen.warnings,
        )  # fmt: skip

    def _references(self, outputs: Sequence[Output]) -> TextFigures | None:
        pairs = [
            (each.text, reference) for each in outputs
            if each.text is not None and (reference := self.prompts[each.prompt].reference) is not None
        ]  # fmt: skip
        return TextFigures(**text_figures(pairs)) if pairs else None


def output_of(number: int, answer: Answer) -> Output:
    """An answer as the result shows it."""
    assert answer.finish is not None
    text = answer.text
    if text is None and answer.tokens is not None:
        text = answer.tokens.decode(answer.emitted)
    steps, drafted = len(answer.steps), answer.drafted
    return Output(
        prompt=number, text=text.replace("\x00", "\ufffd") if text is not None else None, token_ids=answer.emitted,
        num_tokens=len(answer.emitted), finish_reason=answer.finish, drafted=drafted, accepted=answer.accepted,
        steps=steps, acceptance_rate=answer.accepted / drafted if drafted else None,
        tokens_per_step=answer.uncut / steps if steps else None, layer_calls=answer.layer_calls,
        layer_tokens=answer.layer_tokens,
    )  # fmt: skip


def fitting(outputs: Sequence[Output]) -> list[Output]:
    """As many as a result has room for."""
    room, fit = MAX_OUTPUT_BYTES, list[Output]()
    for output in outputs:
        room -= len(output.model_dump_json().encode())
        if room < 0:
            break
        fit.append(output)
    return fit


class _Clock:
    """Time of one answer, the device's work included."""

    def __init__(self, decoder: LlamaDecoder) -> None:
        self._cuda = decoder.device.type == "cuda"
        self.first: float | None = None
        self._start = time.perf_counter()

    def said(self) -> None:
        self.first = self.total() if self.first is None else self.first

    def total(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - self._start


def about(decoder: LlamaDecoder) -> str:
    return "skinny" if decoder.kernel is not None else "plain"
