"""What training and decoding read: windows, examples, prompts of files, records by line."""

import json

import numpy as np
import pytest

from shared.jobs.catalog.layerskip import GenerateParams
from shared.jobs.errors import InvalidInput
from shared.models.llama import LlamaConfig
from workers.layerskip.corpus import IGNORED, Examples, Stream, looks_like_data, read_corpus
from workers.layerskip.models import Opened
from workers.layerskip.packing import csv_of, tar_of
from workers.layerskip.prompts import read_prompts
from workers.layerskip.records import read_records
from workers.layerskip.tokenising import Bytes, Streamed

MODEL, FILE = (f"file:{letter * 64}" for letter in "ab")


def stream(length=1000):
    return Stream(np.arange(length, dtype=np.int64), "text")


# Windows --------------------------------------------------------------------------------------------------------------


def test_targets_are_the_next_tokens():
    batch = stream().drawn(np.random.default_rng(0), 4, 16)
    assert batch.ids.shape == batch.targets.shape == (4, 16)
    assert (batch.targets == batch.ids + 1).all()


def test_a_batch_depends_on_its_generator_alone():
    one, again = (stream().drawn(np.random.default_rng([5, 7]), 4, 16) for _ in "ab")
    other = stream().drawn(np.random.default_rng([5, 8]), 4, 16)
    assert (one.ids == again.ids).all()
    assert not (one.ids == other.ids).all()


def test_held_out_windows_spread_from_the_first_token_to_the_last():
    windows = stream(1001).spread(5, 100)
    assert [int(window.ids[0, 0]) for window in windows] == [0, 225, 450, 675, 900]
    assert int(windows[-1].targets[0, -1]) == 1000


def test_a_short_text_has_fewer_windows_than_asked_for():
    assert len(stream(250).spread(64, 100)) == 2


def test_the_last_twentieth_is_held_out():
    training, held_out = stream(1000).halves()
    assert (len(training.ids), held_out.ids[0]) == (950, 950)


@pytest.mark.parametrize("length", [100, 99])
def test_a_text_needs_a_window_and_its_last_target(length):
    if length < 100:
        stream(100).check(length)
        return
    with pytest.raises(InvalidInput, match="has 100 tokens, a block takes 101"):
        stream(100).check(length)


# Examples -------------------------------------------------------------------------------------------------------------


def examples(*pairs):
    encode = Bytes().encode
    return Examples([(encode(prompt), encode(response)) for prompt, response in pairs], "pairs")


def test_loss_is_on_responses_and_padding_has_none():
    batch = examples(("ab", "cd"), ("e", "fghi")).spread(2, 100)
    assert batch[0].targets.tolist() == [[IGNORED, *b"cd"]]
    assert batch[1].ids.tolist() == [list(b"efgh")]
    drawn = examples(("ab", "cd"), ("e", "fghi")).drawn(np.random.default_rng(0), 8, 100)
    shorter = [row for row, ids in zip(drawn.targets.tolist(), drawn.ids.tolist(), strict=True) if ids[0] == ord("a")]
    assert all(row[-1] == IGNORED for row in shorter)


def test_long_examples_are_cut_at_the_block():
    (batch,) = examples(("a" * 10, "b" * 10)).spread(1, 12)
    assert batch.ids.shape == (1, 12)
    assert batch.targets.tolist()[0][-3:] == [ord("b")] * 3


def test_a_prompt_longer_than_the_block_leaves_nothing_to_score():
    (batch,) = examples(("a" * 10, "b")).spread(1, 5)
    assert set(batch.targets.tolist()[0]) == {IGNORED}


def test_a_response_ends_with_the_models_end_token(tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "a", "response": "b"}))
    corpus = read_corpus(tmp_path / "p.jsonl", "p", Bytes(), True, "response", (7, 8))
    assert corpus.pairs[0][1].tolist() == [ord("b"), 7]


def test_a_stream_of_pairs_is_prompt_tab_response_newline(tmp_path):
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": p, "response": r}) for p, r in ("ab", "cd")))
    corpus = read_corpus(tmp_path / "p.jsonl", "p", Bytes(), True, "all", ())
    assert Bytes().decode(corpus.ids.tolist()) == "a\tb\nc\td\n"


@pytest.mark.parametrize(
    ("content", "is_data"),
    [('{"prompt": "a"}\n', True), ('{"text": "a"}\n', False), ("{ not json\n", False), ("plain\n", False), ("", False)],
)
def test_data_is_told_from_text_by_its_first_line(tmp_path, content, is_data):
    (tmp_path / "f").write_text(content)
    assert looks_like_data(tmp_path / "f") is is_data


