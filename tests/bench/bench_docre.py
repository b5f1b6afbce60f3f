"""Transfer of real documents, beside the engine's bare pipeline and what others would run, in one run.

    ./tenfold bench docre [--quick]

Documents per CPU-second: our own processes and all of the engine's are counted. Peers: `apertium -f html` with tags
around mentions, a process per sentence (timed on some sentences, told per document); plain translation and eflomal;
for neural engines MultiTACRED's loop, a sentence at a time, a failed request skipped. Documents are
`$TENFOLD_REAL_DATA/docre_transfer/redocred_test.json`, or our own without it.
"""

import os
import random
import statistics
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from shared.data import relation_documents
from shared.jobs.catalog.docre.transfer import TransferParams
from shared.jobs.errors import InvalidInput
from shared.relations.documents import Document, document_of, read_documents
from tests.bench.docre_peers import Send, by_eflomal, eflomal_is_missing, html_call, html_names, looped
from workers.docre.placing import place
from workers.docre.runs import SourceSentence, sentences_of
from workers.docre.shards import transfer_shard
from workers.docre.targets import Rules
from workers.docre.transferring import transfer_documents
from workers.docre.translators import plain
from workers.docre.translators.apertium import ApertiumTranslator

SHARD = 50
TOY_SENTENCES = 300
FAILS_EVERY = 5  # requests
LOOP_BATCH = 8  # sentences
Row = dict[str, Any]
UNIT = "documents/CPU-s"


def rows(quick: bool = False) -> list[Row]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    try:
        engine = ApertiumTranslator("eng", "spa", 600)
    except InvalidInput as missing:
        return [_skipped("transfer eng→spa", str(missing)), *neural_rows(quick)]
    documents = _documents()[: 20 if quick else 100]
    shards = [documents[n : n + SHARD] for n in range(0, len(documents), SHARD)]
    sentences = [[each.sentence for d in shard for each in sentences_of(d)] for shard in shards]
    return [*_engine_rows(shards, sentences, engine, 1 if quick else 5), *neural_rows(quick)]


def _engine_rows(
    shards: Sequence[Sequence[Document]], sentences: list[list[SourceSentence]], engine: ApertiumTranslator, rounds: int
) -> list[Row]:
    """Speed and recovery through Apertium."""
    params, count = TransferParams(documents="builtin:docre-train"), sum(map(len, shards))
    ours, bare = [], []
    for _ in range(rounds):  # one after another in each round: a busy machine slows both
        ours.append(_rate(count, lambda: [transfer_shard(shard, engine, params) for shard in shards]))
        bare.append(_rate(count, lambda: [engine.translate([plain(s.text) for s in own]) for own in sentences]))
    flat = [sentence for own in sentences for sentence in own]
    some = flat[:: 40 if rounds == 1 else 10]
    answers: list[str] = []
    calls = _rate(len(some), lambda: answers.extend(html_call(sentence) for sentence in some))
    records = [record for shard in shards for record in transfer_documents(shard, engine, params)]
    statuses = [row["status"] for record in records for row in record["provenance"]]
    recovery = 1 - statuses.count("lost") / len(statuses)
    tags, exact = _html_recovery(some, answers, engine)
    what = f"transfer of {count} documents eng→spa"
    return [
        _row(what, ours, statistics.median(bare), "the bare pipeline, no annotations", UNIT, 0.8),
        _row(what, ours, calls * count / len(flat), f"an apertium call per sentence ({len(some)} of them)", UNIT, 50.0),
        _row(f"mentions recovered, of {len(statuses)}", [recovery], tags, "tags in HTML", "share", 1.0),
        _row("mentions whose text is the engine's own", [1.0], exact, "tags in HTML", "share", None),
        *_eflomal_rows(what, ours, sentences, engine),
        _row("most resident memory, engine included", [_peak_mib(lambda: transfer_shard(shards[0], engine, params))],
             _peak_mib(lambda: html_call(some[0])), "one apertium call", "MiB", None),
    ]  # fmt: skip


def _html_recovery(
    sentences: Sequence[SourceSentence], answers: Sequence[str], engine: ApertiumTranslator
) -> tuple[float, float]:
    """Of HTML's runs: the share whose tags come back around text, and whose text is that of word provenance."""
    recovered, exact = [], []
    for sentence, answer in zip(sentences, answers, strict=True):
        (target,) = engine.translate([sentence.chunks()])
        own = html_names(answer, len(sentence.runs))
        pieces = target.pieces or ()
        for run, name in enumerate(own):
            places = [piece for piece in pieces if run in piece.runs]
            text = target.text[places[0].start : places[-1].end] if places else None
            recovered.append(name is not None)
            exact.append(name is not None and name == text)
    return statistics.mean(recovered or [1]), statistics.mean(exact or [1])


