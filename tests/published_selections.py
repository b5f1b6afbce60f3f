"""The selections that the paper's authors publish with their code, and ours beside them.

The nine of P3 (k = 5) are facts short enough to be listed. Those of natural instructions (k = 70, 33 targets) are read
from a clone of the authors' repository, where somebody has put one: `$TENFOLD_REAL_DATA/insta/official`.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

P3 = {
    "anli": "paws wiki_qa qqp adversarial_qa quartz", "cb": "paws wiki_qa adversarial_qa trec quartz",
    "rte": "paws wiki_qa qqp quail ropes", "copa": "quarel cosmos_qa quail qasc social_iqa",
    "hellaswag": "paws common_gen quail cosmos_qa wiki_qa",
    "storycloze": "imdb rotten_tomatoes cosmos_qa ag_news wiki_hop", "wic": "qqp mrpc paws adversarial_qa quoref",
    "winogrande": "quail cosmos_qa qasc trec cos_e", "wsc": "paws adversarial_qa wiki_qa trec quoref",
}  # fmt: skip
"""INSTA without alignment."""
P3_ALIGNED = {
    "anli": "paws wiki_qa quartz wiqa adversarial_qa", "cb": "paws wiki_qa quartz wiqa adversarial_qa",
    "rte": "paws wiki_qa qqp wiqa quartz", "copa": "qasc cosmos_qa quail quarel social_iqa",
    "hellaswag": "quail cosmos_qa quartz wiki_hop sciq", "storycloze": "cosmos_qa cos_e quail quarel qasc",
    "wic": "qqp mrpc paws qasc wiki_qa", "winogrande": "social_iqa qasc cos_e wiki_hop sciq",
    "wsc": "paws wiki_qa adversarial_qa qqp quoref",
}  # fmt: skip
NATURAL_K = 70
CLONE = "official"
TARGET = re.compile(r"_(task\d+)$")


class Published(NamedTuple):
    """One target's selection, by ids of our file of natural instructions."""

    target: str
    selected: list[str]


def natural_instructions(real: Path, ids: Iterable[str]) -> list[Published] | None:
    """Selections of the targets that `ids` hold; None without a clone. A name that is no task (two of them are glued
    together) matches none of ours."""
    folder = real / CLONE / "run_configs" / "niv2"
    if not folder.is_dir():
        return None
    by_number = {task_id.removeprefix("niv2/").partition("_")[0]: task_id for task_id in ids}
    found = []
    for file in sorted(folder.rglob("*.json")):
        number = TARGET.search(file.stem)
        if number and number[1] in by_number:
            names = json.loads(file.read_text(encoding="utf-8"))["dataset_lists"]
            selected = [f"niv2/{name.rpartition('/')[2]}" for name in names]
            found.append(Published(by_number[number[1]], selected))
    return found
