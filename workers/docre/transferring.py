"""Transfer of a shard: documents in, translated documents with their annotations out.

Each document becomes one `Record`: the target document or why it was rejected, a provenance row per mention, and
counts. Records are JSON lines; a shard's bytes depend on its documents, engine and parameters alone.
"""

from collections.abc import Sequence

from shared.jobs.catalog.docre.transfer import TransferParams
from shared.metrics.chrf import chrf
from shared.relations.documents import Document
from shared.relations.text import Span
from workers.docre.placing import chosen, place
from workers.docre.projection import Placed, snap, trimmed
from workers.docre.quality import check_sentence
from workers.docre.records import Record, Target, record_of
from workers.docre.runs import SentenceMentions, SourceSentence, sentences_of
from workers.docre.targets import Rules, TargetSentence
from workers.docre.tokenising import (
    Morpheme,
    Tokeniser,
    is_only_function_words,
    is_unspaced,
    tokeniser_of,
    without_particles,
)
from workers.docre.translators import Translator, plain

NO_SENTENCE = TargetSentence("", ())


def transfer_documents(documents: Sequence[Document], engine: Translator, params: TransferParams) -> list[Record]:
    """One record per document, in order."""
    sources = [sentences_of(document) for document in documents]
    flat = [each.sentence for sentences in sources for each in sentences]
    with_text = [n for n, sentence in enumerate(flat) if sentence.text]
    rules = Rules(params.max_gap_words, params.fuzzy_min_ratio)
    placed = place(params.strategy, [flat[n] for n in with_text], engine, rules)
    answers = dict(zip(with_text, placed, strict=True))
    damage = _markup_damage([flat[n] for n in with_text], placed, engine) if params.markup_damage else []
    by_sentence = dict(zip(with_text, damage, strict=False))
    tokenise = tokeniser_of(params.target_lang, params.analyser)
    records, at = [], 0
    for document, sentences in zip(documents, sources, strict=True):
        target = Target(document)
        for source in sentences:
            _add_sentence(target, source, answers.get(at, NO_SENTENCE), tokenise, params)
            target.markup += [by_sentence[at]] if at in by_sentence else []
            at += 1
        records.append(record_of(target, sentences, params, chosen(params.strategy, engine)))
    return records


def _markup_damage(
    sentences: Sequence[SourceSentence], placed: Sequence[TargetSentence], engine: Translator
) -> list[float]:
    """chrF of every translation against that of the text without marks: what marking itself changes."""
    without = engine.translate([plain(sentence.text) for sentence in sentences])
    return [round(chrf([(target.text, other.text)]), 4) for target, other in zip(placed, without, strict=True)]


def _add_sentence(
    target: Target, source: SentenceMentions, answer: TargetSentence, tokenise: Tokeniser, params: TransferParams
) -> None:
    """Tokens and spans of one translated sentence; a failed one keeps its source text and loses its mentions."""
    text = source.sentence.text
    checked = check_sentence(text, answer.text, answer.error, is_unspaced(params.target_lang))
    target.flags.append(checked.flags)
    target.ratios.append(checked.ratio)
    target.raws.append(answer.raw)
    target.words.append(answer.words)
    if checked.failed:
        target.sentences.append(target.source.sentences[len(target.sentences)])
        target.statuses.update(dict.fromkeys(source.keys, "lost"))
        return
    found = Analysed(answer.text, tokenise(answer.text), params.target_lang)
    target.sentences.append(tuple(answer.text[start:end] for start, end in found.spans))
    for key, placed in zip(source.keys, answer.placed, strict=True):
        where = None if placed.span is None else found.tokens_of(placed.span, params.trims_particles)
        _add_mention(target, key, placed, where, found)


class Analysed:
    """A translated sentence with its tokens."""

    def __init__(self, text: str, morphemes: Sequence[Morpheme], language: str) -> None:
        self.text, self.morphemes, self.language = text, morphemes, language
        self.spans = [morpheme.span for morpheme in morphemes]

    def tokens_of(self, span: Span, trims_particles: bool) -> tuple[int, int] | None:
        """Whole tokens of a span without stray signs and, in Japanese, particles; None where it touches none."""
        touched = snap(self.spans, trimmed(self.text, span))
        if trims_particles and touched is not None:
            whole = Span(self.spans[touched[0]].start, self.spans[touched[1] - 1].end)
            touched = snap(self.spans, without_particles(self.morphemes, whole))
        return touched


def _add_mention(
    target: Target, key: tuple[int, int], placed: Placed, where: tuple[int, int] | None, found: Analysed
) -> None:
    """Keep a mention that names something."""
    if where is None:
        target.statuses[key] = "lost"
        return
    start, end = where
    target.statuses[key] = placed.status
    target.spans[key] = (len(target.sentences) - 1, start, end)
    target.names[key] = found.text[found.spans[start].start : found.spans[end - 1].end]
    particles = [morpheme.is_particle for morpheme in found.morphemes[start:end]]
    if is_only_function_words(target.names[key], found.language, particles):
        target.only_function_words.add(key)
