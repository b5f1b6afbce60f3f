"""Transfer of real documents, beside the engine's bare pipeline and beside one call per sentence, in one run.

    ./tenfold bench docre [--quick]

Documents per CPU-second: our own processes and all of the engine's are counted. The peer is what a script's author
would write: `apertium -f html` with tags around mentions, a process per sentence; it is timed on some sentences and
told per document. Documents are `$TENFOLD_REAL_DATA/docre_transfer/redocred_test.json`, or our own without it.
"""

import html
import importlib.util
import os
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.data import relation_documents
from shared.jobs.catalog.docre.transfer import TransferParams
from shared.relations.documents import Document, document_of, read_documents
from workers.docre.placing import STRATEGIES, Rules, place
from workers.docre.runs import SourceSentence, sentences_of
from workers.docre.shards import transfer_shard
from workers.docre.transferring import transfer_documents
from workers.docre.translators import plain

SHARD = 50
Row = dict[str, Any]


def rows(quick: bool = False) -> list[Row]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    try:
        from workers.docre.translators.apertium import ApertiumTranslator

        engine = ApertiumTranslator("eng", "spa", 600)
    except Exception as reason:
        return [_skipped("transfer eng→spa", str(reason))]
    documents = _documents()[: 20 if quick else 100]
    shards = [documents[n : n + SHARD] for n in range(0, len(documents), SHARD)]
    sentences = [[each.sentence for d in shard for each in sentences_of(d)] for shard in shards]
    params = TransferParams(documents="builtin:docre-train")
    rounds = 1 if quick else 3
    ours, bare = [], []
    for _ in range(rounds):  # one after another in each round: a busy machine slows both
        ours.append(_rate(len(documents), lambda: [transfer_shard(shard, engine, params) for shard in shards]))
        bare.append(
            _rate(len(documents), lambda: [engine.translate([plain(s.text) for s in own]) for own in sentences])
        )
    flat = [sentence for own in sentences for sentence in own][:: 40 if quick else 20]
    calls = _rate(len(flat), lambda: [_one_call(sentence) for sentence in flat])
    per_document = calls * len(documents) / sum(map(len, sentences))
    records = [record for shard in shards for record in transfer_documents(shard, engine, params)]
    statuses = [row["status"] for record in records for row in record["provenance"]]
    recovery = 1 - statuses.count("lost") / len(statuses)
    kept = [_tags_kept(sentence) for sentence in flat if sentence.runs]
    unit, what = "documents/CPU-s", f"transfer of {len(documents)} documents eng→spa"
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        _row(what, ours, statistics.median(bare), "the bare pipeline, no annotations", unit, 0.8),
        _row(what, ours, per_document, f"one apertium call per sentence ({len(flat)} of them)", unit, 50.0),
        _row(
            f"mentions recovered, of {len(statuses)}", [recovery], statistics.mean(kept), "tags in HTML", "share", 1.0
        ),
        _row("resident memory, this process", [mib], None, None, "MiB", None),
        *_strategy_rows(sentences, engine),
        _eflomal(),
    ]


def _strategy_rows(shards: list[list[SourceSentence]], engine: Any) -> list[Row]:
    """Every strategy on the same sentences: mentions recovered, exact against provenance, sentences unchanged."""
    plainly = [answer.text for own in shards for answer in engine.translate([plain(s.text) for s in own])]
    reference: list[list[str | None]] = []
    table = []
    for strategy in STRATEGIES:
        found = [target for own in shards for target in place(strategy, own, engine, Rules())]
        names = [[None if p.span is None else t.text[p.span.start : p.span.end] for p in t.placed] for t in found]
        reference = reference or names
        pairs = [pair for a, b in zip(names, reference, strict=True) for pair in zip(a, b, strict=True)]
        recovered = sum(own is not None for own, _ in pairs) / len(pairs)
        exact = sum(own == other for own, other in pairs) / len(pairs)
        same = sum(t.text == text for t, text in zip(found, plainly, strict=True)) / len(plainly)
        what = f"strategy {strategy}: exact {exact:.1%}, sentences unchanged {same:.1%}"
        table.append(
            _row(what, [recovered], None, None, "mentions recovered", 1.0 if strategy == "provenance" else None)
        )
    return table


def _documents() -> list[Document]:
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or Path(__file__).parents[3] / "shared" / "data")
    path = root / "docre_transfer" / "redocred_test.json"
    if path.exists():
        return read_documents(path, path.name)
    return [document_of(value) for value in relation_documents.documents("train")]


def _rate(documents: int, work: Callable[[], Any]) -> float:
    """Per CPU-second of this process and its children."""
    before = os.times()
    work()
    after = os.times()
    return documents / sum(b - a for a, b in zip(before[:4], after[:4], strict=True))


def _one_call(sentence: SourceSentence) -> str:
    marked = "".join(
        html.escape(text, quote=False) if run is None else f'<b id="{run}">{html.escape(text, quote=False)}</b>'
        for text, run in sentence.chunks()
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.html"
        source.write_text(marked)
        command = [shutil.which("apertium") or "apertium", "-f", "html", "eng-spa", str(source)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout


def _tags_kept(sentence: SourceSentence) -> float:
    """The share of runs whose tag comes back around some text."""
    found = {int(n) for n, text in re.findall(r'<b id="(\d+)">(.*?)</b>', _one_call(sentence)) if text.strip()}
    return len(found & set(range(len(sentence.runs)))) / len(sentence.runs)


def _eflomal() -> Row:
    what = "plain translation + eflomal"
    return _skipped(what, "eflomal is not installed" if importlib.util.find_spec("eflomal") is None else "not run here")


def _skipped(what: str, why: str) -> Row:
    return {"what": what, "ours": f"skipped: {why}", "peer": None, "peer_name": None, "unit": None, "ratio": None,
            "spread": None, "goal": None}  # fmt: skip


def _row(what: str, ours: list[float], peer: float | None, name: str | None, unit: str, goal: float | None) -> Row:
    middle = statistics.median(ours)
    return {
        "what": what, "ours": round(middle, 3), "peer": None if peer is None else round(peer, 3), "peer_name": name,
        "unit": unit, "ratio": round(middle / peer, 2) if peer else None,
        "spread": f"{min(ours):.3g}–{max(ours):.3g}", "goal": goal,
    }  # fmt: skip
