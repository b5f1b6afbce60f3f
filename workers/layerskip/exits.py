"""One layerskip.eval_exits job: every exit on held-out text, and, if asked, its answers to prompts."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from shared.jobs.catalog.layerskip import EvalExitsParams, EvalExitsResult, TaskFigures
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.metrics.text import text_figures
from shared.models.llama import Llama
from shared.models.llama_decoder import LlamaDecoder
from workers.layerskip.answers import Answer, Stopping
from workers.layerskip.corpus import Batch, Line, Stream, looks_like_data, read_corpus, read_lines
from workers.layerskip.decoding import Decoding
from workers.layerskip.evaluation import ExitSums
from workers.layerskip.models import Opened, open_model
from workers.layerskip.sources import check_vocabulary
from workers.layerskip.tokenising import Tokens
from workers.layerskip.warping import Sampling

CHECKPOINT_WINDOWS = 16


class ExitEvaluation:
    """Scores windows in order; sums are plain numbers, so a checkpoint keeps them."""

    def __init__(self, params: EvalExitsParams, opened: Opened, ctx: JobContext) -> None:
        self.params, self.opened, self.ctx = params, opened, ctx
        if opened.tokens is None:
            raise InvalidInput(f"{params.model} has no tokenizer.json; put one into its folder")
        self.tokens: Tokens = opened.tokens
        self.baseline = open_model(params.baseline, ctx) if params.baseline else None
        self.path = ctx.input(params.eval_data)
        self.is_data = looks_like_data(self.path)
        self.batches = self._batches()
        self.lines = self._lines() if params.task == "generate" else []

    def _batches(self) -> list[Batch]:
        both = [self.opened, *([self.baseline] if self.baseline else [])]
        for opened in both:
            if self.params.block_size > opened.config.context:
                raise InvalidInput(
                    f"block_size {self.params.block_size} is longer than the context {opened.config.context} of "
                    f"{opened.ref}"
                )
        name, ends = str(self.params.eval_data), self.opened.config.eos_ids
        corpus = read_corpus(self.path, name, self.tokens, self.is_data, self.params.loss_on, ends)
        for opened in both:
            check_vocabulary(corpus, opened)
        windows = corpus.spread(self.params.windows, self.params.block_size)
        if not isinstance(corpus, Stream):
            return windows  # examples have lengths of their own: one at a time
        size = self.params.batch_size
        return [_joined(windows[start : start + size]) for start in range(0, len(windows), size)]

    def _lines(self) -> list[Line]:
        if not self.is_data:
            raise InvalidInput(f"task generate needs JSONL {{prompt, response}}, {self.params.eval_data} is text")
        return read_lines(self.path, str(self.params.eval_data))[: self.params.task_samples]

    @torch.inference_mode()
    def run(self, models: Sequence[Callable[[], Llama]]) -> list[ExitSums]:
        """All windows by one model after another, from the checkpoint on."""
        restored = self.ctx.restored()
        state = restored.state if restored else {"done": [], "sums": None, "batch": 0}
        done = [ExitSums(**each) for each in state["done"]]
        for load in models[len(done) :]:
            first, sums, state = state["batch"], state["sums"], {"sums": None, "batch": 0}
            done.append(self._score(load(), sums, first, done, len(models)))
        return done

    def _score(
        self, model: Llama, state: dict[str, Any] | None, first: int, done: list[ExitSums], models: int
    ) -> ExitSums:
        sums, device = ExitSums.of(model.config.layers, state), model.lm_head.weight.device
        windows = sum(len(batch.ids) for batch in self.batches)
        scored = saved = sum(len(batch.ids) for batch in self.batches[:first])
        for number, batch in enumerate(self.batches[first:], start=first + 1):
            sums.add(model, Batch(batch.ids.to(device), batch.targets.to(device)))
            scored += len(batch.ids)
            self.ctx.progress(len(done) * windows + scored, models * windows, "windows")
            if scored - saved >= CHECKPOINT_WINDOWS and number < len(self.batches):
                saved = scored
                self.ctx.checkpoint({"done": [vars(each) for each in done], "sums": vars(sums), "batch": number})
        return sums

    def tasks(self, decoder: LlamaDecoder) -> list[TaskFigures]:
        """Greedy answers at every exit against the responses."""
        return (
            [self._task(decoder, exit_layer) for exit_layer in range(1, decoder.config.layers + 1)]
            if self.lines
            else []
        )

    def _task(self, decoder: LlamaDecoder, exit_layer: int) -> TaskFigures:
        pairs = []
        for line in self.lines:
            answer = self._answer(decoder, line, exit_layer)
            pairs.append((self.tokens.decode(answer.emitted), line.response))
            self.ctx.check()
        return TaskFigures(exit_layer=exit_layer, samples=len(pairs), **text_figures(pairs))

    def _answer(self, decoder: LlamaDecoder, line: Line, exit_layer: int) -> Answer:
        prompt = self.tokens.encode(line.prompt + ("\t" if self.params.loss_on == "all" else "")).tolist()
        room = decoder.config.context - len(prompt)
        if room < 1:
            raise InvalidInput(f"a prompt of {self.params.eval_data} is longer than the context of {self.params.model}")
        ends = frozenset((*decoder.config.eos_ids, *self.params.stop_token_ids))
        stopping = Stopping(self.params.max_new_tokens, ends)
        answer = Answer(prompt, min(self.params.max_new_tokens, room), stopping, self.tokens)
        decoding = Decoding(decoder, Sampling(), len(prompt) + answer.limit)
        return decoding.plain(answer, torch.Generator(), exit_layer=exit_layer)

    def result(self, scored: Sequence[ExitSums], tasks: list[TaskFigures]) -> EvalExitsResult:
        sums, *others = scored
        return EvalExitsResult(
            layers=self.opened.config.layers, tokens=sums.tokens, exits=sums.figures(), tasks=tasks,
            baseline=others[0].figures() if others else [],
            warnings=[] if sums.tokens else ["nothing was scored: every response lies beyond block_size"],
        )  # fmt: skip


def _joined(windows: list[Batch]) -> Batch:
    return Batch(torch.cat([window.ids for window in windows]), torch.cat([window.targets for window in windows]))
