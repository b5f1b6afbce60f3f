"""docre.transfer and docre.merge as jobs: shards, parts, kills, refusals."""

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
from pydantic import ValidationError

from shared.data import relation_documents
from shared.jobs.catalog.docre.transfer import MergeParams, TransferParams
from shared.jobs.errors import Cancelled, InvalidInput, Retryable
from shared.jobs.local import LocalContext
from shared.relations.documents import dump_documents
from tests.unit.workers.docre.conftest import A
from workers.docre import sharded
from workers.docre.jobs import merge, transfer
from workers.docre.shard_process import Finished
from workers.docre.shards import cut, transfer_shard
from workers.docre.transferring import transfer_documents
from workers.docre.translators import EngineInfo, Translated
from workers.docre.translators.identity import IdentityTranslator

TRAIN = "builtin:docre-train"
FILES = ("transferred.json", "provenance.jsonl", "failures.jsonl", "shards.jsonl")


def params(**fields):
    return TransferParams(**{"documents": TRAIN, "backend": "identity", "shard_size": 22, **fields})


@pytest.fixture(scope="module")
def make(tmp_path_factory, cache):
    """Transfer our documents once for all tests: `make(part=…)` gives the folder."""
    done = {}

    def make(**fields):
        key = json.dumps(fields, sort_keys=True)
        if key not in done:
            done[key] = tmp_path_factory.mktemp("made")
            ctx = LocalContext(done[key], cache=cache)
            transfer(params(**fields), ctx)
            ctx.close()
        return done[key]

    return make


def files_of(folder):
    return [(folder / name).read_bytes() for name in FILES]


def part(n, **fields):
    return {"part": {"index": n, "count": 3}, **fields}


def as_inputs(folders):
    """Each folder as the job whose id is its number."""
    return {
        f"job:{str(n) * 26}/{name}": folder / name
        for n, folder in folders.items()
        for name in ("shards.json", "shards.jsonl")
    }


def test_copying_keeps_every_document_label_and_evidence(run, out):
    result = run(transfer, params())
    assert (result.documents_out, result.mention_recovery, result.relation_retention) == (64, 1.0, 1.0)
    assert (result.shards_done, result.shards_total) == (3, 3)
    ours, theirs = out("out", "transferred.json"), relation_documents.documents("train")
    assert [d["labels"] for d in ours] == [d["labels"] for d in theirs]
    assert [d["sents"] for d in ours] == [d["sents"] for d in theirs]


def test_one_and_two_shards_at_once_give_the_same_bytes(make):
    assert files_of(make(parallel=2)) == files_of(make())


def test_parts_are_joined_to_the_same_bytes_in_any_order(make, run, tmp_path):
    inputs = as_inputs({n: make(**part(n)) for n in range(3)})
    result = run(merge, MergeParams(parts=[f"job:{str(n) * 26}" for n in (2, 0, 1)]), "merged", inputs)
    assert files_of(tmp_path / "merged") == files_of(make())
    assert (result.documents_out, result.shards_done) == (64, 3)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        pytest.param([0, 1], r"shards \[.*\] of 3 are in none of the parts", id="one_missing"),
        pytest.param([0, 1, 2, 3], "comes twice", id="one_twice"),
        pytest.param([0, 1, 4], "differ in their", id="of_another_dataset"),
    ],
)
def test_parts_that_do_not_make_a_whole_are_refused(make, run, tmp_path, parts, says):
    told = {n: part(n % 3) for n in range(4)} | {4: part(2, documents="builtin:docre-native")}
    inputs = as_inputs({n: make(**told[n]) for n in parts})
    with pytest.raises(InvalidInput, match=says):
        run(merge, MergeParams(parts=[f"job:{str(n) * 26}" for n in parts]), "merged", inputs, finish=False)
    assert not (tmp_path / "merged" / "transferred.json").exists()


def test_a_part_that_was_changed_is_refused(make, run, tmp_path):
    shutil.copytree(make(), tmp_path / "part")
    changed = tmp_path / "part" / "shards.jsonl"
    changed.write_text(changed.read_text().replace("train 3", "train X", 1))
    with pytest.raises(InvalidInput, match="is not the one that was recorded"):
        run(merge, MergeParams(parts=["job:" + "0" * 26]), "merged", as_inputs({0: tmp_path / "part"}), finish=False)


class Stopping(LocalContext):
    """A context that is cancelled once so many documents are done."""

    def progress(self, done, total, unit, message=""):
        super().progress(done, total, unit, message)
        if done >= 40:
            raise Cancelled("stopped")


def test_resumed_after_a_stop_no_shard_is_done_again_and_the_bytes_are_the_same(
    run, make, tmp_path, cache, monkeypatch
):
    ctx = Stopping(tmp_path / "stopped", cache=cache)
    with pytest.raises(Cancelled):
        transfer(params(), ctx)
    ctx.release()
    started = []
    start = sharded.ShardedTransfer._start
    monkeypatch.setattr(sharded.ShardedTransfer, "_start", lambda self, s: started.append(s.index) or start(self, s))
    run(transfer, params(), "stopped")
    assert started == [2]
    assert files_of(tmp_path / "stopped") == files_of(make())


