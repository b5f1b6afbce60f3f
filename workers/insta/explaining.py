"""Why a task was selected: nearest instruction pair, shared words, doubles, the target's own data set."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.jobs.catalog.insta import BestPair, Selected
from workers.insta.bm25 import contributions
from workers.insta.index import Index
from workers.insta.library import StoredTask
from workers.insta.retrieval import Scored
from workers.insta.search import Searcher
from workers.insta.targets import Target

TERMS = 8


class Explainer:
    """Explains tasks one by one, in the order of the selection: it remembers instructions it has seen."""

    def __init__(self, index: Index, target: Target, scored: Scored, query_id: str | None = None) -> None:
        self._index, self._target, self._scored, self._query_id = index, target, scored, query_id
        self._seen: dict[str, str] = {}

    def selected(self, place: int, pair: BestPair | None = None, per_query: Sequence[float] = ()) -> Selected:
        """The task at a place (from 0) of the ranking."""
        ranking, spread = self._scored
        number = int(ranking.tasks[place])
        task = self._index.task(number)
        score = None if ranking.scores is None else float(ranking.scores[place])
        has_z = score is not None and spread is not None and spread.sd > 0
        return Selected(
            query_id=self._query_id, rank=place + 1, task_id=task.id, score=score,
            z=round((score - spread.mean) / spread.sd, 6) if has_z and score is not None and spread else None,
            category=task.category, dataset=task.dataset, best_pair=pair, per_query_scores=list(per_query),
            votes=None if ranking.votes is None else ranking.votes[place].tolist(),
            shared_terms=shared_terms(pair, self._index) if pair else [], duplicate_of=self._double(task),
            same_dataset=task.dataset is not None and task.dataset == self._target.dataset,
        )  # fmt: skip

    def explained(self, place: int, searcher: Searcher, queries: NDArray[np.float32]) -> Selected:
        """As `selected`, with the nearest pair; `queries` (m, d) as they are searched."""
        number = int(self._scored.ranking.tasks[place])
        rows = np.arange(self._index.offsets[number], self._index.offsets[number + 1])
        cosines = np.stack([searcher.exact(query, rows) for query in queries])  # (m, rows of the task)
        i, j = np.unravel_index(int(cosines.argmax()), cosines.shape)
        pair = BestPair(
            query_instruction=self._target.instructions[i],
            task_instruction=self._index.task(number).instructions[j],
            cosine=float(cosines[i, j]),
        )
        return self.selected(place, pair, [float(cosine) for cosine in cosines.max(axis=1)])

    def _double(self, task: StoredTask) -> str | None:
        earlier = next((self._seen[text] for text in task.instructions if text in self._seen), None)
        for text in task.instructions:
            self._seen.setdefault(text, task.id)
        return earlier


def shared_terms(pair: BestPair, index: Index) -> list[str]:
    """Up to eight words of both instructions, the highest BM25 contribution first."""
    parts = contributions(pair.query_instruction, pair.task_instruction, index.terms)
    return sorted(parts, key=lambda word: (-parts[word], word))[:TERMS]
