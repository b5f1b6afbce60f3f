"""BM25 over instructions: Lucene's idf ln(1 + (N − df + 0.5)/(df + 0.5)), no factor (k1 + 1); k1 = 1.5, b = 0.75.

A document is one instruction. `contributions` alone needs only what the index keeps (document frequencies), so that
shared terms are explained without reading the library.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

K1, B = 1.5, 0.75
WORD = re.compile(r"\b\w\w+\b")
_COMMON = [
    "a", "about", "above", "after", "again", "against", "all", "am", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "before", "being", "below", "between", "both", "but", "by", "can", "could", "did", "do",
    "does", "doing", "down", "during", "each", "few", "for", "from", "further", "had", "has", "have", "having",
    "he", "her", "here", "hers", "herself", "him", "himself", "his", "how", "i", "if", "in", "into", "is", "it",
    "its", "itself", "just", "me", "more", "most", "my", "myself", "no", "nor", "not", "now", "of", "off", "on",
    "once", "only", "or", "other", "our", "ours", "ourselves", "out", "over", "own", "same", "she", "should", "so",
    "some", "such", "than", "that", "the", "their", "theirs", "them", "themselves", "then", "there", "these",
    "they", "this", "those", "through", "to", "too", "under", "until", "up", "very", "was", "we", "were", "what",
    "when", "where", "which", "while", "who", "whom", "why", "will", "with", "would", "you", "your", "yours",
    "yourself", "yourselves",
]  # fmt: skip
STOP_WORDS = frozenset(_COMMON)
"""English function words."""
Floats = NDArray[np.float64]


def words_of(text: str, stop_words: frozenset[str] = STOP_WORDS) -> list[str]:
    """Lower-case words of two letters or more that aren't stop words."""
    return [word for word in WORD.findall(text.lower()) if word not in stop_words]


def document_frequencies(texts: Iterable[str]) -> dict[str, Any]:
    """{documents, average_length, df}: what `contributions` needs."""
    df: Counter[str] = Counter()
    documents = length = 0
    for text in texts:
        found = words_of(text)
        documents += 1
        length += len(found)
        df.update(set(found))
    return {"documents": documents, "average_length": length / max(1, documents), "df": dict(sorted(df.items()))}


def idf(documents: int, df: int) -> float:
    return math.log(1 + (documents - df + 0.5) / (df + 0.5))


def saturation(count: float, length: float, average_length: float) -> float:
    """tf / (tf + k1·(1 − b + b·length/average))."""
    return count / (count + K1 * (1 - B + B * length / max(average_length, 1e-9)))


def contributions(query: str, text: str, terms: Mapping[str, Any]) -> dict[str, float]:
    """BM25 of one instruction for a query, word by word."""
    found = words_of(text)
    counts, asked = Counter(found), _asked(query)
    return {
        word: times * idf(terms["documents"], terms["df"].get(word, 0))
        * saturation(counts[word], len(found), terms["average_length"])
        for word, times in asked.items() if word in counts
    }  # fmt: skip


@lru_cache(maxsize=64)
def _asked(query: str) -> Mapping[str, int]:
    """How often each word is asked for: one query is compared with many texts."""
    return MappingProxyType(Counter(words_of(query)))


@dataclass(frozen=True)
class BM25:
    """Postings of all documents: per word the documents that hold it and the word's part of their scores."""

    size: int
    postings: Mapping[str, tuple[NDArray[np.int64], Floats]]

    @classmethod
    def of(cls, texts: Sequence[str], stop_words: frozenset[str] = STOP_WORDS) -> "BM25":
        documents = [words_of(text, stop_words) for text in texts]
        average = sum(map(len, documents)) / max(1, len(documents))
        found: dict[str, tuple[list[int], list[float]]] = {}
        for number, document in enumerate(documents):
            for word, count in Counter(document).items():
                numbers, parts = found.setdefault(word, ([], []))
                numbers.append(number)
                parts.append(saturation(count, len(document), average))
        return cls(len(texts), {
            word: (np.array(numbers), np.array(parts) * idf(len(texts), len(numbers)))
            for word, (numbers, parts) in found.items()
        })  # fmt: skip

    def scores(self, query: str, stop_words: frozenset[str] = STOP_WORDS) -> Floats:
        """(N,) the score of every document."""
        scores = np.zeros(self.size)
        for word, times in Counter(words_of(query, stop_words)).items():
            if word in self.postings:
                numbers, parts = self.postings[word]
                scores[numbers] += times * parts
        return scores
