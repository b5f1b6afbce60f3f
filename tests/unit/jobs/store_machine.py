"""The job store against everything that may happen to it, in any order: workers that die, hang and come back, messages
lost and delivered twice, connections that break before or after a command ran, clocks that jump, people who cancel,
retry and delete. After each step the invariants of docs/architecture.md are read from the keys themselves.

`test_store_machine.py` runs it, and shows with mutants that it sees what it is there to see.
"""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from services.reconciler.loop import Reconciler
from shared.artifacts import ArtifactStore
from shared.jobs.errors import BadRequest, Conflict, LeaseLost, NotFound, QuotaExceeded, UnknownReference
from shared.jobs.history import write_committed
from shared.jobs.record import Priority
from shared.jobs.states import JobState
from shared.jobs.store import Claim, JobStore, NewJob, Outcome, Report, Submission, Submitted, Worker
from shared.settings import Settings
from tests.unit.jobs import store_world as world
from tests.unit.jobs.store_world import CLOCK, QUEUES, START_MS, TEMPLATE, Fault, FaultyRedis, Message, Snapshot

CAP = 8
TTL_S = 15.0
KEEP_DAYS = 0.005  # 432 s, so that a few jumps of the clock make a record old
SETTINGS = Settings(data=Path(tempfile.gettempdir()) / "store-machine", keep_days=KEEP_DAYS, lease_ttl_s=TTL_S)
UNKNOWN = object()  # the connection broke: the caller doesn't know whether it happened

JUMPS_MS = [1, 400, 3_000, 11_000, 16_000, 61_000, 301_000, 700_000, -1, -5_000, -3_600_000]
picks = st.integers(0, 30)
events_of_a_run = st.sampled_from(["cancel", "stop", "hand_back", "retry_later", "time", "succeed", "succeed", "fail"])
needs = st.one_of(st.just([]), st.just([]), st.lists(picks, max_size=2))
workers = st.sampled_from(["one", "two"])
faults = st.sampled_from(
    [None] * 7 + [Fault(0, "before"), Fault(0, "after"), Fault(0, "twice"), Fault(1, "before"), Fault(1, "after")]
)
later_faults = st.sampled_from([None] * 26 + [Fault(nth, how) for nth in range(13) for how in ("before", "after")])
"""For verbs of many commands: the reconciler's rounds, the tending of files, history."""


