"""What is decoded: inline texts or token ids, or a file in one of the field's formats, as ids with references.

Templates: CNN/DM and XSUM "Article: …⏎Summary:", HumanEval and TOPv2 as they are; `lm` takes the first hundred words of
each paragraph-sized piece as the prompt. Examples for n-shot come before each prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.jobs.catalog.layerskip import PromptParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.jobs.references import Ref
from workers.layerskip.corpus import looks_like_data
from workers.layerskip.models import Opened
from workers.layerskip.records import read_records
from workers.layerskip.tokenising import Tokens

LM_WORDS = 100


class Prompt(NamedTuple):
    """One prompt, and the answer expected of it, if there is one."""

    ids: list[int]
    reference: str | None = None


class Pair(NamedTuple):
    """Prompt and reference as text."""

    prompt: str
    reference: str | None


def read_prompts(params: PromptParams, opened: Opened, ctx: JobContext) -> list[Prompt]:
    """Every prompt, checked. Raises InvalidInput: no tokenizer, ids beyond the vocabulary, longer than the context."""
    if isinstance(params.prompts, Ref):
        prompts = _from_file(params, params.prompts, opened, ctx)
    else:
        prompts = [_inline(prompt, opened, number) for number, prompt in enumerate(params.prompts)]
    for number, prompt in enumerate(prompts):
        _check(prompt.ids, number, opened)
    if params.stop_words and opened.tokens is None:
        raise InvalidInput(f"stop_words need a tokenizer, and {opened.ref} has none; give stop_token_ids")
    return prompts


def _inline(prompt: object, opened: Opened, number: int) -> Prompt:
    if isinstance(prompt, str):
        return Prompt(_tokens(opened).encode(prompt).tolist())
    assert isinstance(prompt, list)
    return Prompt(prompt)


def _tokens(opened: Opened) -> Tokens:
    if opened.tokens is None:
        raise InvalidInput(f"{opened.ref} has no tokenizer.json; give prompts as lists of token ids")
    return opened.tokens


def _check(ids: Sequence[int], number: int, opened: Opened) -> None:
    vocabulary, context = opened.config.vocab_size, opened.config.context
    if not ids:
        raise InvalidInput(f"prompt {number} is empty; a prompt has at least one token")
    if max(ids) >= vocabulary:
        raise InvalidInput(f"prompt {number} has token id {max(ids)}; ids of {opened.ref} are 0..{vocabulary - 1}")
    if len(ids) >= context:
        raise InvalidInput(
            f"prompt {number} is {len(ids)} tokens long; {opened.ref} has a context of {context}, and the answer "
            "needs one of them"
        )


# Files ----------------------------------------------------------------------------------------------------------------


def _from_file(params: PromptParams, ref: Ref, opened: Opened, ctx: JobContext) -> list[Prompt]:
    tokens, path = _tokens(opened), ctx.input(ref)
    if params.prompt_format == "lm" or (params.prompt_format == "auto" and not looks_like_data(path)):
        prompts = _pieces(path, str(ref), tokens, params.prompt_tokens, params.max_new_tokens)
        return _taken(prompts, params)
    pairs = [_TEMPLATES[params.prompt_format](record, str(ref), line) for line, record in read_records(path, str(ref))]
    shots, rest = _shots(pairs, params)
    return [Prompt(tokens.encode(shots + pair.prompt).tolist(), pair.reference) for pair in rest]


def _shots(pairs: list[Pair], params: PromptParams) -> tuple[str, list[Pair]]:
    """The first n_shot of the shuffled lines are examples, the others are answered."""
    order = _order(len(pairs), params)
    if params.n_shot and len(pairs) <= params.n_shot:
        raise InvalidInput(f"n_shot {params.n_shot} leaves none of {len(pairs)} lines to answer; give fewer examples")
    examples = [pairs[number] for number in order[: params.n_shot]]
    chosen = order[params.n_shot :][: params.num_samples]
    return "".join(f"{pair.prompt}{pair.reference or ''}\n\n" for pair in examples), [
        pairs[number] for number in chosen
    ]


def _order(count: int, params: PromptParams) -> list[int]:
    if not params.random_shuffle:
        return list(range(count))
    return [int(number) for number in np.random.default_rng([params.seed, 11]).permutation(count)]


def _taken(prompts: list[Prompt], params: PromptParams) -> list[Prompt]:
    return [prompts[number] for number in _order(len(prompts), params)[: params.num_samples]]


def _pieces(path: Path, name: str, tokens: Tokens, prompt_tokens: int | None, answer: int) -> list[Prompt]:
    """Text cut into pieces of prompt and reference: by tokens where their number is given, else by words."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    if prompt_tokens is not None:
        ids = tokens.encode(text).tolist()
        size = prompt_tokens + answer
        pieces = [ids[start : start + size] for start in range(0, len(ids) - prompt_tokens + 1, size)]
        return [Prompt(piece[:prompt_tokens], tokens.decode(piece[prompt_tokens:])) for piece in pieces]
    words = text.split()
    size = LM_WORDS + answer
    found = [words[start : start + size] for start in range(0, max(1, len(words) - LM_WORDS + 1), size)]
    if not words:
        raise InvalidInput(f"{name} is empty")
    return [Prompt(tokens.encode(" ".join(piece[:LM_WORDS])).tolist(), " ".join(piece[LM_WORDS:])) for piece in found]


def _field(record: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    for name in names:
        if isinstance(record.get(name), str) and record[name]:
            return str(record[name])
    raise InvalidInput(f"{where} has none of the fields {', '.join(names)} as text")


def _plain(record: Mapping[str, Any], name: str, line: int) -> Pair:
    response = record.get("response")
    return Pair(_field(record, ("prompt",), f"{name} line {line}"), response if isinstance(response, str) else None)


def _summary(article: str, highlights: str) -> Callable[[Mapping[str, Any], str, int], Pair]:
    def pair(record: Mapping[str, Any], name: str, line: int) -> Pair:
        where = f"{name} line {line}"
        text = _field(record, (article, "article"), where)
        return Pair(f"Article: {text}\nSummary:", f" {_field(record, (highlights,), where)}")

    return pair


def _humaneval(record: Mapping[str, Any], name: str, line: int) -> Pair:
    where = f"{name} line {line}"
    return Pair(_field(record, ("prompt",), where), _field(record, ("canonical_solution",), where))


def _topv2(record: Mapping[str, Any], name: str, line: int) -> Pair:
    where = f"{name} line {line}"
    parse = _field(record, ("semantic_parse", "response"), where)
    return Pair(f"[Question] {_field(record, ('utterance', 'prompt'), where)} [Answer] ", parse)


_TEMPLATES: dict[str, Callable[[Mapping[str, Any], str, int], Pair]] = {
    "auto": _plain,
    "cnn_dm": _summary("article", "highlights"),
    "xsum": _summary("document", "summary"),
    "humaneval": _humaneval,
    "topv2": _topv2,
}