def test_a_shards_process_that_is_killed_costs_a_retry_and_nothing_else(run, make, tmp_path, monkeypatch):
    start = sharded.ShardedTransfer._start

    def start_and_kill(self, shard):
        process = start(self, shard)
        if shard.index == 2:
            os.kill(process._process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(sharded.ShardedTransfer, "_start", start_and_kill)
    with pytest.raises(Retryable, match="shard 2 was killed by signal 9"):
        run(transfer, params(), "torn", finish=False)
    monkeypatch.undo()
    run(transfer, params(), "torn")
    assert files_of(tmp_path / "torn") == files_of(make())


def test_a_cancelled_job_leaves_no_process_behind(tmp_path, cache, monkeypatch):
    ctx = LocalContext(tmp_path / "c", cache=cache)
    seen = []
    start = sharded.ShardedTransfer._start

    def start_and_cancel(self, shard):
        ctx.cancelled = True
        seen.append(start(self, shard))
        return seen[-1]

    monkeypatch.setattr(sharded.ShardedTransfer, "_start", start_and_cancel)
    with pytest.raises(Cancelled):
        transfer(params(), ctx)
    ctx.release()
    assert seen
    assert all(p._process.poll() is not None for p in seen)


def test_the_engine_and_what_decides_the_bytes_are_in_a_shards_key(document):
    def key(engine=None, dataset="d", **fields):
        return cut(3, params(**fields), dataset, engine or EngineInfo("e", {"v": "1"}))[0].key

    assert key() == key(parallel=4) == key(part={"index": 0, "count": 1})
    others = [key(EngineInfo("e", {"v": "2"})), key(dataset="x"), key(max_gap_words=1), key(shard_size=2)]
    assert len({key(), *others}) == 5


# Rejection ------------------------------------------------------------------------------------------------------------


def test_a_failed_sentence_rejects_its_document_which_is_kept_for_repair(document):
    class Failing(IdentityTranslator):
        info = EngineInfo("failing", {})

        def translate(self, segments):
            answers = super().translate(segments)
            return [a if "sings" not in a.text else Translated("", "engine_error", raw="?") for a in answers]

    documents = [document(), document("Bob", ["Bob lives in Ulm ."], [[(0, 0, 1, "PER")], [(0, 3, 4, "LOC")]])]
    records = transfer_documents(documents, Failing(), params(documents=A))
    failure = records[0]["failure"]
    assert failure["reasons"] == [
        "1 sentences failed; max_failed_sentences is 0",
        "1 of 3 mentions were lost; max_lost_mentions is 0.2",
    ]
    assert failure["source"] == documents[0].as_json()
    assert {"sent_id": 1, "flags": ["engine_error"], "raw": "?"} in failure["sentences"]
    assert records[1]["document"]["title"] == "Bob"  # a rejected document shifts no other


def test_a_lost_mention_takes_its_entity_and_labels_along_and_indices_move(document):
    class Dropping(IdentityTranslator):
        info = EngineInfo("dropping", {})

        def translate(self, segments):
            return [Translated(a.text, pieces=a.pieces[1:]) for a in super().translate(segments)]

    source = document(
        sentences=["Ada knows Bob and Cid ."],
        mentions=[[(0, 0, 1, "PER")], [(0, 2, 3, "PER")], [(0, 4, 5, "PER")]],
        labels=[(0, 1, "P1", [0]), (1, 2, "P2", [0])],
    )
    (record,) = transfer_documents([source], Dropping(), params(documents=A, max_lost_mentions=1))
    assert record["dropped"] == {"entities": [0], "labels": [[0, 1, "P1"]]}
    assert record["document"]["labels"] == [{"h": 0, "t": 1, "r": "P2", "evidence": [0]}]
    assert [row["status"] for row in record["provenance"]] == ["lost", "contiguous", "contiguous"]
    assert record["counts"]["lost_labels"] == {"P1": 1}


def test_equal_titles_stay_apart(run, out, tmp_path):
    twice = [relation_documents.documents("train")[0], {**relation_documents.documents("train")[1], "title": "train 0"}]
    (tmp_path / "twice.json").write_text(json.dumps(twice))
    run(transfer, params(documents=A), inputs={A: tmp_path / "twice.json"})
    assert [d["sents"] for d in out("out", "transferred.json")] == [d["sents"] for d in twice]


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param({"backend": "http"}, "backend http needs a translator: endpoint:", id="no_endpoint"),
        pytest.param({"backend": "transformers"}, "backend transformers needs a translator: hub:", id="no_model"),
        pytest.param({"translator": "hub:a/b"}, "translator has no meaning for backend identity", id="needless"),
        pytest.param(
            {"backend": "http", "translator": "endpoint:a/b", "strategy": "provenance"}, "choose auto", id="provenance"
        ),
        pytest.param({"part": {"index": 3, "count": 3}}, "part index 3 is outside 0..2", id="part"),
        pytest.param({"particle_trim": "on"}, "particle_trim on needs an analyser", id="particles"),
        pytest.param({"source_lang": "../x"}, "should match pattern", id="language"),
    ],
)
def test_params_that_contradict_each_other_are_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        params(**fields)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"[]", "holds no document", id="empty"),
        pytest.param(b'[{"title": "x", "sents": [], "vertexSet": 3}]', r"document 0 .*vertexSet", id="vertex_set"),
        pytest.param('[{"title": "é"}]'.encode("latin-1"), "is not UTF-8", id="encoding"),
        pytest.param(
            b'[{"title": "x", "sents": [["a"]], "vertexSet": [[{"name": "a", "sent_id": 0, "pos": [0, 2], '
            b'"type": "PER"}]]}]',
            r"document 0 \('x'\): vertexSet\[0\]\[0\].pos: \[0, 2\] is outside",
            id="mention_out_of_range",
        ),
        pytest.param(
            b'[{"title": "x", "sents": [["a", "b", "c"]], "vertexSet": [[{"name": "a b", "sent_id": 0, "pos": [0, 2], '
            b'"type": "PER"}, {"name": "b c", "sent_id": 0, "pos": [1, 3], "type": "PER"}]]}]',
            r"document 0 \('x'\): vertexSet\[0\]\[1\].pos: \[1, 3\] overlaps \[0, 2\]",
            id="overlapping_mentions",
        ),
    ],
)
def test_a_bad_dataset_is_refused_before_work_and_leaves_nothing(run, tmp_path, content, says):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        run(transfer, params(documents=A), inputs={A: tmp_path / "bad.json"}, finish=False)
    assert not list((tmp_path / "out").glob("*.json*"))


