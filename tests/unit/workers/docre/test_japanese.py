"""Japanese: tokens, and names without the particles that a translator left in them."""

import json
import re

import pytest

from shared.jobs.errors import InvalidInput
from shared.relations.text import Span
from workers.docre import tokenising
from workers.docre.tokenising import is_only_function_words, is_unspaced, tokeniser_of, without_particles

FOLLOWING = re.compile("からの|への|との|での|では|には|とは|へは|からは|から|より|まで|が|を|に|へ|と|で|の|は|も|や")


@pytest.fixture(scope="module")
def tokenise():
    pytest.importorskip("fugashi")
    pytest.importorskip("unidic_lite")
    return tokeniser_of("jpn", "unidic-lite")


def test_a_sentence_is_cut_where_the_analyser_cuts_it(tokenise):
    text = "東京は 日本の首都です。"
    assert [text[m.span.start : m.span.end] for m in tokenise(text)] == [
        "東京",
        "は",
        "日本",
        "の",
        "首都",
        "です",
        "。",
    ]


@pytest.mark.parametrize(
    ("text", "span", "kept"),
    [
        pytest.param("田中は東京からの手紙を読む。", Span(3, 8), "東京", id="two_particles"),
        pytest.param("田中は東京からの手紙を読む。", Span(0, 3), "田中", id="topic"),
        pytest.param("田中は東京からの手紙を読む。", Span(3, 5), "東京", id="none"),
        pytest.param("「は」と言う。", Span(1, 2), "は", id="never_empty"),
    ],
)
def test_particles_at_the_end_of_a_name_go(tokenise, text, span, kept):
    start, end = without_particles(tokenise(text), span)
    assert text[start:end] == kept


@pytest.mark.parametrize(
    ("analyser", "package", "most_damaged", "least_restored"),
    [
        pytest.param("unidic-lite", "unidic_lite", 2, 770, id="unidic_lite"),  # the specification's run: 1 and 775
        pytest.param("sudachi", "sudachidict_core", 2, 770, id="sudachi"),
        # ipadic takes として and において for one particle each, which the extension cuts in two
        pytest.param("ipadic", "ipadic", 2, 720, id="ipadic"),
    ],
)
def test_real_names_are_restored_and_hardly_any_is_damaged(real, analyser, package, most_damaged, least_restored):
    """1,073 names; 786 of them extended by the particles that follow."""
    pytest.importorskip("sudachipy" if analyser == "sudachi" else "fugashi")
    pytest.importorskip(package)
    tokenise = tokeniser_of("jpn", analyser)
    names = damaged = extended = restored = 0
    for sentence in json.loads((real / "ja_wikipedia_ner.json").read_text()):
        morphemes = tokenise(sentence["text"])
        for entity in sentence["entities"]:
            span = Span(*entity["span"])
            names += 1
            damaged += without_particles(morphemes, span) != span
            if particle := FOLLOWING.match(sentence["text"], span.end):
                extended += 1
                restored += without_particles(morphemes, Span(span.start, particle.end())) == span
    assert (names, extended) == (1073, 786)
    assert damaged <= most_damaged
    assert restored >= least_restored


def test_an_analyser_that_is_not_installed_says_what_to_install(monkeypatch):
    def missing():
        raise ImportError("no", name="sudachipy")

    monkeypatch.setattr(tokenising, "_sudachi", missing)
    tokenising._analyser.cache_clear()
    with pytest.raises(InvalidInput, match=r"analyser: sudachi needs sudachipy.* pip install sudachipy"):
        tokeniser_of("jpn", "sudachi")


def test_an_article_alone_names_nothing_in_spanish_only():
    assert is_only_function_words("La", "spa", [])
    assert not is_only_function_words("La", "fra", [])
    assert is_only_function_words("は", "jpn", [True])
    assert not is_only_function_words("東京は", "jpn", [False, True])


@pytest.mark.parametrize("language", ["zho_Hans", "zh", "tha"])
def test_a_script_without_spaces_is_taken_a_sign_at_a_time_where_there_is_no_analyser(language):
    """A whole clause as one word would swallow every name in it."""
    text = "阿达出生在 Lund，1815年。"
    tokens = [text[start:end] for (start, end), _ in tokeniser_of(language, "unidic-lite")(text)]
    assert tokens == [*"阿达出生在", "Lund", "，", "1815", *"年。"]
    assert is_unspaced(language)
    assert not is_unspaced("spa_Latn")
