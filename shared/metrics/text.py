"""Generated text against references: ROUGE, BLEU, exact and JSON match, edit distance; and how far it loops.

ROUGE (Lin 2004): F1 over n-grams, or the longest common subsequence, of lower-case white-space words; punctuation stays
on its word, nothing is stemmed. BLEU-4 (Papineni et al. 2002): over the corpus, not smoothed.
"""

import json
import math
from collections import Counter
from collections.abc import Hashable, Sequence

Pairs = Sequence[tuple[str, str]]
"""(generated, reference)."""


def words(text: str) -> list[str]:
    """Lower-case white-space words."""
    return text.lower().split()


def ngrams(items: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    """How often each n-gram comes."""
    return Counter(tuple(items[start : start + n]) for start in range(len(items) - n + 1))


def f1(matched: int, generated: int, reference: int) -> float:
    """2·P·R / (P + R); 0 where nothing matches."""
    return 2 * matched / (generated + reference) if matched else 0.0


def rouge_n(generated: str, reference: str, n: int) -> float:
    """ROUGE-n F1."""
    ours, theirs = ngrams(words(generated), n), ngrams(words(reference), n)
    return f1(sum((ours & theirs).values()), sum(ours.values()), sum(theirs.values()))


def rouge_l(generated: str, reference: str) -> float:
    """ROUGE-L F1: longest common subsequence of words."""
    ours, theirs = words(generated), words(reference)
    return f1(common_subsequence(ours, theirs), len(ours), len(theirs))


def common_subsequence(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for one in a:
        diagonal = 0
        for place, other in enumerate(b, start=1):
            above = row[place]
            row[place] = diagonal + 1 if one == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]


def bleu4(pairs: Pairs) -> float:
    """Corpus BLEU-4 with one reference each: geometric mean of clipped precisions × brevity penalty; 0 if one is 0."""
    matched, total = [0] * 4, [0] * 4
    ours = theirs = 0
    for generated, reference in pairs:
        mine, other = generated.split(), reference.split()
        ours, theirs = ours + len(mine), theirs + len(other)
        for n in range(1, 5):
            counts = ngrams(mine, n)
            matched[n - 1] += sum((counts & ngrams(other, n)).values())
            total[n - 1] += sum(counts.values())
    if min(matched) == 0:
        return 0.0
    mean = sum(math.log(hits / all_) for hits, all_ in zip(matched, total, strict=True)) / 4
    return math.exp(mean + min(0.0, 1 - theirs / ours))


def exact_match(pairs: Pairs) -> float:
    """Share of equal strings, white space at the ends aside."""
    return sum(generated.strip() == reference.strip() for generated, reference in pairs) / len(pairs)


def json_match(pairs: Pairs) -> float:
    """Share equal as JSON values; what can't be read counts 0."""
    return sum(_same_json(generated, reference) for generated, reference in pairs) / len(pairs)


def _same_json(generated: str, reference: str) -> bool:
    try:
        return bool(json.loads(generated) == json.loads(reference))
    except ValueError:
        return False


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance in characters."""
    row = list(range(len(b) + 1))
    for deleted, one in enumerate(a, start=1):
        diagonal, row[0] = row[0], deleted
        for place, other in enumerate(b, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (one != other))
    return row[-1]


def text_figures(pairs: Pairs) -> dict[str, float]:
    """Every figure of this module by name; means over pairs, BLEU over the corpus. Needs a pair."""
    count = len(pairs)
    figures = {f"rouge{n}": sum(rouge_n(*pair, n) for pair in pairs) / count for n in (1, 2, 3)}
    return figures | {
        "rougeL": sum(rouge_l(*pair) for pair in pairs) / count,
        "bleu4": bleu4(pairs),
        "exact_match": exact_match(pairs),
        "json_match": json_match(pairs),
        "edit_distance": sum(edit_distance(*pair) for pair in pairs) / count,
    }


def distinct_ngrams(sequences: Sequence[Sequence[Hashable]], n: int) -> float | None:
    """Different n-grams / n-grams, mean over sequences that have one; low where text loops. None: none has one."""
    ratios = [len(counts) / sum(counts.values()) for one in sequences if (counts := ngrams(one, n))]
    return sum(ratios) / len(ratios) if ratios else None
