"""What a training reads: model to go on from, tokenizer, training and held-out text, all checked before it starts."""

from typing import NamedTuple

from shared.jobs.catalog.layerskip import TrainParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from workers.layerskip.corpus import Batch, Corpus, Examples, Stream, looks_like_data, read_corpus
from workers.layerskip.models import Opened, open_model
from workers.layerskip.tokenising import Bytes, Tokens, read_tokens

OWN_HELD_OUT = {"builtin:stdlib": Ref("builtin:stdlib-valid")}


class Sources(NamedTuple):
    """Inputs of one training."""

    opened: Opened | None
    tokens: Tokens
    training: Corpus
    held_out: list[Batch]
    warnings: list[str]


def open_sources(params: TrainParams, ctx: JobContext) -> Sources:
    """Raises InvalidInput: a text shorter than a block, ids beyond the model's, no tokenizer, blocks beyond context."""
    opened = open_model(params.model, ctx) if params.model else None
    tokens = _tokens(params, opened, ctx)
    source = params.text or params.data
    assert source is not None
    read = _Reading(tokens, params.loss_on, opened.config.eos_ids if opened else (), ctx)
    corpus = read.corpus(source, params.data is not None)
    own = params.eval_data or OWN_HELD_OUT.get(str(source))
    training, held_out = (corpus, read.corpus(own, None)) if own else corpus.halves()
    for each in (training, held_out):
        check_vocabulary(each, opened)
    if opened and params.block_size > opened.config.context:
        raise InvalidInput(
            f"block_size {params.block_size} is longer than the context {opened.config.context} of {params.model}"
        )
    if isinstance(training, Stream):
        training.check(params.block_size)
    return Sources(opened, tokens, training, _held_out(params, held_out, opened), [])


class _Reading(NamedTuple):
    tokens: Tokens
    loss_on: str
    end: tuple[int, ...]
    ctx: JobContext

    def corpus(self, ref: Ref, is_data: bool | None) -> Corpus:
        path = self.ctx.input(ref)
        data = looks_like_data(path) if is_data is None else is_data
        return read_corpus(path, str(ref), self.tokens, data, self.loss_on, self.end)


def _tokens(params: TrainParams, opened: Opened | None, ctx: JobContext) -> Tokens:
    if params.tokenizer:
        return read_tokens(ctx.input(params.tokenizer))
    if opened is None:
        return Bytes()
    if opened.tokens is None:
        raise InvalidInput(f"{params.model} has no tokenizer.json; put one into its folder, or give tokenizer")
    return opened.tokens


def check_vocabulary(corpus: Corpus, opened: Opened | None) -> None:
    """Raises InvalidInput when a token id is beyond the model's vocabulary."""
    if opened is None:
        return
    streams = [corpus.ids] if isinstance(corpus, Stream) else []
    if isinstance(corpus, Examples):
        streams = [ids for pair in corpus.pairs for ids in pair]
    highest = max((int(ids.max()) for ids in streams if len(ids)), default=0)
    if highest >= opened.config.vocab_size:
        raise InvalidInput(
            f"token id {highest} is beyond the vocabulary of {opened.ref}, 0..{opened.config.vocab_size - 1}: its "
            "tokenizer belongs to another model"
        )


def _held_out(params: TrainParams, corpus: Corpus, opened: Opened | None) -> list[Batch]:
    context = opened.config.context if opened else params.context or 2048
    length = min(params.eval_block_size, context)
    if isinstance(corpus, Stream) and params.eval_data is None:
        length = min(length, len(corpus.ids) - 1)
        if length < 1:
            raise InvalidInput(f"{corpus.name} is too short to score; give eval_data")
    return corpus.spread(params.eval_windows, length)