class StoreMachine(RuleBasedStateMachine):
    """Everything that happens to a store. `url` and `scripts` are set by the tests below."""

    url: ClassVar[str]
    scripts: ClassVar[dict[str, str]]

    @initialize()
    def begin(self) -> None:
        chance = random.Random(7)  # so that an example played again has the same ids and tokens
        self.patches = [
            mock.patch("secrets.token_bytes", chance.randbytes),
            mock.patch("secrets.token_hex", lambda count: f"{chance.getrandbits(8 * count):0{2 * count}x}"),
        ]
        for patch in self.patches:
            patch.start()
        self.client = FaultyRedis.from_url(self.url, decode_responses=True)
        self.client.flushdb()
        for text in self.scripts.values():  # so that the first example sends the same commands as the others
            self.client.script_load(self.scripts["lib"] + text)
        self.client.set(CLOCK, START_MS)
        self.store = JobStore(self.client, self.scripts)
        self.artifacts = ArtifactStore("memory://store-machine")
        self.artifacts.delete("jobs")
        self.artifacts.delete("sweeps")
        self.reconciler = Reconciler(self.store, self.artifacts, SETTINGS)
        self.before = self.now = Snapshot(self.client)
        self.messages: list[Message] = []  # popped, by whomever
        self.claims: list[Claim] = []  # ever given; most are stale
        self.keys: dict[tuple[str, str | None], tuple[str, str, set[str]]] = {}  # (owner, key): (body, id, jobs)
        self.retrying: set[str] = set()
        self.cancelled: set[str] = set()  # accepted, not retried since
        self.ids: list[str] = []
        self.retired: set[str] = set()  # past their days: their files stay
        self.accepted: set[str] = set()  # answered with 202, not deleted since

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.client.close()
            for patch in self.patches:
                patch.stop()

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
        """A job, more often one that runs or waits."""
        running, unfinished = self.now.in_state("running"), self.now.in_state("blocked", "queued", "running")
        jobs = sorted([self.now.jobs, running, running, unfinished][number % 4] or self.now.jobs)
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
          priority=st.sampled_from(Priority), needs=needs, max_attempts=st.integers(1, 3),
          sweep=st.sampled_from([0, 0, 2, 3]), timeout_s=st.sampled_from([None, None, 20.0]))  # fmt: skip
    def submit(self, owner: str, key: str | None, body: int, sweep: int, fault: Fault | None, **terms: Any) -> None:
        """One job, or a sweep of several, perhaps with an idempotency key."""
        by = Submission(owner, CAP, key, f"{body} {sweep}")
        jobs = [self.new_job(**terms)] * (sweep or 1)

        def verb() -> Submitted:
            return self.store.submit_sweep(jobs, {"kind": "test.noop"}, by) if sweep else self.store.submit(jobs[0], by)

        expected = self.refusal(by, jobs)
        try:
            answer = self.call(verb, fault)
            if answer is UNKNOWN and key:  # a careful caller repeats himself
                answer = verb()
        except (UnknownReference, QuotaExceeded, BadRequest) as refusal:
            answer = refusal
        if answer is not UNKNOWN:
            assert type(answer) is (expected or Submitted)
        if isinstance(answer, Submitted):
            self.learn(answer, by, len(jobs))

    def new_job(self, needs: list[int], priority: Priority, max_attempts: int, timeout_s: float | None) -> NewJob:
        awaited = tuple(sorted({self.pick(number) for number in needs})) if self.now.jobs else ()
        params = json.dumps({"sources": [f"job:{id}/walk.json" for id in awaited]})
        return NewJob(
            "test.noop", 1, "test", params, TEMPLATE, QUEUES[list(Priority).index(priority)], priority,
            labels={"of": "test"}, max_attempts=max_attempts, timeout_s=timeout_s, awaited=awaited,
            references=tuple(f"job:{id}" for id in awaited),
        )  # fmt: skip

    def refusal(self, by: Submission, jobs: list[NewJob]) -> type[Exception] | None:
        """How this submission must be refused."""
        if known := self.keys.get((by.owner, by.idempotency_key)):
            return None if known[0] == by.fingerprint else BadRequest
        if len(self.now.get(f"ix:unfinished:{by.owner}")) + len(jobs) > CAP:
            return QuotaExceeded
        unusable = self.now.in_state("failed", "cancelled")
        return UnknownReference if unusable & {id for new in jobs for id in new.awaited} else None

    def learn(self, answer: Submitted, by: Submission, count: int) -> None:
        """I12: one key, one job; I11: the newest id is the largest."""
        if known := self.keys.get((by.owner, by.idempotency_key)):
            assert answer[:3] == (known[1], (), False)
            return
        jobs = sorted(set(Snapshot(self.client).jobs) - set(self.now.jobs))
        assert len(jobs) == count, "one submission, one job"
        assert answer.jobs == tuple(jobs) or not answer.created  # the first try had come through
        assert not self.ids or jobs[0] > max(self.ids)
        self.ids += jobs
        self.accepted |= set(jobs)
        if by.idempotency_key:
            self.keys[by.owner, by.idempotency_key] = by.fingerprint, answer.id, set(jobs)

    @precondition(lambda self: self.now.jobs)
    @rule(verb=st.sampled_from(["cancel", "cancel", "retry", "delete"]), number=picks, fault=faults)
    def a_person_intervenes(self, verb: str, number: int, fault: Fault | None) -> None:
        {"cancel": self.cancel, "retry": self.retry, "delete": self.delete}[verb](number, fault)

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

    def retry(self, number: int, fault: Fault | None) -> None:
        ended = sorted(self.now.in_state("failed", "cancelled"))
        if not ended:
            return
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

    def forget_about(self, gone: set[str], *, retired: bool = False) -> None:
        """Records that went; a deleted job's key is free, as is the key of a sweep whose jobs are gone."""
        self.accepted -= gone
        for name, (_, id, jobs) in list(self.keys.items()):
            if not (retired and id in jobs):
                jobs -= gone
            if not jobs:
                del self.keys[name]

    # Workers ----------------------------------------------------------------------------------------------------------

    def pop(self) -> Message | None:
        for queue in QUEUES:
            if text := self.client.rpop(queue):
                self.messages.append(Message(queue, text))
                return self.messages[-1]
        return None

    @precondition(lambda self: any(self.now.messages()))
    @rule(worker=workers, then=st.lists(events_of_a_run, max_size=3), fault=faults)
    def a_worker_works(self, worker: str, then: list[str], fault: Fault | None) -> None:
        self.deliver(worker, then, fault)

    def deliver(self, worker: str, then: list[str], fault: Fault | None) -> None:
        """A worker takes a message and claims its job; and what happens while it runs."""
        message = self.pop()
        claim = self.claim(message, worker, fault) if message else None
        if claim:
            for event in then:
                self.happens(event, claim, worker)

    def happens(self, event: str, claim: Claim, worker: str) -> None:
        match event:
            case "cancel" if not self.ended(claim.job_id):
                self.store.cancel(claim.job_id)
                self.cancelled.add(claim.job_id)
            case "stop":
                self.store.request_hand_back(worker)
            case "hand_back":
                self.hand_back(claim, None)
            case "retry_later":
                self.retry_later(claim, None)
            case "time":
                self.client.incrby(CLOCK, 16_000)
            case "succeed" | "fail":
                self.commit(claim, JobState.SUCCEEDED if event == "succeed" else JobState.FAILED, None)

    def ended(self, id: str) -> bool:
        return JobState(self.job(id)["state"]).is_final

    @precondition(lambda self: self.messages)
    @rule(
        how=st.sampled_from(["again", "again", "restore", "lose", "decline"]),
        number=picks,
        worker=workers,
        fault=faults,
    )
    def the_broker_errs(self, how: str, number: int, worker: str, fault: Fault | None) -> None:
        message = self.messages[-1 - number % len(self.messages)]
        match how:
            case "again":  # it delivers at least once
                self.claim(message, worker, fault)
            case "restore":  # an unacknowledged message comes back at the end that is read next
                self.client.rpush(message.queue, message.text)
            case "lose":  # a worker dies between taking a message and claiming its job
                self.pop()
            case "decline":  # the worker doesn't know the kind
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
    @rule(verb=st.sampled_from(["commit", "commit", "commit", "hand_back", "retry_later", "say"]), number=picks,
          detail=st.integers(0, 5), fault=faults)  # fmt: skip
    def a_worker_writes(self, verb: str, number: int, detail: int, fault: Fault | None) -> None:
        claim = self.pick_claim(number)
        match verb:
            case "commit":
                self.commit(
                    claim,
                    [*[JobState.SUCCEEDED] * 3, JobState.FAILED, JobState.FAILED, JobState.CANCELLED][detail],
                    fault,
                )
            case "hand_back":
                self.hand_back(claim, fault)
            case "retry_later":
                self.retry_later(claim, fault)
            case "say":
                self.say(claim, ["report", "renew", "flags"][detail % 3], fault)

    def say(self, claim: Claim, verb: str, fault: Fault | None) -> None:
        verbs: dict[str, Callable[[Claim], Any]] = {
            "report": lambda claim: self.store.report(claim, Report({"checkpoint": f'{{"of":"{claim.prefix}/1"}}'})),
            "renew": lambda claim: self.store.renew(claim, TTL_S),
            "flags": self.store.flags,
        }
        flags = self.write(claim, fault, verbs[verb])
        if flags is not UNKNOWN and flags is not None:
            job = self.job(claim.job_id)
            assert flags.cancel == ("cancel_requested_ms" in job)
            assert flags.hand_back == ("hand_back" in job)

    def commit(self, claim: Claim, state: JobState, fault: Fault | None) -> None:
        outcome = Outcome(state, {"result": "{}"}, "error" if state is JobState.FAILED else "")
        is_cancelled = "cancel_requested_ms" in self.job(claim.job_id)
        ended = self.write(claim, fault, lambda claim: self.store.commit(claim, outcome))
        if ended is UNKNOWN:  # the worker tries again for one lease
            ended = self.write(claim, None, lambda claim: self.store.commit(claim, outcome))
        if ended is not None:
            assert ended == (JobState.CANCELLED if is_cancelled else state)
            assert self.job(claim.job_id)["state"] == ended

    def hand_back(self, claim: Claim, fault: Fault | None) -> None:
        losses = self.job(claim.job_id).get("losses")
        state = self.write(claim, fault, self.store.hand_back)
        if isinstance(state, JobState):
            assert state in (JobState.QUEUED, JobState.CANCELLED)
            assert self.job(claim.job_id)["losses"] == losses

    def retry_later(self, claim: Claim, fault: Fault | None) -> None:
        was = self.job(claim.job_id)
        state = self.write(claim, fault, lambda claim: self.store.retry_later(claim, "retryable", "later"))
        if isinstance(state, JobState):
            assert int(self.job(claim.job_id)["losses"]) == int(was["losses"]) + 1

    @precondition(lambda self: self.now.in_state("running"))
    @rule(worker=workers, how=st.sampled_from(["stop", "kill"]), fault=faults)
    def a_worker_goes(self, worker: str, how: str, fault: Fault | None) -> None:
        if how == "stop":
            self.store.request_hand_back(worker)
        else:
            self.restart_worker(worker, fault)

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

    @rule(ms=st.sampled_from(JUMPS_MS), number=picks, fault=later_faults,
          how=st.sampled_from(["work", "work", "work", "round", "round", "late", "files", "history"]))  # fmt: skip
    def time_passes(self, ms: int, how: str, number: int, fault: Fault | None) -> None:
        """The clock goes on, or steps back, and a worker or a reconciler does its work."""
        self.now.keys[CLOCK] = str(self.client.incrby(CLOCK, ms))
        match how:
            case "work":
                self.deliver("one", [], fault)
            case "round":
                self.return_jobs(fault)
            case "late" if self.now.in_state("running"):
                self.a_late_verdict(number)
            case "files":
                self.tend_files(fault)
            case "history" if self.now.jobs:
                self.call(lambda: write_committed(self.pick(number), self.store, self.artifacts), fault)

    def return_jobs(self, fault: Fault | None) -> None:
        expired = {id for id, ms in self.now.get("leases").items() if ms <= int(self.now.keys[CLOCK])}
        if self.call(self.reconcile, fault) is not UNKNOWN:
            for id in self.now.in_state("running"):
                if id in expired:
                    self.counts_a_loss(self.now.jobs[id], self.job(id))
                else:
                    assert self.job(id)["state"] == "running", "a lease that has time left stands"

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

    def tend_files(self, fault: Fault | None) -> None:
        self.call(self.reconciler.tend_files, fault)
        self.call(self.reconciler.retention.clear_old, fault)
        gone = set(self.now.jobs) - set(Snapshot(self.client).jobs)
        self.retired |= gone
        self.forget_about(gone, retired=True)

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
            try:
                self.every_job_ends()
                self.nothing_is_left()
            finally:
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
        self.client.incrby(CLOCK, 10 * 86_400_000)  # later than any clock of this example was
        self.reconciler.tend_files()
        left = {key.partition(":")[0] for key in Snapshot(self.client).keys}
        assert left <= {"clock", "counters", "templates", "lists", "publish", "call", "idem", "test"}, left
        assert set(self.artifacts.folders("jobs")) <= self.retired
