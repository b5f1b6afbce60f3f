"""What a query leaves: the result within its bound, results.json and .csv, and a configuration to tune with."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from shared.jobs.catalog.insta import MAX_RESULTS, BestPair, QueryParams, QueryResult, Selected
from shared.jobs.context import JobContext
from workers.insta.index import Index
from workers.insta.selection import Selection

RESULT_BYTES = 56 * 1024
SHOWN_TEXT = 160  # characters of an instruction in the result; the artifact has all
SHOWN_CATEGORIES = 50
CSV_FIELDS = (
    "rank",
    "task_id",
    "score",
    "z",
    "category",
    "dataset",
    "cosine",
    "shared_terms",
    "duplicate_of",
    "same_dataset",
)
NATURAL_INSTRUCTIONS = "niv2"


def write_answer(ctx: JobContext, selection: Selection, params: QueryParams, index: Index) -> None:
    """results.json, results.csv and train_config.json of one query."""
    ctx.write_json("results.json", [task.model_dump() for task in selection.selected])
    ctx.write_text("results.csv", as_csv(selection.selected))
    ctx.write_json("train_config.json", train_config(selection, params, index))


def as_csv(selected: Sequence[Selected]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_FIELDS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for task in selected:
        cosine = task.best_pair.cosine if task.best_pair else None
        writer.writerow({**task.model_dump(), "cosine": cosine, "shared_terms": " ".join(task.shared_terms)})
    return text.getvalue()


def train_config(selection: Selection, params: QueryParams, index: Index) -> dict[str, Any]:
    """The paper's tuning of the selection; 5e-5 and 5,000 rows per task are for natural instructions."""
    natural = any(
        index.task(int(number)).source == NATURAL_INSTRUCTIONS
        for number in selection.scored.ranking.tasks[: len(selection.selected)]
    )
    return {
        "dataset_lists": [task.task_id for task in selection.selected],
        "model": "google/t5-xl-lm-adapt", "epochs": 3, "learning_rate": 5e-5 if natural else 1e-4, "batch_size": 256,
        "gradient_accumulation": 1, "max_input_tokens": 768, "max_output_tokens": 256, "precision": "bf16",
        "rows_per_task": 5_000 if natural else None, "seed": 42,
        "selected_by": {"method": params.method, "aggregate": params.aggregate, "k": selection.k,
                        "index_version": index.version},
    }  # fmt: skip


def result_of(selection: Selection, index: Index) -> QueryResult:
    """The result; a long selection is cut to what fits."""
    categories = [share.model_copy(update={"category": share.category and share.category[:100]})
                  for share in selection.categories[:SHOWN_CATEGORIES]]  # fmt: skip
    return QueryResult(
        results=within_bound(selection.selected), selected=len(selection.selected), queries=1, k=selection.k,
        candidates=selection.candidates, categories=categories, margin=selection.margin,
        background=selection.background, warnings=[text[:500] for text in selection.warnings[:20]],
        index_version=index.version,
    )  # fmt: skip


def within_bound(selected: Sequence[Selected], most_bytes: int = RESULT_BYTES - 8 * 1024) -> list[Selected]:
    """At most 100 tasks, texts shortened, as many as fit the bytes."""
    shown: list[Selected] = []
    for task in selected[:MAX_RESULTS]:
        short = _shortened(task)
        most_bytes -= len(json.dumps(short.model_dump(), ensure_ascii=False).encode()) + 2
        if most_bytes < 0:
            break
        shown.append(short)
    return shown


def _shortened(task: Selected) -> Selected:
    pair = task.best_pair and BestPair(
        query_instruction=_clip(task.best_pair.query_instruction),
        task_instruction=_clip(task.best_pair.task_instruction),
        cosine=task.best_pair.cosine,
    )
    return task.model_copy(update={"best_pair": pair})


def _clip(text: str) -> str:
    return text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 1] + "…"
