"""Runs, engines' formats, projection: worked by hand, and as the real engine wrote it."""

import pytest

from shared.data import relation_documents
from shared.relations.documents import document_of
from shared.relations.text import Span
from workers.docre.aligning import align_all, grow_diag_final
from workers.docre.locating import locate
from workers.docre.marking import read_tags, tagged
from workers.docre.placing import place
from workers.docre.projection import Piece, project, snap, trimmed
from workers.docre.runs import SourceSentence, cut_runs, sentences_of
from workers.docre.targets import Rules
from workers.docre.translators import EngineInfo, Translated, text_of
from workers.docre.translators.identity import IdentityTranslator
from workers.docre.translators.wordbound import marked, parse_stream

NESTED = SourceSentence.of(["the", "University", "of", "New", "York", "City", "won"], [(1, 6), (3, 6), (3, 5)])


def test_nested_mentions_become_runs_without_nesting():
    assert [(run.start, run.end, set(run.mentions)) for run in NESTED.runs] == [
        (1, 3, {0}),
        (3, 5, {0, 1, 2}),
        (5, 6, {0, 1}),
    ]
    assert marked(NESTED.chunks()) == "the [[t:m:0]]University of[[/]] [[t:m:1]]New York[[/]] [[t:m:2]]City[[/]] won"


def test_crossing_and_identical_mentions_are_runs_too():
    assert [(r.start, r.end, set(r.mentions)) for r in cut_runs([(0, 3), (2, 5), (2, 5)])] == [
        (0, 2, {0}),
        (2, 3, {0, 1, 2}),
        (3, 5, {1, 2}),
    ]
    assert cut_runs([]) == []


def test_what_the_stream_reserves_is_escaped_and_comes_back():
    text = r"a^b $5 /x <y> {z} [w] \ @ é"
    sentence = SourceSentence.of([text], [(0, 1)])
    stream = marked(sentence.chunks())
    assert r"\$5" in stream
    assert r"\[w\]" in stream
    back = parse_stream(stream)
    assert back.text == text
    assert back.pieces == (Piece(0, len(text), frozenset({0})),)


UN = (
    "Las [[t:m:0]]Naciones Unidas[[/]] la [[t:m:1]]asamblea[[/]] [[t:m:1]]General[[/]] aprobó la [[t:m:3]]Ley[[/]] de "
    "[[t:m:3]]Derechos[[/]] [[t:m:3]]Civil[[/]] [[t:m:2]]americana[[/]] de [[t:m:4]]1964[[/]]."
)
SPLIT = (
    " Ganó el [[t:m:0]]esqueleto[[/]] global de los hombres título de [[t:m:0]]Copa[[/]] [[t:m:0]]Mundial[[/]] en "
    "[[t:m:1]]1997[[/]][[t:m:1]]-[[/]][[t:m:1]]8[[/]]."
)
LOST = " Quiere la [[t:m:1]]casa[[/]] [[t:m:1]]roja[[/]]."


@pytest.mark.parametrize(
    ("raw", "run", "start", "end", "text", "status"),
    [
        pytest.param(UN, 0, 4, 19, "Naciones Unidas", "contiguous", id="one_piece"),
        pytest.param(UN, 1, 23, 39, "asamblea General", "contiguous", id="two_pieces"),
        pytest.param(UN, 2, 72, 81, "americana", "contiguous", id="moved"),
        pytest.param(UN, 3, 50, 71, "Ley de Derechos Civil", "gap", id="a_word_joins"),
        pytest.param(UN, 4, 85, 89, "1964", "contiguous", id="number"),
        pytest.param(SPLIT, 0, 51, 63, "Copa Mundial", "split", id="most_pieces_stand"),
        pytest.param(SPLIT, 1, 67, 73, "1997-8", "contiguous", id="no_words_in_the_gap"),
        pytest.param(LOST, 1, 11, 20, "casa roja", "contiguous", id="beside_a_lost_one"),
    ],
)
def test_a_mention_is_projected_from_its_pieces(raw, run, start, end, text, status):
    answer = parse_stream(raw)
    placed = project(answer.text, answer.pieces, frozenset({run}), 3)
    assert placed == (Span(start, end), status)
    assert answer.text[start:end] == text


def test_a_dropped_pronoun_is_lost():
    answer = parse_stream(LOST)
    assert project(answer.text, answer.pieces, frozenset({0}), 3) == (None, "lost")


def test_a_piece_between_that_is_no_part_of_the_mention_splits_it():
    pieces = [Piece(0, 2, frozenset({0})), Piece(3, 5, frozenset({1})), Piece(6, 8, frozenset({0}))]
    assert project("aa bb cc", pieces, frozenset({0}), 3) == (Span(0, 2), "split")
    assert project("aa bb cc", pieces, frozenset({0, 1}), 3) == (Span(0, 8), "contiguous")


def test_an_article_that_wandered_off_is_the_last_to_be_kept():
    pieces = [Piece(0, 2, frozenset({0})), Piece(3, 5, frozenset({1})), Piece(6, 10, frozenset({0}))]
    assert project("La bb casa", pieces, frozenset({0}), 3) == (Span(6, 10), "split")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param(" Ana ", "Ana", id="space"),
        pytest.param('"Ana', "Ana", id="one_quote"),
        pytest.param('"Ana"', '"Ana"', id="both_quotes"),
        pytest.param("Ana)", "Ana", id="one_bracket"),
        pytest.param("Ana (1)", "Ana (1)", id="both_brackets"),
        pytest.param("(", "(", id="never_empty"),
    ],
)
def test_edges_lose_space_and_unpaired_signs(text, kept):
    start, end = trimmed(text, Span(0, len(text)))
    assert text[start:end] == kept