def test_rejected_documents_are_fed_in_again_as_they_were_kept(run, out, tmp_path, document, monkeypatch):
    """A source that fails, repaired by hand in failures.jsonl, comes through."""
    copies = IdentityTranslator.translate

    def translate(self, segments):
        answers = copies(self, segments)
        return [answer if "???" not in answer.text else Translated("", "engine_error") for answer in answers]

    monkeypatch.setattr(sharded.ShardedTransfer, "_in_processes", in_process)
    monkeypatch.setattr(IdentityTranslator, "translate", translate)
    (tmp_path / "d.json").write_bytes(dump_documents([document(), document("Bob", ["Ada ??? in Lund ."] * 2)]))
    first = run(transfer, params(documents=A), "first", {A: tmp_path / "d.json"})
    assert (first.documents_rejected, first.rejected) == (1, ["Bob"])
    failures = out("first", "failures.jsonl").replace(b"???", b"lives")
    (tmp_path / "repaired.jsonl").write_bytes(failures)
    again = run(transfer, params(documents=A, format="failures"), "again", {A: tmp_path / "repaired.jsonl"})
    assert (again.documents_in, again.documents_out) == (1, 1)
    assert out("again", "transferred.json")[0]["title"] == "Bob"
    (tmp_path / "d.json").write_text('{"title": "x"}')
    with pytest.raises(InvalidInput, match="line 1: source is missing"):
        run(transfer, params(documents=A, format="failures"), "no", {A: tmp_path / "d.json"}, False)


def in_process(self, shards):
    """Shards in this process, where a test can reach the engine."""
    for shard in shards:
        data = transfer_shard(self._of(shard), self._source.open(), self._params)
        yield Finished(shard, data, 0.0, 0.0, 1.0)


def test_a_mentions_own_keys_come_along_but_for_those_that_count_in_the_source(document):
    (source,) = [document()]
    mention = replace(source.entities[0][0], extra={"global_pos": [0, 1], "index": "0_0", "qid": "Q1"})
    source = replace(source, entities=((mention,), *source.entities[1:]))
    (record,) = transfer_documents([source], IdentityTranslator(), params(documents=A))
    assert record["document"]["vertexSet"][0][0] == {
        "name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER", "qid": "Q1"
    }  # fmt: skip


def test_the_time_line_of_shards_is_a_measurement_and_no_part_of_the_answer(run, out):
    from shared.jobs.catalog import catalog

    run(transfer, params(parallel=2))
    (bar,) = out("out", "shard_timeline.plotly.json")["data"]
    assert bar["y"] == ["shard 0", "shard 1", "shard 2"]
    assert min(bar["base"]) == 0
    assert all(seconds > 0 for seconds in bar["x"])
    assert catalog()["docre.transfer"].measured == ("shard_timeline.plotly.json",)
    timings = [json.loads(line) for line in out("out", "timings.jsonl").splitlines()]
    assert [entry["key"] for entry in timings if entry["name"] == "shard_cpu"] == [
        f"shard-0000{n}.jsonl" for n in range(3)
    ]


def test_doccano_goes_in(run, out, tmp_path, document):
    from shared.relations.formats import doccano_of

    (tmp_path / "d.jsonl").write_text(doccano_of([document(labels=[(0, 1, "P19", [0])])]))
    result = run(transfer, params(documents=A, format="doccano"), inputs={A: tmp_path / "d.jsonl"})
    assert (result.documents_out, result.mentions) == (1, 3)