def _eflomal_rows(
    what: str, ours: list[float], sentences: list[list[SourceSentence]], engine: ApertiumTranslator
) -> list[Row]:
    """Plain translation, aligned by eflomal."""
    if why := eflomal_is_missing():
        return [_skipped(f"{what}, beside plain translation + eflomal", why)]
    kept: list[Any] = []

    def work() -> None:
        for own in sentences:
            kept.append(by_eflomal(own, engine.translate([plain(sentence.text) for sentence in own])))

    documents = int(what.split()[2])
    rate = _rate(documents, work)
    reference = [target for own in sentences for target in place("provenance", own, engine, Rules())]
    names = [
        [None if p.span is None else t.text[p.span.start : p.span.end] for p in t.placed]
        for t in (target for shard in kept for target in shard)
    ]
    wanted = [[None if p.span is None else t.text[p.span.start : p.span.end] for p in t.placed] for t in reference]
    pairs = [pair for a, b in zip(names, wanted, strict=True) for pair in zip(a, b, strict=True)]
    recovered = statistics.mean(own is not None for own, _ in pairs)
    exact = statistics.mean(own == other for own, other in pairs)
    name = "plain translation + eflomal"
    return [
        _row(what, ours, rate, name, UNIT, 3.0),
        _row("mentions recovered", [1.0], recovered, name, "share", None),
        _row("mentions whose text is the engine's own", [1.0], exact, name, "share", None),
    ]


# Neural and HTTP engines ----------------------------------------------------------------------------------------------


def neural_rows(quick: bool = False) -> list[Row]:
    """The same checkpoint in batches and a sentence at a time; the same failing server, tried again and skipped."""
    try:
        from tests.toy_translation import pair, trained_checkpoint
        from workers.docre.translators.seq2seq import Seq2SeqTranslator
    except ImportError as missing:
        return [_skipped("neural engine", str(missing))]
    with tempfile.TemporaryDirectory() as folder:
        engine = Seq2SeqTranslator(trained_checkpoint(Path(folder)), "0" * 64, "eng", "toy")
        rng = random.Random(0)
        unique = dict.fromkeys(pair(rng)[0] for _ in range(5000))  # none twice: a repeated one is translated once
        texts = [plain(text) for text in list(unique)[: 60 if quick else TOY_SENTENCES]]
        ours, loop = [], []
        for _ in range(1 if quick else 3):
            ours.append(_rate(len(texts), lambda: engine.translate(texts)))
            loop.append(_rate(len(texts), lambda: [engine.translate([text]) for text in texts]))
    batched = _row(
        "a small seq2seq model", ours, statistics.median(loop), "a sentence at a time", "sentences/CPU-s", None
    )
    return [batched, lost_row()]


def lost_row() -> Row:
    """Documents that lack a sentence after a server has failed at every 5th request, each time once."""
    from shared.jobs.local import LocalContext
    from tests.translation_server import TranslationServer
    from workers.docre.jobs import transfer

    documents = [document_of(value) for value in relation_documents.documents("train")]
    with tempfile.TemporaryDirectory() as folder, TranslationServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.fails_every = FAILS_EVERY
        texts = [[each.sentence.text for each in sentences_of(document)] for document in documents]
        lost = looped(texts, Send(server.url), LOOP_BATCH)
        (Path(folder) / "endpoints.json").write_text(f'{{"lab": {{"base_url": "{server.url}", "protocol": "deepl"}}}}')
        os.environ["TENFOLD_ENDPOINTS"] = str(Path(folder) / "endpoints.json")
        ctx = LocalContext(Path(folder) / "out")
        params = {
            "documents": "builtin:docre-train",
            "backend": "http",
            "translator": "endpoint:lab/any",
            "shard_size": 4,
        }
        result = transfer(TransferParams(**params), ctx)  # type: ignore[arg-type]
        ctx.close()
        del os.environ["TENFOLD_ENDPOINTS"]
        server.shutdown()
        thread.join()
    share = 1 - result.documents_out / len(documents)
    what = f"documents lost, of {len(documents)}, a server failing every {FAILS_EVERY}th request"
    return {
        **_row(what, [share], None, f"a loop that skips failed batches of {LOOP_BATCH}", "share", 0.0),
        "peer": lost / len(documents),
    }


def _peak_mib(work: Callable[[], Any]) -> float:
    """The most that this process and its children hold together meanwhile, looked at every 10 ms."""
    own, peak, done = psutil.Process(), [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            held = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.Error):
                    held += process.memory_info().rss
            peak[0] = max(peak[0], held / 2**20)

    thread = threading.Thread(target=look)
    thread.start()
    work()
    done.set()
    thread.join()
    return peak[0]


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
