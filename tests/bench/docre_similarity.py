"""Word alignment by the similarity of an encoder's token vectors: mutual argmax, where awesome-align begins, too."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from shared.relations.text import Span
from workers.docre.locating import pieces_of
from workers.docre.runs import SourceSentence
from workers.docre.targets import Rules, TargetSentence, by_pieces
from workers.docre.translators import Translated


def is_missing() -> str | None:
    from shared.jobs.errors import InvalidInput
    from shared.models.sentences import minilm_folder

    try:
        minilm_folder()
    except InvalidInput as error:
        return str(error)
    return None


@cache
def _encoder() -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    from shared.models.sentences import minilm_folder

    folder = minilm_folder()
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def _vectors(text: str) -> tuple[list[Span], Any]:
    import torch

    tokenizer, model = _encoder()
    given = tokenizer(text, return_tensors="pt", return_offsets_mapping=True, truncation=True, max_length=512)
    offsets = given.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        states = torch.nn.functional.normalize(model(**given).last_hidden_state[0], dim=1)
    kept = [n for n, (start, end) in enumerate(offsets) if start < end]
    return [Span(*offsets[n]) for n in kept], states[kept]


def by_similarity(sentences: Sequence[SourceSentence], answers: Sequence[Translated]) -> list[TargetSentence]:
    """Tokens that are each other's most similar are links."""
    found = []
    for sentence, answer in zip(sentences, answers, strict=True):
        (source, s), (target, t) = _vectors(sentence.text), _vectors(answer.text)
        similarity = s @ t.T
        links = []
        if similarity.numel():
            forward, backward = similarity.argmax(dim=1).tolist(), similarity.argmax(dim=0).tolist()
            links = [(source[i], target[j]) for i, j in enumerate(forward) if backward[j] == i]
        found.append(by_pieces(sentence, answer, pieces_of(sentence, links), Rules()))
    return found
