"""Reading numbers, names and sentences off replies: exactly as the official code does, or carefully.

`official` keeps the official rules with their oddities (the first run of digits after the first marker: "50/5 = 10" is
50, "1,000" is 1), so that published numbers can be compared. `strict` is the default. A reader returns None where it
can't read a reply; who asked then asks once more, and in the end falls back and counts it. `parser_of` is the entry
point.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol

from shared.jobs.catalog.govsim import ParserName

OFFICIAL_MARKERS = re.compile(r"Answer:|So, the answer is:|\*\*Answer\*\*:")
OFFICIAL_LIMIT_MARKER = re.compile(r"Answer:")
STRICT_MARKER = re.compile(r"(?:\bAnswer|So, the answer is)\**\s*:\**")
DENIED = r"(?:limit|agreement|consensus|maximum|cap|quota|number|figure)"
NONE_SAID = re.compile(
    rf"""\W*(?:
        n\s*/\s*a\b | na\b | nan\b | none\b | null\b | nothing\b | never\b | unspecified\b | undefined\b
      | (?:there\s+(?:was|is|were)\s+)? no\b (?!\s+more\b)
            (?:\s*$ | \s*[.,;:(!] | \**\s*\n | \s+(?:\w+\s+){{0,4}}?{DENIED}\b)
      | (?:(?:it\s+)?(?:was|is)\s+)? not\s+(?:\w+\s+){{0,2}}?
            (?:applicable|specified|agreed|stated|mentioned|given|set|reached|determined|established|defined)\b
      | (?:(?:they|we|everyone|people|agents|the\s+\w+)\s+)? (?:did|have|has|had|could)(?:n['’]t|\s+not)\b
    )""",
    re.I | re.X,
)
"""What an answer begins with that denies a limit, whatever number follows. "No more than 10" denies none."""

NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
RANGE = re.compile(rf"({NUMBER})(?:\s*(?:-|–|—|\bto\b)|\s*[a-z]+\s+to\b)\s*({NUMBER})", re.I)
BETWEEN = re.compile(rf"between\D{{0,20}}?({NUMBER})\D{{0,40}}?\band\D{{0,20}}?({NUMBER})", re.I)
RESULT = re.compile(rf"=\D{{0,10}}?({NUMBER})")
OPENING_NUMBER = re.compile(rf"[^\w-]*({NUMBER})(?=\W*$|\s*(?:[,;.](?!\d)|\())")
"""The number that an answer opens with and leaves alone: "10", "10, since …", "10 (leaving …)"."""
ANY_NUMBER = re.compile(NUMBER)

CONCLUSION = re.compile(
    r"\**(?:I conclude the conversation|Conversation conclusion by me)\**\s*(?:\(yes/no\))?\s*:\**", re.I
)
SPEAKER = re.compile(r"\**Next speaker\**\s*:\**", re.I)
UTTERED = re.compile(r"\s*\**(?:Response|Reply)\**\s*:\**", re.I)

EVIDENCE = re.compile(
    r"\s*[(\[](?:(?:because|based|evidence|see)[^()\[\]]*"
    r"|(?:(?:from|of|on|in|by|the|and|to|memor(?:y|ies)|statements?|insights?|points?|items?|numbers?|nos?|\d+)\b"
    r"|[\s,;:.&#–—-])*)[)\]]\.?\s*$",
    re.I,
)
FIRST_POINT = re.compile(r"(?m)^\s*\**1[.)]")
POINT = re.compile(r"(?m)^\s*\**\d+[.)]\**\s+")

SCALE = re.compile(r"\b1\s*(?:-|–|—|\bto\b|\band\b)\s*10\b", re.I)
RATED = re.compile(r"\bRating\**\s*:\D{0,20}?(\d+)", re.I)
OUT_OF_TEN = re.compile(r"\b(\d+)\**\s*(?:/|\bout of\b)\s*\**10\b", re.I)
OPENING_RATING = re.compile(r"\W*(\d+)\b")
ON_SCALE = re.compile(r"(?<![\d.])(?:[1-9]|10)(?![\d]|\.\d)")

LONGEST_LINE = 1_000  # characters of an answer that are read: a model caught in a loop must not cost minutes
NO_RATING = 5  # the importance of what nobody could rate


class Said(NamedTuple):
    """An utterance as far as it could be read."""

    text: str | None
    ends: bool | None  # whether the speaker concludes; None: not said
    next_speaker: int | None  # place among the participants; None: not said


class Limit(NamedTuple):
    """What was agreed."""

    units: int | None  # None: nothing


class Parser(Protocol):
    """One way of reading replies. Each reader gives None where it can't; `again` is a second reply to the prompt."""

    name: ParserName

    def asks_again(self, reply: str, is_number: bool) -> bool:
        """Whether what could not be read off a first reply is asked for once more."""

    def harvest(self, reply: str, again: str | None, stock: int, unit_words: Sequence[str]) -> int | None:
        """Units asked for."""

    def limit(self, reply: str, again: str | None, unit_words: Sequence[str]) -> Limit | None:
        """Agreed units per person."""

    def utterance(self, reply: str, names: Sequence[str]) -> Said:
        """Text, conclusion and next speaker."""

    def sentence(self, reply: str) -> str | None:
        """The first sentence, without its full stop."""

    def insights(self, reply: str, at_most: int) -> list[str] | None:
        """Numbered insights without their evidence."""

    def importance(self, reply: str) -> int | None:
        """A rating."""


class Official:
    """The official code's rules, as run."""

    name: ParserName = "official"

    def asks_again(self, reply: str, is_number: bool) -> bool:
        """Only for a number whose marker is missing."""
        return is_number and OFFICIAL_MARKERS.search(reply) is None

    def harvest(self, reply: str, again: str | None, stock: int, unit_words: Sequence[str]) -> int | None:
        """First digits after the first marker; no clamping to the stock."""
        return _first_digits(_official_answer(OFFICIAL_MARKERS, reply, again))

    def limit(self, reply: str, again: str | None, unit_words: Sequence[str]) -> Limit | None:
        """First digits after the marker, also those of "N/A (the 5 of them)"; no digits: none was agreed."""
        answer = _official_answer(OFFICIAL_LIMIT_MARKER, reply, again)
        number = _first_digits(answer)
        return Limit(number) if number is not None or answer.strip() else None

    def utterance(self, reply: str, names: Sequence[str]) -> Said:
        """Text before the conclusion label; the first yes, no, Yes or No behind it; the first name of a participant."""
        label = CONCLUSION.search(reply)
        text = _without_label(reply[: label.start()] if label else reply)
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1]
        answer = re.search(r"yes|no|Yes|No", reply[label.end() :]) if label else None
        return Said(text, _is_yes(answer), _speaker_after(SPEAKER.search(reply), reply, names))

    def sentence(self, reply: str) -> str | None:
        return reply.partition(".")[0].strip() or None

    def insights(self, reply: str, at_most: int) -> list[str] | None:
        pieces = re.split(r"(?<!\d)(?:[2-9]|[1-9]\d+)\.", re.sub(r"\s*1\.", "", reply, count=1))
        found = [piece.partition("(")[0].strip() for piece in pieces]
        return [insight for insight in found if insight][:at_most] or None

    def importance(self, reply: str) -> int | None:
        """First integer, whatever its size."""
        return _first_digits(reply)


class Strict:
    """Ours: the last marker, the number that is meant, within its range."""

    name: ParserName = "strict"

    def asks_again(self, reply: str, is_number: bool) -> bool:
        """Always, once."""
        return True

    def harvest(self, reply: str, again: str | None, stock: int, unit_words: Sequence[str]) -> int | None:
        """The number meant behind the last marker that has one, clamped to 0..stock; a second reply may lack it."""
        found = (meant_number(text, unit_words) for text in _strict_answers(reply, again))
        number = next((number for number in found if number is not None), None)
        return None if number is None else max(0, min(number, stock))

    def limit(self, reply: str, again: str | None, unit_words: Sequence[str]) -> Limit | None:
        """Behind the last marker: "N/A" and its like are none whatever follows; else the number meant."""
        for text in _strict_answers(reply, again):
            if NONE_SAID.match(text):
                return Limit(None)
            number = meant_number(text, unit_words)
            if number is not None:
                return Limit(max(0, number))
        return None

    def utterance(self, reply: str, names: Sequence[str]) -> Said:
        """As officially, with bold labels, bracketed names and either kind of quotation marks accepted."""
        label, speaker = CONCLUSION.search(reply), SPEAKER.search(reply)
        ends_at = min((match.start() for match in (label, speaker) if match), default=len(reply))
        text = _unquoted(_without_label(reply[:ends_at]).strip("*").strip())
        answer = re.match(r"\W*(yes|no)\b", reply[label.end() :], re.I) if label else None
        return Said(text or None, _is_yes(answer), _speaker_after(speaker, reply, names))

    def sentence(self, reply: str) -> str | None:
        """Up to a period that is followed by space or the end, so that 10.5 stays whole."""
        return re.split(r"\.(?=\s|$)", reply.strip(), maxsplit=1)[0].strip() or None

    def insights(self, reply: str, at_most: int) -> list[str] | None:
        """From the line that begins with 1., where there is one: what stands before it introduces."""
        first = FIRST_POINT.search(reply)
        text = reply[first.start() :] if first else f"1. {reply}"
        pieces = (_first_paragraph(piece).replace("**", "") for piece in POINT.split(text)[1:])
        found = [EVIDENCE.sub("", piece).strip() for piece in pieces]
        return [insight for insight in found if insight][:at_most] or None

    def importance(self, reply: str) -> int | None:
        """Behind the last label; else "n/10", the number that opens the reply, or the last one on the scale. Clamped to
        1..10.
        """
        text = SCALE.sub("", reply)
        for pattern in (RATED, OUT_OF_TEN):
            if found := pattern.findall(text):
                return _on_scale(found[-1])
        if opening := OPENING_RATING.match(text):
            return _on_scale(opening[1])
        rated = ON_SCALE.findall(text) or re.findall(r"\d+", text)
        return _on_scale(rated[-1]) if rated else None


def parser_of(name: ParserName) -> Parser:
    """The parser of that name."""
    return Official() if name == "official" else Strict()


def meant_number(text: str, unit_words: Sequence[str]) -> int | None:
    """The number an answer means, whole units, read on the first line that has a number: the one it opens with, or the
    first beside the unit; if that is part of "a/b = c", c, and if it is an end of a range, the lower end.

    Where no number is singled out so, the line's last result, its first range or its first number.
    """
    line = next((line for line in text.splitlines() if ANY_NUMBER.search(line)), "")[:LONGEST_LINE]
    unit = "|".join(unit_words)
    beside = re.compile(rf"({NUMBER})\W{{0,4}}(?:{unit})(?!\w)", re.I)
    meant = OPENING_NUMBER.match(line) or beside.search(line)
    if meant is None:
        return _unspecified_number(line)
    at = meant.start(1)
    for equation in _equations(unit).finditer(line):
        if equation.start() <= at < equation.end():
            return _whole(ANY_NUMBER.findall(equation[0])[-1])
    for span in (*BETWEEN.finditer(line), *RANGE.finditer(line)):
        if span.start() <= at < span.end():
            return _lower_end(span)
    return _whole(meant[1])


def _unspecified_number(line: str) -> int | None:
    """Of a line whose numbers neither open it nor stand beside the unit."""
    if results := RESULT.findall(line):
        return _whole(results[-1])
    if span := BETWEEN.search(line) or RANGE.search(line):
        return _lower_end(span)
    first = ANY_NUMBER.search(line)
    return _whole(first[0]) if first else None


@cache
def _equations(unit: str) -> re.Pattern[str]:
    """Numbers joined by signs of arithmetic, an equals sign, and the result: `100 / 2 / 5 = 10`, units allowed."""
    operand = rf"[\s()$]*{NUMBER}(?:\s*(?:{unit})(?!\w))?[\s()$]*"
    side = rf"{operand}(?:[-+*/×÷x]{operand})*"
    return re.compile(rf"{side}(?:[=≈]{side})+", re.I)


def _lower_end(span: re.Match[str]) -> int:
    return min(_whole(span[1]), _whole(span[2]))


def _on_scale(rating: str) -> int:
    return max(1, min(int(rating), 10))


def _official_answer(marker: re.Pattern[str], reply: str, again: str | None) -> str:
    """What follows the first marker; a second reply continues the first, which had none."""
    if again is not None:
        return again
    found = marker.search(reply)
    return reply[found.end() :] if found else ""


def _strict_answers(reply: str, again: str | None) -> list[str]:
    """What follows each answer marker, the last one's first; a second reply without one is all answer."""
    if again is not None and not STRICT_MARKER.search(again):
        return [again]
    text = reply if again is None else again
    return [text[marker.end() :] for marker in reversed(list(STRICT_MARKER.finditer(text)))]


def _whole(number: str) -> int:
    """Whole units of a number as written; parts of a unit are dropped."""
    return int(number.replace(",", "").partition(".")[0] or 0)


def _first_digits(text: str) -> int | None:
    digits = re.search(r"\d+", text)
    return int(digits[0]) if digits else None


def _is_yes(answer: re.Match[str] | None) -> bool | None:
    return answer[0].lower().endswith("yes") if answer else None


def merge(first: Said, again: str, parser: Parser, names: Sequence[str]) -> Said:
    """An utterance completed by a second reply, which may hold the labels or only what is missing."""
    second = parser.utterance(again, names)
    unlabelled = SPEAKER.sub(" ", CONCLUSION.sub(" ", again))  # the label itself says "(yes/no)"
    ends = second.ends if second.ends is not None else _is_yes(re.search(r"\b(yes|no)\b", unlabelled, re.I))
    speaker = second.next_speaker if second.next_speaker is not None else _first_named(unlabelled, names)
    return Said(
        second.text if first.text is None else first.text,
        first.ends if first.ends is not None else ends,
        first.next_speaker if first.next_speaker is not None else speaker,
    )


def _speaker_after(label: re.Match[str] | None, reply: str, names: Sequence[str]) -> int | None:
    """The participant named first behind the label."""
    return None if label is None else _first_named(reply[label.end() :], names)


def _first_named(text: str, names: Sequence[str]) -> int | None:
    """Place of the name that comes first in a text, as a word of its own; of two that start there, the longer."""
    found = {name: re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.I) for name in names}
    places = {name: match.start() for name, match in found.items() if match}
    return list(names).index(min(places, key=lambda name: (places[name], -len(name)))) if places else None


def _without_label(text: str) -> str:
    """What was said, without the label that may stand before it."""
    text = text.strip()
    label = UTTERED.match(text)
    return text[label.end() :].strip() if label else text


def _unquoted(text: str) -> str:
    pairs = ('""', "“”")
    return text[1:-1].strip() if len(text) > 1 and text[0] + text[-1] in pairs else text


def _first_paragraph(text: str) -> str:
    return " ".join(text.strip().split("\n\n")[0].split())
