"""Both parsers on the replies that the official code was run on, and on the marked replies of real societies."""

import json

import pytest

from workers.govsim.parsing import OFFICIAL_MARKERS, Limit, Said, merge, parser_of
from workers.govsim.replies import is_readable

OFFICIAL, STRICT = parser_of("official"), parser_of("strict")
TONS = ("tons", "ton")
NAMES = ("John", "Kate", "Jack", "Emma", "Luke")


@pytest.mark.parametrize(
    ("reply", "official", "strict"),
    [
        pytest.param("So, the answer is: 7 tons", 7, 7, id="long-marker"),
        pytest.param("**Answer:** 12 tons", 12, 12, id="bold-marker"),
        pytest.param("**Answer**: 12 tons", 12, 12, id="bold-word"),
        pytest.param("Answer: 10.5 tons", 10, 10, id="parts-of-a-unit"),
        pytest.param("Answer: -5 tons", 5, 0, id="negative"),
        pytest.param("Answer: 1,000 tons", 1, 100, id="thousands"),
        pytest.param("Answer: 50/5 = 10 tons", 50, 10, id="equation"),
        pytest.param("Answer: 3 tons. Wait. Answer: 4 tons", 3, 4, id="two-answers"),
        pytest.param("Answer: 250 tons", 250, 100, id="more-than-there-is"),
        pytest.param("Answer: five tons", None, None, id="words"),
        pytest.param("answer: 8 tons", None, None, id="no-marker"),
        pytest.param("Answer: 6-7 tons", 6, 6, id="range"),
        pytest.param("Answer: between 5 and 7 tons", 5, 5, id="between"),
        pytest.param("Answer: 7 to 5 tons", 7, 5, id="range-backwards"),
        pytest.param("Answer: as one of 5 I catch 10 tons", 5, 10, id="number-beside-the-unit"),
        pytest.param("Answer:\n\n**9 tons**", 9, 9, id="on-the-next-line"),
        pytest.param("Answer: 10 tons, since 100 - 50 = 50 are left", 10, 10, id="equation-as-a-reason"),
        pytest.param("Answer: 10 tons (100 - 5*10 = 50 remain)", 10, 10, id="equation-in-brackets"),
        pytest.param("Answer: I will take 10 tons, leaving 100 - 10 = 90 tons", 10, 10, id="equation-on-the-rest"),
        pytest.param("Answer: 10 tons (5 to 8 would be too cautious)", 10, 10, id="range-that-is-not-meant"),
        pytest.param("Answer: 10, since 100 - 50 = 50 tons are left", 10, 10, id="opens-with-the-number"),
        pytest.param("Answer: 10 (leaving 50 tons)", 10, 10, id="a-bracket-holds-the-unit"),
        pytest.param("Answer: 50 tons / 5 = 10 tons each", 50, 10, id="equation-with-units"),
        pytest.param("Answer: (100 / 2) / 5 = 50 / 5 = 10", 100, 10, id="equation-without-unit"),
        pytest.param("Answer: x = 10 tons", 10, 10, id="variable"),
        pytest.param("Answer: for each of us 5 it is 50/5 = 10", 5, 10, id="equation-behind-a-number"),
        pytest.param("Answer: 5 tons to 7 tons", 5, 5, id="range-with-units"),
        pytest.param("Answer: 7 tons to 5 tons", 7, 5, id="range-with-units-backwards"),
        pytest.param("Answer: 1,000.", 1, 100, id="thousands-alone"),
        pytest.param("Answer: 1,000, since", 1, 100, id="thousands-opening"),
        pytest.param("Answer: 8 tons.\nAnswer:", 8, 8, id="an-empty-last-answer"),
        pytest.param("Answer:", None, None, id="nothing"),
        pytest.param("", None, None, id="empty"),
    ],
)
def test_a_demand_is_read(reply, official, strict):
    assert OFFICIAL.harvest(reply, None, 100, TONS) == official
    assert STRICT.harvest(reply, None, 100, TONS) == strict


@pytest.mark.parametrize(
    ("again", "official", "strict"),
    [
        pytest.param("4", 4, 4, id="the-number-alone"),
        pytest.param("Answer: 4 tons", 4, 4, id="with-its-marker"),
        pytest.param("I don't know", None, None, id="nothing"),
    ],
)
def test_a_second_reply_completes_a_demand(again, official, strict):
    assert OFFICIAL.harvest("answer: 8 tons", again, 100, TONS) == official
    assert STRICT.harvest("answer: 8 tons", again, 100, TONS) == strict