def test_spans_snap_outward_to_whole_tokens():
    tokens = [Span(0, 3), Span(4, 9), Span(9, 10)]
    assert snap(tokens, Span(5, 7)) == (1, 2)
    assert snap(tokens, Span(2, 5)) == (0, 2)
    assert snap(tokens, Span(3, 4)) is None


# Strategies -----------------------------------------------------------------------------------------------------------


class Swapping:
    """An engine without marks: a language in which every two words change places."""

    info = EngineInfo("swapping", {})
    marks = "none"

    def translate(self, segments):
        return [Translated(" ".join(self._swapped(text_of(segment).split()))) for segment in segments]

    def _swapped(self, words):
        return [word for at in range(0, len(words), 2) for word in reversed(words[at : at + 2])]


class Markup(Swapping):
    """One that reads and writes markup: tags survive, text is escaped."""

    marks = "tags"

    def translate(self, segments):
        return [Translated(text_of(segment).upper().replace("&AMP;", "&amp;")) for segment in segments]


PLAIN = SourceSentence.of(["Ada", "met", "Bob", "&", "Carl", "in", "Lund"], [(0, 1), (2, 5), (6, 7)])


@pytest.mark.parametrize(
    "strategy", ["auto", "provenance", "tags", "brackets", "placeholder", "locate", "locate+align"]
)
def test_copying_finds_every_mention_again_by_every_strategy(strategy):
    (target,) = place(strategy, [PLAIN], IdentityTranslator(), Rules())
    assert target.text == PLAIN.text
    assert [target.text[p.span.start : p.span.end] for p in target.placed] == ["Ada", "Bob & Carl", "Lund"]


def test_an_engine_that_reads_markup_gets_its_signs_escaped_and_gives_them_back():
    assert tagged(PLAIN, is_markup=True) == "<m0>Ada</m0> met <m1>Bob &amp; Carl</m1> in <m2>Lund</m2>"
    (target,) = place("auto", [PLAIN], Markup(), Rules())
    assert target.text == "ADA MET BOB & CARL IN LUND"
    assert [target.text[p.span.start : p.span.end] for p in target.placed] == ["ADA", "BOB & CARL", "LUND"]


def test_a_lost_tag_is_recovered_in_the_same_answer():
    class Forgetful(Markup):
        def translate(self, segments):
            return [Translated(t.text.replace("<M2>", "").replace("</M2>", "")) for t in super().translate(segments)]

    (target,) = place("tags", [PLAIN], Forgetful(), Rules())
    assert [p.status for p in target.placed] == ["contiguous", "contiguous", "recovered_by_align"]
    span = target.placed[2].span
    assert target.text[span.start : span.end] == "LUND"


def test_tags_without_their_other_end_are_no_piece():
    assert read_tags("a <m0>b <m1>c</m1>", False) == ("a b c", [Piece(4, 5, frozenset({1}))])


def test_alignment_learns_word_order_from_the_whole_shard():
    documents = [document_of(value) for value in relation_documents.documents("train")]
    sentences = [each.sentence for document in documents for each in sentences_of(document)]
    found = place("align", sentences, Swapping(), Rules())
    right, total = 0, 0
    for sentence, target in zip(sentences, found, strict=True):
        for mention, placed in enumerate(target.placed):
            words = set(sentence.mention_text(mention).split())
            text = target.text[placed.span.start : placed.span.end] if placed.span else ""
            right += bool(words & set(text.split()))
            total += 1
    assert right >= 0.85 * total


def test_grow_diag_final_takes_the_intersection_its_neighbours_and_free_words():
    forward, backward = {(0, 0), (1, 1), (3, 3)}, {(0, 0), (1, 2)}
    assert grow_diag_final(forward, backward) == {(0, 0), (1, 1), (1, 2), (3, 3)}


def test_an_empty_shard_aligns_to_nothing():
    assert align_all([]) == []
    assert align_all([("", "a")]) == [()]


@pytest.mark.parametrize(
    ("name", "text", "ratio", "found"),
    [
        pytest.param("Ulm", "In Ulm and Ulm", None, "Ulm", id="exact"),
        pytest.param("Ulm", "Ulmer in Ulm", None, "Ulm", id="whole_words_only"),
        pytest.param("Ulm", "Bern", None, None, id="absent"),
        pytest.param("Naciones Unidas", "las Nacion Unida aprobó", 0.7, "Nacion Unida", id="alike"),
        pytest.param("Naciones Unidas", "algo muy distinto", 0.7, None, id="not_alike_enough"),
    ],
)
def test_a_name_is_located(name, text, ratio, found):
    span = locate(name, text, [], ratio)
    assert (None if span is None else text[span.start : span.end]) == found


def test_the_second_of_two_equal_names_takes_the_second_place():
    assert locate("Ulm", "Ulm, Ulm", [Span(0, 3)], None) == (5, 8)
