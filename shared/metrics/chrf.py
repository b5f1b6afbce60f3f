"""chrF (Popović 2015): F of character n-grams, n = 1 … 6, recall counting twice as much as precision (β = 2).

    chrF = (1 + β²) · P · R / (β² · P + R)

P and R are means over the orders that both sides have an n-gram of; counts are summed over the corpus first. White
space doesn't count. From 0 to 1.
"""

from collections import Counter
from collections.abc import Sequence

ORDERS = 6
BETA = 2.0


def chrf(pairs: Sequence[tuple[str, str]]) -> float:
    """Of a corpus of (generated, reference); 1 for equal texts, also for empty ones."""
    if all(generated == reference for generated, reference in pairs):
        return 1.0
    counts = [_order(pairs, n) for n in range(1, ORDERS + 1)]
    usable = [(matched, ours, theirs) for matched, ours, theirs in counts if ours and theirs]
    if not usable:
        return 0.0
    p = sum(matched / ours for matched, ours, _ in usable) / len(usable)
    r = sum(matched / theirs for matched, _, theirs in usable) / len(usable)
    return (1 + BETA**2) * p * r / (BETA**2 * p + r) if p + r else 0.0


def _order(pairs: Sequence[tuple[str, str]], n: int) -> tuple[int, int, int]:
    """Matched, generated and reference n-grams."""
    matched = ours = theirs = 0
    for pair in pairs:
        generated, reference = (_ngrams(text, n) for text in pair)
        matched += (generated & reference).total()
        ours, theirs = ours + generated.total(), theirs + reference.total()
    return matched, ours, theirs


def _ngrams(text: str, n: int) -> Counter[str]:
    bare = "".join(text.split())
    return Counter(bare[start : start + n] for start in range(len(bare) - n + 1))