@pytest.mark.parametrize(
    ("reply", "official", "strict"),
    [
        pytest.param("Answer: N/A", Limit(None), Limit(None), id="none"),
        pytest.param("Answer: N/A (the 5 of them)", Limit(5), Limit(None), id="none-with-a-number"),
        pytest.param("Answer: 0", Limit(0), Limit(0), id="zero-is-a-limit"),
        pytest.param("Answer: 9-10 tons", Limit(9), Limit(9), id="range"),
        pytest.param("Answer: no explicit limit", Limit(None), Limit(None), id="in-words"),
        pytest.param("Answer:", None, None, id="nothing"),
        pytest.param("They agreed on 10.", None, None, id="no-marker"),
        pytest.param("Answer: No agreement, though 10 tons was proposed", Limit(10), Limit(None), id="no-agreement"),
        pytest.param("Answer: There was no agreement on 10 tons", Limit(10), Limit(None), id="there-was-none"),
        pytest.param("Answer: not explicitly stated (10 was floated)", Limit(10), Limit(None), id="not-stated"),
        pytest.param("Answer: Unspecified (between 8 and 10)", Limit(8), Limit(None), id="unspecified"),
        pytest.param("Answer: They did not agree on 10 tons", Limit(10), Limit(None), id="did-not-agree"),
        pytest.param("Answer: **N/A**, 10 tons was one idea", Limit(10), Limit(None), id="bold-none"),
        pytest.param("Answer: No", Limit(None), Limit(None), id="no"),
        pytest.param("Answer: No.\n10 was named once", Limit(10), Limit(None), id="no-with-a-stop"),
        pytest.param("Answer: no more than 10 tons", Limit(10), Limit(10), id="no-more-than"),
        pytest.param("Answer: nobody takes more than 10 tons", Limit(10), Limit(10), id="nobody-takes-more"),
        pytest.param("Answer: 10 tons, no exceptions, no other limit", Limit(10), Limit(10), id="denies-later"),
    ],
)
def test_a_limit_is_read(reply, official, strict):
    assert OFFICIAL.limit(reply, None, TONS) == official
    assert STRICT.limit(reply, None, TONS) == strict


@pytest.mark.parametrize(
    ("parser", "reply", "expected"),
    [
        pytest.param(OFFICIAL, "I saw 10.5 tons. Yes", "I saw 10", id="official-cuts-numbers"),
        pytest.param(STRICT, "I saw 10.5 tons. Yes", "I saw 10.5 tons", id="strict-keeps-them"),
        pytest.param(STRICT, "No full stop", "No full stop", id="no-stop"),
        pytest.param(STRICT, "  \n", None, id="nothing"),
        pytest.param(OFFICIAL, "", None, id="nothing-officially"),
    ],
)
def test_a_sentence_is_read(parser, reply, expected):
    assert parser.sentence(reply) == expected


@pytest.mark.parametrize("parser", [OFFICIAL, STRICT], ids=["official", "strict"])
@pytest.mark.parametrize(
    ("reply", "at_most", "expected"),
    [
        pytest.param(" A x (because of 1,2)\n2. B y (because of 3)", 3, ["A x", "B y"], id="continued"),
        pytest.param("1. A x (because of 1,2)\n2. B y (because of 3)", 3, ["A x", "B y"], id="label-repeated"),
        pytest.param("1. A\n2. B\n3. C", 2, ["A", "B"], id="no-more-than-statements"),
        pytest.param("", 2, None, id="nothing"),
    ],
)
def test_insights_lose_numbers_and_evidence(parser, reply, at_most, expected):
    assert parser.insights(reply, at_most) == expected


