"""A job store that is watched from the outside: a clock that tests turn, connections that break, and the invariants.

The invariants read Redis's keys themselves, never the store's verbs. They are numbered as in docs/architecture.md.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import redis

from shared.artifacts import ArtifactStore
from shared.jobs.layout import committed_key
from shared.jobs.states import TRANSITIONS, JobState
from shared.jobs.store import PREFIX, script_texts

CLOCK = "test:clock_ms"
START_MS = 1_700_000_000_000
STREAM_LENGTH = 10_000
QUEUES = ("test", "test:3", "test:6")  # high, normal, low: the order in which a worker looks
MESSAGE = re.compile(r"(?P<job>[0-9A-Z]{26})\.(?P<attempt>\d+) \"tenfold_publish\": \"(?P<publish>\d+)\"")
TEMPLATE = 'TENFOLD_JOB_ID.TENFOLD_ATTEMPT "tenfold_publish": "TENFOLD_PUBLISH"'

_NOW = re.compile(r"local function now_ms\(\).*?\nend\n", re.DOTALL)
_DUMP = """
local dump, read = {}, {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
for n, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  dump[n] = {key, kind, read[kind](key)}
end
return dump
"""


def scripts_with_test_clock() -> dict[str, str]:
    """The product's scripts, with the time taken from a key."""
    texts = script_texts()
    clock = f"local function now_ms() return tonumber(redis.call('GET', '{CLOCK}')) end\n"
    texts["lib"], changes = _NOW.subn(clock, texts["lib"])
    assert changes == 1
    return texts


class Fault(NamedTuple):
    """What befalls the n-th command from now: the connection breaks before or after it ran, or it is sent twice."""

    nth: int
    how: str  # before | after | twice


class FaultyRedis(redis.Redis):
    """A client whose connection breaks when told, and whose TIME is the test's clock."""

    fault: Fault | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return self._faulty(lambda: super(FaultyRedis, self).execute_command(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        pipe = super().pipeline(transaction, shard_hint)
        execute = pipe.execute
        pipe.execute = lambda *args, **kwargs: self._faulty(lambda: execute(*args, **kwargs))
        return pipe

    def time(self, **_: Any) -> tuple[int, int]:
        ms = int(super().execute_command("GET", CLOCK))
        return ms // 1000, ms % 1000 * 1000

    def srandmember(self, name: str, number: int | None = None) -> Any:
        """As random as any other choice, and the same when an example is played again."""
        return sorted(self.smembers(name))[:number]

    def _faulty(self, run: Any) -> Any:
        if self.fault is None:
            return run()
        if self.fault.nth > 0:
            self.fault = self.fault._replace(nth=self.fault.nth - 1)
            return run()
        how, self.fault = self.fault.how, None
        if how == "before":
            raise redis.ConnectionError("broken before the command ran")
        answer = run()
        if how == "after":
            raise redis.ConnectionError("broken before the answer came")
        return run() if how == "twice" else answer


class Message(NamedTuple):
    """A message as a worker pops it."""

    queue: str
    text: str

    @property
    def job(self) -> str:
        return self._part("job")

    @property
    def attempt(self) -> int:
        return int(self._part("attempt"))

    @property
    def publish(self) -> int:
        return int(self._part("publish"))

    def _part(self, name: str) -> str:
        found = MESSAGE.match(self.text)
        assert found, self.text
        return found[name]


class Snapshot:
    """Every key of the store at one moment."""

    def __init__(self, client: "redis.Redis[str]") -> None:
        self.keys: dict[str, Any] = {}
        for key, kind, value in redis.Redis.execute_command(client, "EVAL", _DUMP, 0):
            self.keys[key.removeprefix(PREFIX)] = _parsed(kind, value)
        self.jobs: dict[str, dict[str, str]] = self.under("job:")

    def under(self, prefix: str) -> dict[str, Any]:
        """The keys that begin so, by what follows."""
        return {key.removeprefix(prefix): value for key, value in self.keys.items() if key.startswith(prefix)}

    def get(self, key: str) -> Any:
        return self.keys.get(key, {})

    def in_state(self, *states: str) -> set[str]:
        return {id for id, job in self.jobs.items() if job["state"] in states}

    def messages(self) -> Iterator[Message]:
        for queue in QUEUES:
            yield from (Message(queue, text) for text in self.get(queue))


def _parsed(kind: str, value: Any) -> Any:
    match kind:
        case "hash":
            return dict(zip(value[::2], value[1::2], strict=True))
        case "zset":
            return {member: float(score) for member, score in zip(value[::2], value[1::2], strict=True)}
        case "set":
            return set(value)
        case "stream":
            return [(id, dict(zip(fields[::2], fields[1::2], strict=True))) for id, fields in value]
    return value


# The invariants -------------------------------------------------------------------------------------------------------


def check(now: Snapshot) -> None:
    """Everything that holds at every moment."""
    each_job_is_in_exactly_the_indexes_of_its_state(now)
    a_queued_job_has_a_message_or_a_time_for_one(now)
    a_publish_number_belongs_to_one_message(now)
    a_running_job_has_one_claim_and_one_lease(now)
    a_blocked_job_waits_for_unfinished_jobs(now)
    every_life_follows_the_arrows(now)
    losses_stay_below_their_bound(now)
    a_cancelled_job_has_no_result(now)
    an_unfinished_job_counts_for_its_owner(now)
    a_sweep_holds_its_jobs(now)
    nothing_is_kept_for_a_job_that_is_gone(now)


def each_job_is_in_exactly_the_indexes_of_its_state(now: Snapshot) -> None:
    """I1."""
    for state in JobState:
        assert set(now.get(f"ix:state:{state}")) == now.in_state(state), state
    assert set(now.get("ix:all")) == set(now.jobs)
    assert set(now.get("finished")) == now.in_state("succeeded", "failed", "cancelled")


def every_life_follows_the_arrows(now: Snapshot) -> None:
    """I2: and each attempt has one outcome (I6), and attempts never decrease (I8)."""
    for id, job in now.jobs.items():
        said = [(event["d"], int(event["a"])) for _, event in now.get(f"events:{id}") if event["t"] == "state"]
        if len(now.get(f"events:{id}")) >= STREAM_LENGTH:  # its beginning has gone
            continue
        if not said and JobState(job["state"]).is_final:  # restored from its files
            continue
        assert said[0][0] in ("queued", "blocked"), said
        assert said[-1] == (job["state"], int(job["attempt"])), (said, job)
        outcomes: Counter[int] = Counter()
        for (before, first), (after, second) in pairwise(said):
            claimed = after == "running" and before != "running"
            assert second == first + claimed, said
            assert before == after == "running" or JobState(after) in TRANSITIONS[JobState(before)], said
            outcomes[first] += before == "running" and JobState(after).is_final
        assert all(count <= 1 for count in outcomes.values()), said


def a_queued_job_has_a_message_or_a_time_for_one(now: Snapshot) -> None:
    """I3."""
    queued = now.in_state("queued")
    assert set(now.get("queued:test")) == queued
    published = {id: (queue, number) for queue in QUEUES for id, number in now.get(f"published:{queue}").items()}
    delayed = set(now.get("delayed"))
    assert set(published) | delayed == queued
    assert not set(published) & delayed
    assert sum(len(now.get(f"published:{queue}")) for queue in QUEUES) == len(published)
    for id, (queue, number) in published.items():
        assert now.jobs[id]["list"] == queue
        assert number <= int(now.get(f"publish:{queue}") or 0)


def a_publish_number_belongs_to_one_message(now: Snapshot) -> None:
    """I3: else the reconciler could not see that a message is gone."""
    texts: dict[tuple[str, int], set[str]] = defaultdict(set)
    for message in now.messages():
        texts[message.queue, message.publish].add(message.text)
    assert all(len(same) == 1 for same in texts.values()), texts


def a_running_job_has_one_claim_and_one_lease(now: Snapshot) -> None:
    """I4."""
    running = now.in_state("running")
    assert set(now.get("leases")) == running
    assert set(now.get("running:test")) == running
    held = [(worker, id) for worker, ids in now.under("held:").items() for id in ids]
    assert sorted(held) == sorted((now.jobs[id]["worker"], id) for id in running)
    for id, job in now.jobs.items():
        assert ("claim" in job) == (id in running), job
        assert "hand_back" not in job or id in running, job
        if id in running:
            assert job["prefix"] == f"{job['attempt']}-{job['claim']}"


def a_blocked_job_waits_for_unfinished_jobs(now: Snapshot) -> None:
    """I9: and both sides know it."""
    waiting, dependants = now.under("waiting:"), now.under("dependants:")
    assert set(waiting) == now.in_state("blocked")
    pairs = {(id, needed) for id, needs in waiting.items() for needed in needs}
    assert pairs == {(id, needed) for needed, ids in dependants.items() for id in ids}
    assert {needed for _, needed in pairs} <= now.in_state("blocked", "queued", "running")


def losses_stay_below_their_bound(now: Snapshot) -> None:
    """I8."""
    for job in now.jobs.values():
        assert 0 <= int(job["losses"]) <= min(int(job["max_attempts"]), int(job["attempt"])), job
        assert int(job["losses"]) < int(job["max_attempts"]) or job["state"] in ("failed", "cancelled"), job


def a_cancelled_job_has_no_result(now: Snapshot) -> None:
    """I7."""
    for job in now.jobs.values():
        assert ("result" in job) == (job["state"] == "succeeded"), job
        assert ("error_type" in job) == (job["state"] == "failed"), job
        if "cancel_requested_ms" in job:
            assert job["state"] in ("running", "cancelled"), job


def an_unfinished_job_counts_for_its_owner(now: Snapshot) -> None:
    """I10."""
    unfinished: dict[str, set[str]] = defaultdict(set)
    for id in now.in_state("blocked", "queued", "running"):
        unfinished[now.jobs[id]["owner"]].add(id)
    assert {owner: set(ids) for owner, ids in now.under("ix:unfinished:").items()} == unfinished


def a_sweep_holds_its_jobs(now: Snapshot) -> None:
    """I12: all of a sweep's jobs are written together, and it goes with the last of them."""
    sweeps: dict[str, set[str]] = defaultdict(set)
    for id, job in now.jobs.items():
        if "sweep" in job:
            sweeps[job["sweep"]].add(id)
    assert {sweep: set(ids) for sweep, ids in now.under("sweep_jobs:").items()} == sweeps
    assert set(now.under("sweep:")) == set(sweeps) == set(now.get("ix:sweeps"))


def nothing_is_kept_for_a_job_that_is_gone(now: Snapshot) -> None:
    """I15."""
    for name in ("events:", "log:", "waiting:", "dependants:"):
        assert set(now.under(name)) <= set(now.jobs), name
    for name in ("uncommitted", "untidy"):
        assert set(now.get(name)) <= set(now.jobs), name
    for users in now.under("uses:").values():
        assert users <= set(now.jobs)


def history_tells_the_record(now: Snapshot, artifacts: ArtifactStore) -> None:
    """I14: every finished job's committed.json is as its record, or it is known to lack one."""
    lacking = now.get("uncommitted") or set()
    assert lacking <= now.in_state("succeeded", "failed", "cancelled")
    for id in now.in_state("succeeded", "failed", "cancelled") - lacking:
        written = json.loads(artifacts.get_bytes(committed_key(id)))
        for name in ("state", "attempt", "finished_ms", "prefix", "result", "error_type"):
            assert written.get(name) == now.jobs[id].get(name), (name, written)


def what_is_final_stays(before: Snapshot, now: Snapshot, retried: Mapping[str, Any] | set[str]) -> None:
    """I6: nothing but a person's retry changes a finished job."""
    for id in before.in_state("succeeded", "failed", "cancelled") & set(now.jobs) - set(retried):
        assert now.jobs[id] == before.jobs[id]
