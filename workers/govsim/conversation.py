"""One month's discussion: who has said what, who speaks next, and when it is over.

The first agent opens it, after the moderator's report. Whoever speaks tells whether the conversation ends with it and,
if not, names the next speaker (itself allowed). It is over as well when it has `max_steps` utterances, the report
counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.govsim.prompts import Line
from workers.govsim.talk import MODERATOR

FOCUS_UTTERANCES = 4  # last ones that memories are retrieved for


@dataclass(frozen=True)
class Utterance:
    """What was said, and where the prompt that made it stands."""

    agent: int | None  # None: the moderator
    name: str
    text: str
    key: str | None = None  # of the model call; None: no model was asked

    @property
    def line(self) -> Line:
        """As prompts tell it."""
        return Line(self.name, self.text)


@dataclass
class Conversation:
    """A discussion under way."""

    names: Sequence[str]  # of the participants, in order
    max_steps: int
    said: list[Utterance] = field(default_factory=list)
    speaker: int = 0  # who speaks next
    ended: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nobody speaks any more."""
        return self.ended or len(self.said) >= self.max_steps

    @property
    def lines(self) -> list[Line]:
        """The conversation so far as prompts tell it."""
        return [utterance.line for utterance in self.said]

    @property
    def focal_points(self) -> list[str]:
        """What the speaker's memories are retrieved for: the last utterances, and nothing in particular."""
        return ["", *(utterance.text for utterance in self.said[-FOCUS_UTTERANCES:])]

    def report(self, text: str) -> None:
        """The moderator's report opens the conversation."""
        self.said.append(Utterance(None, MODERATOR, text))

    def say(self, utterance: Utterance, ends: bool, next_speaker: int) -> None:
        """Add what the speaker said."""
        self.said.append(utterance)
        self.ended, self.speaker = ends, next_speaker

    def own_utterances(self) -> int:
        """How many of them were agents' own."""
        return sum(utterance.agent is not None for utterance in self.said)