def test_strict_insights_keep_brackets_that_are_no_evidence_and_numbers_within():
    assert STRICT.insights("1. Take 2.5 tons (or less) each (because of 1)\n2. B", 3) == [
        "Take 2.5 tons (or less) each",
        "B",
    ]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param("Here are my insights:\n\n1. A\n2. B", ["A", "B"], id="introduced"),
        pytest.param("1. A (Memory 1, 2)\n2. B (statements 3)", ["A", "B"], id="evidence-by-its-name"),
        pytest.param("1. A [1, 2]\n2. B (from memories 1 and 3).", ["A", "B"], id="evidence-in-other-words"),
        pytest.param("**1. A**\n**2. B**", ["A", "B"], id="bold-lines"),
        pytest.param("**1.** A\n2. **B**: b (because of 1)", ["A", "B: b"], id="bold-parts"),
        pytest.param(
            "1. A (10 tons each)\n2. B (1 and 2)", ["A (10 tons each)", "B"], id="a-number-that-is-no-evidence"
        ),
    ],
)
def test_strict_insights_are_whole_and_bare(reply, expected):
    assert STRICT.insights(reply, 3) == expected


@pytest.mark.parametrize(
    ("reply", "official", "strict"),
    [
        pytest.param("Rating: 7", 7, 7, id="label"),
        pytest.param("8", 8, 8, id="number"),
        pytest.param("70", 70, 10, id="out-of-range"),
        pytest.param("0", 0, 1, id="below"),
        pytest.param("high", None, None, id="none"),
        pytest.param("On a scale from 1 to 10, I would rate this an 8.\nRating: 8", 1, 8, id="scale-and-label"),
        pytest.param("The 5 fishermen agreed. Rating: 9", 5, 9, id="number-before-the-label"),
        pytest.param("Rating: 3\nNo: **Rating:** 4", 3, 4, id="last-label"),
        pytest.param("Of 5 shepherds 2 quarrel: 7/10", 5, 7, id="out-of-ten"),
        pytest.param("I give it 7 out of 10 (1 is mundane)", 7, 7, id="out-of-ten-in-words"),
        pytest.param("I would rate it 6, on a scale of 1-10", 6, 6, id="scale-behind"),
        pytest.param(" 8, because 3 of us agreed", 8, 8, id="opened-turn"),
        pytest.param("For the 100 tons I say 4.", 100, 4, id="only-number-on-the-scale"),
    ],
)
def test_a_rating_is_read(reply, official, strict):
    assert OFFICIAL.importance(reply) == official
    assert STRICT.importance(reply) == strict


@pytest.mark.parametrize("parser", [OFFICIAL, STRICT], ids=["official", "strict"])
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(
            'Response: "Hi all"\nI conclude the conversation (yes/no): no\nNext speaker: Kate',
            Said("Hi all", False, 1), id="whole",
        ),
        pytest.param("Hi\nI conclude the conversation (yes/no): Yes", Said("Hi", True, None), id="concludes"),
        pytest.param(
            "Response: Hi\nConversation conclusion by me: no\nNext speaker: Emma", Said("Hi", False, 3),
            id="official-labels",
        ),
        pytest.param(
            "Hi\nI conclude the conversation: no\nNext speaker: nobody", Said("Hi", False, None), id="unreadable",
        ),
        pytest.param("Just words", Said("Just words", None, None), id="no-labels"),
    ],
)  # fmt: skip
def test_an_utterance_is_read(parser, reply, expected):
    assert parser.utterance(reply, NAMES) == expected


def test_strict_accepts_bold_labels_and_bracketed_names():
    reply = "**Response:** “Hi”\n**I conclude the conversation (yes/no):** no\n**Next speaker:** [Luke]"
    assert STRICT.utterance(reply, NAMES) == Said("Hi", False, 4)


def test_of_names_that_begin_alike_the_longer_is_meant():
    assert (
        STRICT.utterance("x\nI conclude the conversation: no\nNext speaker: Person 11", ["Person 1", "Person 11"])[2]
        == 1
    )


@pytest.mark.parametrize("parser", [OFFICIAL, STRICT], ids=["official", "strict"])
def test_a_name_is_a_word_of_its_own(parser):
    names = ["Ed", "Ann"]
    reply = "x\nI conclude the conversation: no\nNext speaker: I am finished; let Ann go on"
    assert parser.utterance(reply, names).next_speaker == 1
    assert merge(Said("Hi", False, None), "I am finished", parser, names).next_speaker is None


