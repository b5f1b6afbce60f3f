"""A head that one library taught, asked about another: natural instructions' on FLAN's targets and P3's tasks.

FLAN's templates are targets, P3's 57 named data sets the library. What is relevant follows from FLAN's clusters and
P3's, which differ: `CLUSTERS` says which of P3's do what one of FLAN's does. FLAN's other clusters have no counterpart.
"""

import json
from pathlib import Path
from typing import Any

CLUSTERS = {
    "entailment": ["natural_language_inference"], "summarization": ["summarization"], "sentiment": ["sentiment"],
    "paraphrase": ["paraphrase_identification"], "structure_to_text": ["struct_to_text"],
    "coreference": ["coreference_resolution"], "word_disambiguation": ["word_sense_disambiguation"],
    "question_classification": ["topic_classification"], "open_domain_qa": ["closed_book_qa"],
    "reading_comprehension": ["extractive_qa", "multiple_choice_qa"], "conversational_qa": ["extractive_qa"],
    "read_comp_and_common_sense": ["multiple_choice_qa"], "common_sense": ["sentence_completion"],
}  # fmt: skip
Record = dict[str, Any]


def records(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def targets(real: Path) -> list[Record]:
    """FLAN's tasks of the clusters that P3 knows."""
    return [each for each in records(real / "flan_tasks.jsonl") if each["category"] in CLUSTERS]


def library(real: Path) -> list[Record]:
    """P3's data sets that the paper names."""
    return [each for each in records(real / "p3_tasks.jsonl") if each["role"] in ("train", "eval", "dev")]


def relations(real: Path) -> list[Record]:
    """{query_id, task_ids} of every target."""
    tasks = library(real)
    return [
        {"query_id": target["id"],
         "task_ids": [each["id"] for each in tasks if each["category"] in CLUSTERS[target["category"]]]}
        for target in targets(real)
    ]  # fmt: skip
