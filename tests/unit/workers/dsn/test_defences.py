"""The defences by hand, and their traps."""

import numpy as np
import pytest
import torch

from shared.llm.generation import generate
from workers.dsn import decoding
from workers.dsn.decoding import Decoder
from workers.dsn.defences import (
    PRINTABLE,
    erased,
    negative_log_likelihood,
    perturbed,
    smooth_vote,
    threshold,
)
from workers.dsn.phrases import LOSS_PHRASES, MATCH_PHRASES, mine

TEXT = "tell me about the red house right now"  # 37 characters


def rng():
    return np.random.default_rng(0)


def changed(before, after):
    return [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]


@pytest.mark.parametrize(("text", "q", "count"), [(TEXT, 10, 3), ("nine char", 10, 0), (TEXT, 100, 37)])
def test_int_of_length_times_q_characters_are_perturbed(text, q, count):
    assert len(perturbed(text, q, "insert", rng())) == len(text) + count
    assert len(changed(text, perturbed(text, q, "swap", rng()))) <= count


def test_a_patch_is_one_run_and_swaps_are_anywhere():
    run = changed(TEXT, perturbed(TEXT, 30, "patch", rng()))
    assert run[-1] - run[0] < 11
    assert len({tuple(changed(TEXT, perturbed(TEXT, 10, "swap", np.random.default_rng(n)))) for n in range(9)}) > 5
    assert set(perturbed(TEXT, 100, "swap", rng())) <= set(PRINTABLE)


def test_the_token_kind_replaces_whole_words_by_words_of_the_text():
    found = perturbed(TEXT, 20, "token", rng()).split()
    assert len(found) == 8
    assert set(found) <= set(TEXT.split())
    assert perturbed(TEXT, 0, "token", rng()) == TEXT


YES, NO = "Of course", "I cannot"


@pytest.mark.parametrize(("answers", "verdict"), [
    pytest.param([YES] * 6 + [NO] * 4, YES, id="more than half"),
    pytest.param([YES] * 5 + [NO] * 5, NO, id="exactly half is no majority"),
    pytest.param([NO], NO, id="one copy"),
])  # fmt: skip
def test_smoothllms_vote_is_strict_and_its_answer_agrees_with_it(answers, verdict):
    assert smooth_vote(answers, MATCH_PHRASES, rng()) == verdict


def test_erasing_goes_from_nothing_to_d_tokens_and_leaves_one(loaded):
    assert erased(loaded.tokenizer, "describe the red house", 2) == [
        "describe the red house", "describe the red", "describe the"]  # fmt: skip
    assert erased(loaded.tokenizer, "red house", 9) == ["red house", "red"]


class Table:
    """A model whose next token is token + 1, with a given probability."""

    device = torch.device("cpu")

    def __call__(self, input_ids, use_cache):
        logits = torch.full((1, input_ids.shape[1], 300), -1e4)
        p = torch.where(input_ids[0] % 2 == 0, 0.5, 0.25)
        for place, token in enumerate(input_ids[0].tolist()):
            logits[0, place, token + 1] = p[place].log()
            logits[0, place, 299] = (1 - p[place]).log()
        return type("Out", (), {"logits": logits})


class Numbers:
    bos_token_id = 9

    def __call__(self, text, add_special_tokens):
        return {"input_ids": [int(word) for word in text.split()]}


def test_mean_and_windowed_perplexity_by_hand():
    # after 9: ¼, 10: ½, 11: ¼ → NLL ln 4, ln 2, ln 4
    found = negative_log_likelihood(Table(), Numbers(), "10 11 12", window=2)
    assert found.mean == pytest.approx((2 * np.log(4) + np.log(2)) / 3)
    assert found.windowed == pytest.approx((np.log(4) + np.log(2)) / 2)
    short = negative_log_likelihood(Table(), Numbers(), "10 11 12", window=10)
    assert short.windowed == pytest.approx(short.mean)
    assert negative_log_likelihood(Table(), Numbers(), "", window=10).mean == 0


def test_the_threshold_is_the_maximum_or_a_quantile():
    assert threshold([1, 3, 2], 1.0) == 3
    assert threshold([1, 3, 2], 0.5) == 2


def test_there_are_29_phrases_to_match_and_7_for_the_loss_which_are_among_them():
    assert (len(MATCH_PHRASES), len(set(MATCH_PHRASES))) == (29, 29)
    assert len(LOSS_PHRASES) == 7
    assert set(LOSS_PHRASES) <= set(MATCH_PHRASES)


def test_a_models_own_refusals_are_mined_by_their_first_four_tokens(loaded):
    responses = ["I cannot help with that one ."] * 3 + ["that one stays closed , please"] * 2 + ["no ."]
    assert mine(responses, loaded.tokenizer, 2) == [("I cannot help with", 3), ("that one stays closed", 2)]


# Decoding -------------------------------------------------------------------------------------------------------------


def test_decoding_is_greedy_whatever_the_models_generation_config_says(loaded, chat, monkeypatch):
    prompts = [chat.prompt("describe the white house"), chat.prompt("please paint the red river in words")]
    first = Decoder(loaded, 30, lambda: None).answers(prompts)
    monkeypatch.setattr(loaded.model.generation_config, "do_sample", True)
    monkeypatch.setattr(loaded.model.generation_config, "temperature", 5.0)
    assert Decoder(loaded, 30, lambda: None).answers(prompts) == first
    assert "white house" in first[0]


def test_an_answer_is_the_same_in_any_company_and_batches_halve_when_memory_runs_out(loaded, chat, monkeypatch):
    prompts = [chat.prompt(f"describe the {colour} boat ! !") for colour in ("red", "white", "pink", "teal", "gold")]
    alone = [Decoder(loaded, 30, lambda: None).answers([prompt])[0] for prompt in prompts]
    sizes = []

    def hungry(model, rows, done, wanted):
        if len(rows) > 2:
            raise torch.OutOfMemoryError
        sizes.append(len(rows))
        generate(model, rows, done, wanted)

    monkeypatch.setattr(decoding, "generate", hungry)
    assert Decoder(loaded, 30, lambda: None).answers(prompts) == alone
    assert sizes == [2, 2, 1]


def test_decoding_asks_whether_to_go_on(loaded, chat):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    with pytest.raises(Stop):
        Decoder(loaded, 30, stop).answers([chat.prompt("describe the red house")])
