"""The marking strategies: how a mention is found again in the translation of its sentence.

`provenance` asks the engine where words went; `tags`, `brackets` and `placeholder` write marks into the text; `locate`
looks for the mention's own translation; `align` follows word alignments. All end in one `Placed` per mention.
"""

from collections.abc import Sequence

from workers.docre.locating import by_alignment, by_location, by_location_or_alignment
from workers.docre.marking import by_brackets, by_placeholder, by_provenance, by_tags
from workers.docre.runs import SourceSentence
from workers.docre.targets import Place, Rules, TargetSentence
from workers.docre.translators import Translator

STRATEGIES: dict[str, Place] = {
    "provenance": by_provenance,
    "tags": by_tags,
    "brackets": by_brackets,
    "placeholder": by_placeholder,
    "locate": by_location,
    "align": by_alignment,
    "locate+align": by_location_or_alignment,
}


def place(strategy: str, sentences: Sequence[SourceSentence], engine: Translator, rules: Rules) -> list[TargetSentence]:
    """Translate sentences and place their mentions by one strategy; `auto` goes by what the engine can do."""
    return STRATEGIES[chosen(strategy, engine)](sentences, engine, rules)


def chosen(strategy: str, engine: Translator) -> str:
    """The strategy that `auto` stands for."""
    if strategy != "auto":
        return strategy
    return {"provenance": "provenance", "tags": "tags", "none": "locate+align"}[engine.marks]