@pytest.mark.parametrize(
    ("again", "expected"),
    [
        pytest.param("no\nNext speaker: Jack", Said("Hi", False, 2), id="both"),
        pytest.param("No", Said("Hi", False, None), id="bare-conclusion"),
        pytest.param("Yes.", Said("Hi", True, None), id="bare-end"),
        pytest.param("hm", Said("Hi", None, None), id="nothing"),
        pytest.param(
            "I conclude the conversation (yes/no): I am not sure\nNext speaker: Kate",
            Said("Hi", None, 1),
            id="yes-and-no-of-the-label",
        ),
    ],
)
def test_a_second_reply_completes_an_utterance(again, expected):
    assert merge(Said("Hi", None, None), again, STRICT, NAMES) == expected


@pytest.mark.parametrize(
    "text",
    ["1-" * 10_000, "1 = " * 10_000, "((" * 10_000 + "1", "between 1 " * 4_000, " " * 30_000 + "1"],
    ids=range(5),
)
@pytest.mark.timeout(20)
def test_a_model_caught_in_a_loop_is_read_at_once(text):
    """A search that grows with the square of the reply takes minutes."""
    for parser in (OFFICIAL, STRICT):
        parser.harvest(f"Answer: {text}", None, 100, TONS)
        parser.limit(f"Answer: {text}", None, TONS)
        parser.utterance(text, NAMES)
        parser.sentence(text)
        parser.insights(f"1. {text}", 3)
        parser.importance(text)


# Real societies -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decisions(real_data):
    return [json.loads(line) for line in (real_data / "harvest_replies.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def limits(real_data):
    return [json.loads(line) for line in (real_data / "limit_replies.jsonl").read_text().splitlines()]


def is_marked(decision):
    return OFFICIAL_MARKERS.search(decision["reply"] or "") is not None


def test_the_946_marked_replies_parse_to_what_was_logged(decisions):
    marked = [one for one in decisions if is_marked(one)]
    assert len(marked) == 946
    read = [OFFICIAL.harvest(one["reply"], None, one["pool"], TONS) or 0 for one in marked]
    assert read == [one["wanted"] for one in marked]


def test_strictly_935_are_the_same_4_are_clamped_and_7_are_empty(decisions):
    outcomes = {"same": 0, "clamped": 0, "empty": 0}
    for one in filter(is_marked, decisions):
        read = STRICT.harvest(one["reply"], None, one["pool"], TONS)
        if read is None:
            assert one["wanted"] == 0
            outcomes["empty"] += 1
        elif read == one["wanted"]:
            outcomes["same"] += 1
        else:
            assert (one["wanted"] > one["pool"], read) == (True, one["pool"])
            outcomes["clamped"] += 1
    assert outcomes == {"same": 935, "clamped": 4, "empty": 7}


def test_strictly_the_lower_end_of_between_is_taken(decisions):
    between = [one for one in filter(is_marked, decisions) if "between" in one["reply"].rpartition("Answer:")[2]]
    assert [STRICT.harvest(one["reply"], None, one["pool"], TONS) for one in between] == [5, 5, 5, 5]


@pytest.mark.parametrize("parser", [OFFICIAL, STRICT], ids=["official", "strict"])
def test_the_114_replies_without_marker_or_text_can_not_be_read(decisions, parser):
    unmarked = [one for one in decisions if not is_marked(one)]
    assert len(unmarked) == 54 + 60
    assert all(parser.harvest(one["reply"] or "", None, one["pool"], TONS) is None for one in unmarked)


def test_the_importer_calls_unreadable_what_the_parsers_do(decisions):
    for one in decisions:
        readable = OFFICIAL.harvest(one["reply"] or "", None, one["pool"], TONS) is not None
        assert is_readable(one["reply"]) == readable


def test_the_200_marked_limits_parse_to_what_was_logged(limits):
    marked = [one for one in limits if "Answer:" in (one["reply"] or "")]
    assert len(marked) == 200
    read = [OFFICIAL.limit(one["reply"], None, TONS) for one in marked]
    assert [limit.units if limit else None for limit in read] == [one["limit"] for one in marked]


def test_strictly_a_limit_that_was_denied_is_none_whatever_number_follows(limits):
    """Two replies say N/A and name a number later on; all others agree with the log."""
    differ = []
    for one in limits:
        limit = STRICT.limit(one["reply"] or "", None, TONS)
        if (limit.units if limit else None) != one["limit"]:
            differ.append((one["limit"], "Answer: N/A" in one["reply"]))
    assert differ == [(10, True), (90, True)]