# Records --------------------------------------------------------------------------------------------------------------


def test_records_keep_their_line_numbers_over_empty_lines(tmp_path):
    (tmp_path / "r").write_text('{"a": 1}\n\n   \n{"a": 2}\n')
    assert list(read_records(tmp_path / "r", "r")) == [(1, {"a": 1}), (4, {"a": 2})]


# Prompts of files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def read(context, tmp_path):
    """The prompts of a file by some parameters."""

    def make(content, **params):
        (tmp_path / "prompts").write_text(content)
        ctx = context(tmp_path / "ctx", {FILE: tmp_path / "prompts"})
        opened = Opened(MODEL, tmp_path, "0", LlamaConfig(256, 8, 8, 2, 1, 1, 8, context=4096), Bytes())
        return read_prompts(GenerateParams(**{"model": MODEL, "prompts": FILE, **params}), opened, ctx)

    return make


def texts(prompts):
    return [Bytes().decode(prompt.ids) for prompt in prompts]


def lines(count, **more):
    return "\n".join(json.dumps({"prompt": f"p{n}", "response": f"r{n}", **more}) for n in range(count))


def test_without_shuffling_prompts_come_in_the_files_order(read):
    found = read(lines(5), random_shuffle=False, num_samples=3)
    assert texts(found) == ["p0", "p1", "p2"]
    assert [prompt.reference for prompt in found] == ["r0", "r1", "r2"]


def test_shuffling_depends_on_the_seed_and_samples_come_after_it(read):
    one, again, other = (texts(read(lines(20), num_samples=6, seed=seed)) for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one)) == 6


def test_examples_come_before_each_prompt_and_are_not_answered(read):
    found = read(lines(4), n_shot=2, random_shuffle=False)
    assert texts(found) == ["p0r0\n\np1r1\n\np2", "p0r0\n\np1r1\n\np3"]


def test_examples_that_leave_nothing_to_answer_are_refused(read):
    with pytest.raises(InvalidInput, match="n_shot 4 leaves none of 4 lines to answer"):
        read(lines(4), n_shot=4)


def test_a_hundred_words_are_the_prompt_and_the_rest_the_reference(read):
    words = [f"w{n}" for n in range(130)]
    (found,) = read(" ".join(words), prompt_format="lm", max_new_tokens=30)
    assert texts([found]) == [" ".join(words[:100])]
    assert found.reference == " ".join(words[100:])


def test_pieces_by_tokens_follow_each_other(read):
    found = read("abcdefghij" * 3, prompt_format="lm", prompt_tokens=4, max_new_tokens=6, random_shuffle=False)
    assert texts(found) == ["abcd"] * 3
    assert [prompt.reference for prompt in found] == ["efghij"] * 3


@pytest.mark.parametrize(
    ("form", "record", "prompt", "reference"),
    [
        ("cnn_dm", {"article": "A.", "highlights": "B."}, "Article: A.\nSummary:", " B."),
        ("xsum", {"document": "A.", "summary": "B."}, "Article: A.\nSummary:", " B."),
        ("humaneval", {"prompt": "def f():", "canonical_solution": " pass"}, "def f():", " pass"),
    ],
)
def test_the_fields_templates_are_the_official_benchmarks(read, form, record, prompt, reference):
    (found,) = read(json.dumps(record), prompt_format=form)
    assert (texts([found]), found.reference) == ([prompt], reference)


def test_a_prompt_may_have_no_reference(read):
    (found,) = read('{"prompt": "a"}')
    assert found.reference is None


# Streams of text ------------------------------------------------------------------------------------------------------


def test_a_character_cut_in_two_is_said_with_its_second_half():
    streamed, (first, second) = Streamed(Bytes()), "é".encode()
    assert streamed.more([ord("a"), first]) == "a"
    assert streamed.more([second, ord("b")]) == "éb"


def test_ids_that_are_no_byte_are_passed_over():
    assert Bytes().decode([65, 300, 66]) == "AB"
    assert Streamed(Bytes()).more([65, 300]) == "A"


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_tar_is_the_same_bytes_in_any_order_of_files():
    assert tar_of({"a": b"1", "b": b"2"}) == tar_of({"b": b"2", "a": b"1"})


def test_a_table_leaves_undefined_cells_empty_and_further_fields_out():
    assert csv_of(("a", "b"), [{"a": 1, "b": None, "c": 3}]) == "a,b\n1,\n"
