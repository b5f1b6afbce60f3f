"""The job store against everything that may happen to it, in any order: workers that die, hang and come back, messages
lost and delivered twice, connections that break before or after a command ran, clocks that jump, people who cancel,
retry and delete. After each step the invariants of docs/architecture.md are read from the keys themselves.

The mutants at the end show that the machine sees what it is there to see: each is the product's scripts with one line
changed, and each is caught.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.reconciler.loop import Reconciler
from shared.artifacts import ArtifactStore
from shared.jobs.errors import BadRequest, Conflict, LeaseLost, NotFound, QuotaExceeded, UnknownReference
from shared.jobs.history import write_committed
from shared.jobs.record import Priority
from shared.jobs.states import JobState
from shared.jobs.store import Claim, JobStore, NewJob, Outcome, Report, Submission, Submitted, Worker
from shared.settings import Settings
from tests.redis_server import binaries, redis_server
from tests.unit.jobs import store_world as world
from tests.unit.jobs.store_world import CLOCK, QUEUES, START_MS, TEMPLATE, Fault, FaultyRedis, Message, Snapshot

CAP = 8
TTL_S = 15.0
KEEP_DAYS = 0.005  # 432 s, so that a few jumps of the clock make a record old
UNKNOWN = object()  # the connection broke: the caller doesn't know whether it happened

JUMPS_MS = [1, 400, 3_000, 11_000, 16_000, 61_000, 301_000, 700_000, -1, -5_000, -3_600_000]
picks = st.integers(0, 30)
workers = st.sampled_from(["one", "two"])
faults = st.sampled_from(
    [None] * 7 + [Fault(0, "before"), Fault(0, "after"), Fault(0, "twice"), Fault(1, "before"), Fault(1, "after")]
)
outcomes = st.sampled_from([JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])


class StoreMachine(RuleBasedStateMachine):
    """Everything that happens to a store. `url` and `scripts` are set by the tests below."""

    url: ClassVar[str]
    scripts: ClassVar[dict[str, str]]

    @initialize()
    def begin(self) -> None:
        self.client = FaultyRedis.from_url(self.url, decode_responses=True)
        self.client.flushdb()
        self.client.set(CLOCK, START_MS)
        self.store = JobStore(self.client, self.scripts)
        self.artifacts = ArtifactStore("memory://store-machine")
        self.artifacts.delete("")
        self.reconciler = Reconciler(self.store, self.artifacts, Settings(keep_days=KEEP_DAYS, lease_ttl_s=TTL_S))
        self.before = self.now = Snapshot(self.client)
        self.messages: list[Message] = []  # popped, by whomever
        self.claims: list[Claim] = []  # ever given; most are stale
        self.keys: dict[tuple[str, str], tuple[int, str]] = {}  # (owner, key): (body, id)
        self.retrying: set[str] = set()
        self.cancelled: set[str] = set()  # accepted, not retried since
        self.ids: list[str] = []
        self.retired: set[str] = set()  # past their days: their files stay
        self.accepted: set[str] = set()  # answered with 202, not deleted since

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()

    def call(self, verb: Callable[[], Any], fault: Fault | None) -> Any:
        """What the verb answers; UNKNOWN when its connection broke."""
        self.client.fault = fault
        try:
            return verb()
        except redis.ConnectionError:
            return UNKNOWN
        finally:
            self.client.fault = None

    def job(self, id: str) -> dict[str, str]:
        return redis.Redis.execute_command(self.client, "HGETALL", f"tf:job:{id}")

    def pick(self, number: int) -> str:
        """A job, more often an unfinished one."""
        unfinished = self.now.in_state("blocked", "queued", "running")
        jobs = sorted(unfinished if unfinished and number % 4 else self.now.jobs)
        return jobs[-1 - number // 4 % len(jobs)]

    def pick_claim(self, number: int) -> Claim:
        """A claim ever given, more often one that holds."""
        held = [claim for claim in self.claims if self.is_current(claim)]
        claims = held if held and number % 4 else self.claims
        return claims[-1 - number // 4 % len(claims)]

    def is_current(self, claim: Claim) -> bool:
        job = self.job(claim.job_id)
        return (job.get("attempt"), job.get("claim")) == (str(claim.attempt), claim.token)

    # People -----------------------------------------------------------------------------------------------------------

    @rule(owner=st.sampled_from("ab"), key=st.sampled_from([None, None, "k"]), body=st.integers(0, 1), fault=faults,
          priority=st.sampled_from(Priority), needs=st.lists(picks, max_size=2), max_attempts=st.integers(1, 3),
          timeout_s=st.sampled_from([None, None, 20.0]))  # fmt: skip
    def submit(
        self, owner: str, key: str | None, body: int, fault: Fault | None, needs: list[int], **terms: Any
    ) -> None:
        new = self.new_job(needs, **terms)
        by = Submission(owner, CAP, key, str(body))
        expected = self.refusal(owner, [new], key, body)
        try:
            answer = self.call(lambda: self.store.submit(new, by), fault)
            if answer is UNKNOWN and key:  # a careful caller repeats itself
                answer = self.store.submit(new, by)
        except (UnknownReference, QuotaExceeded, BadRequest) as refusal:
            assert type(refusal) is expected
            return
        if answer is not UNKNOWN:
            assert expected is None
            self.learn(answer, owner, key, body, 1)

    @rule(owner=st.sampled_from("ab"), count=st.integers(1, 3), needs=st.lists(picks, max_size=1), fault=faults)
    def submit_sweep(self, owner: str, count: int, needs: list[int], fault: Fault | None) -> None:
        jobs = [self.new_job(needs, Priority.NORMAL, 2, None) for _ in range(count)]
        expected = self.refusal(owner, jobs, None, 0)
        try:
            answer = self.call(
                lambda: self.store.submit_sweep(jobs, {"kind": "test.noop"}, Submission(owner, CAP)), fault
            )
        except (UnknownReference, QuotaExceeded) as refusal:
            assert type(refusal) is expected
            return
        if answer is not UNKNOWN:
            assert expected is None
            self.learn(answer, owner, None, 0, count)

    def new_job(self, needs: list[int], priority: Priority, max_attempts: int, timeout_s: float | None) -> NewJob:
        awaited = tuple(sorted({self.pick(number) for number in needs})) if self.now.jobs else ()
        params = json.dumps({"sources": [f"job:{id}/walk.json" for id in awaited]})
        return NewJob(
            "test.noop", 1, "test", params, TEMPLATE, QUEUES[list(Priority).index(priority)], priority,
            labels={"of": "test"}, max_attempts=max_attempts, timeout_s=timeout_s, awaited=awaited,
            references=tuple(f"job:{id}" for id in awaited),
        )  # fmt: skip

    def refusal(self, owner: str, jobs: list[NewJob], key: str | None, body: int) -> type[Exception] | None:
        """How this submission must be refused."""
        if key and (known := self.keys.get((owner, key))):
            return None if known[0] == body else BadRequest
        if len(self.now.get(f"ix:unfinished:{owner}")) + len(jobs) > CAP:
            return QuotaExceeded
        unusable = self.now.in_state("failed", "cancelled")
        return UnknownReference if unusable & {id for new in jobs for id in new.awaited} else None

    def learn(self, answer: Submitted, owner: str, key: str | None, body: int, count: int) -> None:
        """I12: one key, one job; I11: the newest id is the largest."""
        if key and (owner, key) in self.keys:
            assert answer == (self.keys[owner, key][1], (), False)
            return
        if answer.created:  # else: the first try had come through
            assert len(answer.jobs) == count
            assert list(answer.jobs) == sorted(answer.jobs)
        jobs = set(Snapshot(self.client).jobs) - set(self.now.jobs)
        assert len(jobs) == count, "one submission, one job"
        assert not self.ids or min(jobs) > max(self.ids)
        self.ids += jobs
        self.accepted |= jobs
        if key:
            self.keys[owner, key] = body, answer.id

    @precondition(lambda self: self.now.jobs)
    @rule(number=picks, fault=faults)
    def cancel(self, number: int, fault: Fault | None) -> None:
        id = self.pick(number)
        was = self.now.jobs[id]["state"]
        try:
            state = self.call(lambda: self.store.cancel(id), fault)
        except Conflict:
            assert fault is not None or JobState(was).is_final
            return
        if state is not UNKNOWN:
            assert state == ("running" if was == "running" else "cancelled")
            self.cancelled.add(id)

    @precondition(lambda self: self.now.in_state("failed", "cancelled"))
    @rule(number=picks, fault=faults)
    def retry(self, number: int, fault: Fault | None) -> None:
        ended = sorted(self.now.in_state("failed", "cancelled"))
        id = ended[-1 - number % len(ended)]
        self.retrying.add(id)
        waits = [
            self.now.jobs[other]["state"]
            for other in self.now.jobs[id].get("waits", "").split()
            if other in self.now.jobs
        ]
        try:
            state = self.call(lambda: self.store.retry(id, TEMPLATE, self.now.jobs[id]["list"]), fault)
        except Conflict:
            assert fault is not None or {"failed", "cancelled"} & set(waits)
            return
        finally:
            if self.job(id)["state"] not in ("failed", "cancelled"):
                self.cancelled.discard(id)
        if state is not UNKNOWN:
            assert state == ("blocked" if {"blocked", "queued", "running"} & set(waits) else "queued")
            assert self.job(id)["losses"] == "0"

    @precondition(lambda self: self.now.jobs)
    @rule(number=picks, fault=faults)
    def delete(self, number: int, fault: Fault | None) -> None:
        id = self.pick(number)
        users = self.now.get(f"uses:job:{id}") or set()
        is_free = not users & self.now.in_state("blocked", "queued", "running")
        try:
            self.call(lambda: self.store.forget(id, with_files=True), fault)
        except (Conflict, NotFound) as refusal:
            if isinstance(refusal, Conflict):
                assert not is_free or not JobState(self.now.jobs[id]["state"]).is_final
        self.forget_about(set(self.now.jobs) - set(Snapshot(self.client).jobs))

    def forget_about(self, gone: set[str]) -> None:
        self.accepted -= gone
        self.keys = {name: known for name, known in self.keys.items() if known[1] not in gone}

    # Workers ----------------------------------------------------------------------------------------------------------

    def pop(self) -> Message | None:
        for queue in QUEUES:
            if text := self.client.rpop(queue):
                self.messages.append(Message(queue, text))
                return self.messages[-1]
        return None

    @rule(worker=workers, fault=faults)
    def deliver(self, worker: str, fault: Fault | None) -> None:
        """A worker takes a message and claims its job."""
        if message := self.pop():
            self.claim(message, worker, fault)

    @rule()
    def lose_message(self) -> None:
        """A worker dies between taking a message and claiming its job."""
        self.pop()

    @precondition(lambda self: self.messages)
    @rule(number=picks, worker=workers, fault=faults)
    def deliver_again(self, number: int, worker: str, fault: Fault | None) -> None:
        """The broker delivers at least once."""
        self.claim(self.messages[-1 - number % len(self.messages)], worker, fault)

    @precondition(lambda self: self.messages)
    @rule(number=picks)
    def restore_message(self, number: int) -> None:
        """The broker puts an unacknowledged message back, at the end that is read next."""
        message = self.messages[-1 - number % len(self.messages)]
        self.client.rpush(message.queue, message.text)

    @precondition(lambda self: self.messages)
    @rule(number=picks)
    def decline(self, number: int) -> None:
        message = self.messages[-1 - number % len(self.messages)]
        self.store.decline(message.job, message.attempt)

    def claim(self, message: Message, worker: str, fault: Fault | None) -> Claim | None:
        job = self.job(message.job)
        is_due = job.get("state") == "queued" and int(job["attempt"]) + 1 == message.attempt
        claimed = self.call(lambda: self.store.claim(message.job, message.attempt, Worker(worker, 1, TTL_S)), fault)
        if claimed is UNKNOWN:
            return None
        assert (claimed is not None) == is_due, "a claim is given for the record's next attempt, and only then"
        if claimed is None:
            return None
        claim, record = claimed
        assert (record.state, record.attempt, record.claim) == (JobState.RUNNING, message.attempt, claim.token)
        self.claims.append(claim)
        return claim

    def write(self, claim: Claim, fault: Fault | None, verb: Callable[[Claim], Any]) -> Any:
        """I5: whoever holds the current claim is heard, anybody else refused."""
        was_current = self.is_current(claim)
        try:
            answer = self.call(lambda: verb(claim), fault)
        except LeaseLost:
            assert not was_current or (fault is not None and fault.how == "twice")
            return None
        assert was_current or answer is UNKNOWN
        return answer

    @precondition(lambda self: self.claims)
    @rule(number=picks, fault=faults, verb=st.sampled_from(["report", "renew", "flags"]))
    def say(self, number: int, fault: Fault | None, verb: str) -> None:
        verbs: dict[str, Callable[[Claim], Any]] = {
            "report": lambda claim: self.store.report(claim, Report({"checkpoint": f'{{"of":"{claim.prefix}/1"}}'})),
            "renew": lambda claim: self.store.renew(claim, TTL_S),
            "flags": self.store.flags,
        }
        claim = self.pick_claim(number)
        flags = self.write(claim, fault, verbs[verb])
        if flags is not UNKNOWN and flags is not None:
            job = self.job(claim.job_id)
            assert flags.cancel == ("cancel_requested_ms" in job)
            assert flags.hand_back == ("hand_back" in job)

    @precondition(lambda self: self.claims)
    @rule(number=picks, state=outcomes, fault=faults)
    def commit(self, number: int, state: JobState, fault: Fault | None) -> None:
        outcome = Outcome(state, {"result": "{}"}, "error" if state is JobState.FAILED else "")
        claim = self.pick_claim(number)
        is_cancelled = "cancel_requested_ms" in self.job(claim.job_id)
        ended = self.write(claim, fault, lambda claim: self.store.commit(claim, outcome))
        if ended is UNKNOWN:  # the worker tries again for one lease
            ended = self.write(claim, None, lambda claim: self.store.commit(claim, outcome))
        if ended is not None:
            assert ended == (JobState.CANCELLED if is_cancelled else state)
            assert self.job(claim.job_id)["state"] == ended

    @precondition(lambda self: self.claims)
    @rule(number=picks, fault=faults)
    def hand_back(self, number: int, fault: Fault | None) -> None:
        claim = self.pick_claim(number)
        losses = self.job(claim.job_id).get("losses")
        state = self.write(claim, fault, self.store.hand_back)
        if isinstance(state, JobState):
            assert state in (JobState.QUEUED, JobState.CANCELLED)
            assert self.job(claim.job_id)["losses"] == losses

    @precondition(lambda self: self.claims)
    @rule(number=picks, fault=faults)
    def retry_later(self, number: int, fault: Fault | None) -> None:
        claim = self.pick_claim(number)
        was = self.job(claim.job_id)
        state = self.write(claim, fault, lambda claim: self.store.retry_later(claim, "retryable", "later"))
        if isinstance(state, JobState):
            assert int(self.job(claim.job_id)["losses"]) == int(was["losses"]) + 1

    @rule(worker=workers)
    def stop_worker(self, worker: str) -> None:
        self.store.request_hand_back(worker)

    @precondition(lambda self: self.now.in_state("running"))
    @rule(worker=workers, fault=faults)
    def restart_worker(self, worker: str, fault: Fault | None) -> None:
        """Killed; its next incarnation ends what it held."""

        def end_former_incarnation() -> None:
            for id in self.store.held_by(worker):
                self.store.lose(id, self.store.get(id).attempt)

        held = {id: self.now.jobs[id] for id in self.now.get(f"held:{worker}")}
        if self.call(end_former_incarnation, fault) is not UNKNOWN:
            for id, was in held.items():
                self.counts_a_loss(was, self.job(id))

    def counts_a_loss(self, was: dict[str, str], now: dict[str, str]) -> None:
        """I8: a lost worker counts, unless it was asked to hand back; so does the bound."""
        assert now["state"] != "running"
        if "cancel_requested_ms" in was:
            assert now["state"] == "cancelled"
        elif now.get("error_type") != "timeout":
            assert int(now["losses"]) == int(was["losses"]) + ("hand_back" not in was)
            is_spent = int(now["losses"]) >= int(was["max_attempts"])
            assert (now["state"], now.get("error_type")) == (
                ("failed", "worker_lost") if is_spent else ("queued", None)
            )

    # The reconciler and the clock -------------------------------------------------------------------------------------

    @rule(fault=faults)
    def return_jobs(self, fault: Fault | None) -> None:
        expired = {id for id, ms in self.now.get("leases").items() if ms <= int(self.now.keys[CLOCK])}
        if self.call(self.reconcile, fault) is not UNKNOWN:
            for id in self.now.in_state("running"):
                if id in expired:
                    self.counts_a_loss(self.now.jobs[id], self.job(id))
                else:
                    assert self.job(id)["state"] == "running", "a lease that has time left stands"

    @precondition(lambda self: self.now.in_state("running"))
    @rule(number=picks)
    def a_late_verdict(self, number: int) -> None:
        """A reconciler that looked a while ago ends a lease; it may have been renewed since."""
        running = sorted(self.now.in_state("running"))
        id = running[number % len(running)]
        left_ms = self.now.get("leases")[id] - int(self.now.keys[CLOCK])
        state = self.store.lose(id, int(self.now.jobs[id]["attempt"]), only_expired=True)
        assert (state is None) == (left_ms > 0)

    def reconcile(self) -> None:
        self.reconciler.expire()
        self.store.push_due()
        for queue in self.store.lists():
            self.store.republish(queue)

    @rule(fault=faults)
    def tend_files(self, fault: Fault | None) -> None:
        self.call(self.reconciler.tend_files, fault)
        gone = set(self.now.jobs) - set(Snapshot(self.client).jobs)
        self.retired |= gone
        self.forget_about(gone)

    @precondition(lambda self: self.now.jobs)
    @rule(number=picks, fault=faults)
    def write_history(self, number: int, fault: Fault | None) -> None:
        self.call(lambda: write_committed(self.pick(number), self.store, self.artifacts), fault)

    @rule(ms=st.sampled_from(JUMPS_MS))
    def clock_jumps(self, ms: int) -> None:
        self.client.incrby(CLOCK, ms)

    # What always holds ------------------------------------------------------------------------------------------------

    @invariant()
    def invariants_hold(self) -> None:
        if not hasattr(self, "client"):
            return
        self.before, self.now = self.now, Snapshot(self.client)
        world.check(self.now)
        world.history_tells_the_record(self.now, self.artifacts)
        world.what_is_final_stays(self.before, self.now, self.retrying)
        self.retrying.clear()
        assert self.accepted <= set(self.now.jobs), "no accepted job is lost"
        for id in self.cancelled & set(self.now.jobs):
            assert self.now.jobs[id]["state"] in ("running", "cancelled"), "what was cancelled goes on"


class SettlingMachine(StoreMachine):
    """And in the end a worker does its work: every job ends, and what is deleted leaves nothing (I13, I15)."""

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.every_job_ends()
            self.nothing_is_left()
        super().teardown()

    def every_job_ends(self) -> None:
        for _ in range(30):
            self.client.incrby(CLOCK, 61_000)
            self.reconcile()
            while message := self.pop():
                if claim := self.claim(message, "one", None):
                    self.store.commit(claim, Outcome(JobState.SUCCEEDED, {"result": "{}"}))
            self.invariants_hold()
            if not self.now.in_state("blocked", "queued", "running"):
                return
        raise AssertionError(f"unfinished for ever: {self.now.in_state('blocked', 'queued', 'running')}")

    def nothing_is_left(self) -> None:
        for id in self.now.jobs:
            write_committed(id, self.store, self.artifacts)
            self.store.forget(id, with_files=True)
        self.client.incrby(CLOCK, 3_600_000)
        self.reconciler.tend_files()
        left = {key.partition(":")[0] for key in Snapshot(self.client).keys}
        assert left <= {"clock", "counters", "templates", "lists", "publish", "call", "idem", "test"}, left
        assert set(self.artifacts.folders("jobs")) <= self.retired


def machine(url: str, scripts: dict[str, str], base: type[StoreMachine] = SettlingMachine) -> type[StoreMachine]:
    return type("Machine", (base,), {"url": url, "scripts": scripts})


def examples(count: int, **others: Any) -> settings:
    return settings(
        max_examples=count, stateful_step_count=50, derandomize=True, phases=[Phase.generate], deadline=None, database=None,
        report_multiple_bugs=False, print_blob=False,
        suppress_health_check=list(HealthCheck), **others,
    )  # fmt: skip


@pytest.fixture(scope="module", params=sorted(binaries().items()), ids=lambda found: f"redis-{found[0]}")
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with redis_server(binary=request.param[1]) as server:
        yield server.url


def test_every_invariant_holds_whatever_happens(server_url):
    run_state_machine_as_test(machine(server_url, world.scripts_with_test_clock()), settings=examples(200))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_invariant_holds_over_two_thousand_lives(server_url):
    run_state_machine_as_test(machine(server_url, world.scripts_with_test_clock()), settings=examples(2000))


MUTANTS = [
    pytest.param("commit", "if not holds(id, attempt, claim) then return false end", "", id="commit-unfenced"),
    pytest.param("claim", "or number(id, 'attempt') + 1 ~= tonumber(attempt)", "", id="claim-of-any-attempt"),
    pytest.param("commit", "if get(id, 'cancel_requested_ms') then", "if false then", id="cancel-ignored-at-commit"),
    pytest.param("lib", "redis.call('ZREM', P .. 'leases', id)", "", id="lease-outlives-its-claim"),
    pytest.param("lose", "redis.call('HINCRBY', job(id), 'losses', 1)", "losses", id="losses-not-counted"),
    pytest.param("lib", "      release(other, needed)", "", id="dependants-not-released"),
    pytest.param("lib", "redis.call('INCR', P .. 'publish:' .. list)", "1", id="publish-number-reused"),
    pytest.param("claim", "if holds(id, attempt, claim) then", "if false then", id="claim-sent-twice-is-lost"),
    pytest.param("submit", "if written then", "if false then", id="submit-sent-twice-is-two-jobs"),
    pytest.param("lose", "if deadline > NOW then return false end", "", id="live-lease-expired"),
    pytest.param("retry", "'cancel_requested_ms', ", "", id="cancel-outlives-a-retry"),
    pytest.param(
        "lib", "if NOW > ms then ms, count = NOW, 0", "if NOW ~= ms then ms, count = NOW, 0", id="ids-step-back"
    ),
]


@pytest.fixture(scope="module")
def mutants_url() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


@pytest.mark.parametrize(("script", "line", "instead"), MUTANTS)
def test_a_mutant_of_the_scripts_is_caught(mutants_url, script, line, instead):
    scripts = world.scripts_with_test_clock()
    assert scripts[script].count(line) == 1
    scripts[script] = scripts[script].replace(line, instead)
    quick = examples(300, verbosity=Verbosity.quiet)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine(mutants_url, scripts), settings=quick)
