"""Agent hosts: a small fixed pool of processes that together hold all agents of a society.

An agent stays an actor: addressable by its number, with memory of its own, answering one message at a time. But one
process per agent would cost seconds to start and 50 MB each, so a host holds many, and a month costs one message per
host (with sequential harvesting one per turn). Which host an agent lives on never changes what it says: its draws come
from counters, its memory travels with nobody else's.

`open_hosts` is the entry point: Ray actors on a cluster, the same `AgentHost` in this process without one.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from shared.jobs.catalog.govsim import AnyPolicy, SimulateParams
from shared.jobs.context import JobContext
from shared.jobs.errors import Retryable
from shared.settings import Settings
from workers.govsim.commons import membership_of
from workers.govsim.policies import Report, Sight, demands
from workers.govsim.randomness import Draws, Ints

ANSWER_S = 3.0  # what an attached cluster gets to show that it is there


@dataclass(frozen=True)
class Seat:
    """One agent's place on a host."""

    agent: int  # its number in the society
    policy: AnyPolicy
    joined: int  # month (0-based) of its first harvest


@dataclass(frozen=True)
class HarvestCall:
    """One message of a month: what the agents see, and what became of last month."""

    month: int  # 0-based
    stock: Ints  # (runs,), R as shown
    threshold: Ints  # (runs,), thr
    kept: Ints | None = None  # positions, among last month's runs, of those that go on; None: all
    granted: Ints | None = None  # (runs, agents present last month), of the runs that go on
    actors: Ints | None = None  # (runs,), whose turn it is in each run; None: everyone's at once


class AgentHost:
    """Holds some agents of a society and remembers on their behalf, for the chunk of runs that is open."""

    def __init__(self, seats: Sequence[Seat], seed: int) -> None:
        self._seats = list(seats)
        self._tables = _by_policy(self._seats)
        self._draws = Draws(seed)
        self._runs: Ints = np.empty(0, dtype=np.int64)
        self._seen: Ints | None = None  # thr the agents saw in the month they are to remember
        self._last: Report | None = None

    def open(self, runs: Ints) -> None:
        """Begin a chunk of runs with empty memories."""
        self._runs, self._seen, self._last = runs, None, None

    def harvest(self, call: HarvestCall) -> Ints:
        """Demands (runs, agents present of this host), or (runs,) where `actors` names one per run (0: elsewhere)."""
        self._remember(call)
        sight = Sight(call.month, self._runs, call.stock, call.threshold, self._last)
        return self._all_at_once(sight) if call.actors is None else self._turn(sight, call.actors)

    def ask(self, agent: int, call: HarvestCall) -> Ints:
        """The demands (runs,) of one agent by its number."""
        return self.harvest(replace(call, actors=np.full(len(call.stock), agent)))

    def _all_at_once(self, sight: Sight) -> Ints:
        columns = {seat.agent: column for column, seat in enumerate(_present(self._seats, sight.month))}
        wanted = np.empty((len(sight.stock), len(columns)), dtype=np.int64)
        for table in self._tables:
            agents = [seat.agent for seat in _present(table, sight.month)]
            own = [columns[agent] for agent in agents]
            wanted[:, own] = demands(table[0].policy, sight, np.array([agents], dtype=np.int64), self._draws)
        return wanted

    def _turn(self, sight: Sight, actors: Ints) -> Ints:
        wanted = np.zeros(len(actors), dtype=np.int64)
        for table in self._tables:
            rows = np.flatnonzero(np.isin(actors, [seat.agent for seat in table]))
            if len(rows):
                wanted[rows] = demands(table[0].policy, sight.of(rows), actors[rows, None], self._draws)[:, 0]
        return wanted

    def _remember(self, call: HarvestCall) -> None:
        if call.kept is not None:
            self._runs = self._runs[call.kept]
            self._seen = None if self._seen is None else self._seen[call.kept]
        if call.granted is not None and self._seen is not None:
            self._last = Report(call.granted, self._seen)
        if call.granted is not None or self._seen is None:
            self._seen = call.threshold


def _by_policy(seats: list[Seat]) -> list[list[Seat]]:
    """Agents with the same policy sit together: a rule then costs one pass whatever their number."""
    tables: dict[str, list[Seat]] = {}
    for seat in seats:
        tables.setdefault(seat.policy.model_dump_json(), []).append(seat)
    return list(tables.values())


def _present(seats: Sequence[Seat], month: int) -> list[Seat]:
    return [seat for seat in seats if seat.joined <= month]


Gather = Callable[[list[Any]], list[Any]]
"""Waits for the answers to messages sent."""


class Handle(Protocol):
    """A host one can send messages to."""

    def send(self, method: str, message: Any) -> Any:
        """What the pool's gather turns into the answer."""


class HostPool:
    """All hosts of a society, spoken to as one."""

    def __init__(self, handles: Sequence[Handle], seats: Sequence[Sequence[Seat]], gather: Gather) -> None:
        self._handles = handles
        self._seats = seats
        self._gather = gather

    def open(self, runs: Ints) -> None:
        """Begin a chunk of runs on every host."""
        self._tell("open", runs)

    def harvest(self, call: HarvestCall) -> Ints:
        """Demands (runs, agents present), or (runs,) where `actors` names one agent per run."""
        answers = self._tell("harvest", call)
        if call.actors is not None:
            return np.asarray(np.sum(answers, axis=0))
        columns = [[seat.agent for seat in _present(seats, call.month)] for seats in self._seats]
        wanted = np.empty((len(call.stock), sum(map(len, columns))), dtype=np.int64)
        for own, answer in zip(columns, answers, strict=True):
            wanted[:, own] = answer
        return wanted

    def _tell(self, method: str, message: Any) -> list[Any]:
        return self._gather([handle.send(method, message) for handle in self._handles])


class LocalHandle:
    """A host in this process."""

    def __init__(self, host: AgentHost) -> None:
        self._host = host

    def send(self, method: str, message: Any) -> Any:
        return getattr(self._host, method)(message)


class RayHandle:
    """A host in a Ray actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def send(self, method: str, message: Any) -> Any:
        return getattr(self._actor, method).remote(message)


def seats_of(params: SimulateParams, hosts: int) -> list[list[Seat]]:
    """Agents dealt out to hosts in turn; no host stays empty."""
    membership = membership_of(params)
    seats = [Seat(agent, policy, membership.joined(agent)) for agent, policy in enumerate(params.policy_of_each)]
    return [seats[first :: min(hosts, len(seats))] for first in range(min(hosts, len(seats)))]


@contextmanager
def open_hosts(ctx: JobContext, params: SimulateParams, settings: Settings | None = None) -> Iterator[HostPool]:
    """The society's hosts for the length of a job. Raises Retryable when the Ray cluster can't be reached or loses one.

    A context without a cluster, or `ray_hosts` 0, keeps the agents in this process.
    """
    hosts = 0 if ctx.local else (settings or Settings()).ray_hosts
    if hosts == 0:
        yield local_hosts(params)
    else:
        with ray_hosts(params, (settings or Settings()).ray, hosts, ctx.check) as pool:
            yield pool


def local_hosts(params: SimulateParams, hosts: int = 1) -> HostPool:
    """Hosts in this process."""
    seats = seats_of(params, hosts)
    return HostPool([LocalHandle(AgentHost(own, params.seed)) for own in seats], seats, list)


@contextmanager
def ray_hosts(params: SimulateParams, address: str, hosts: int, check: Callable[[], None]) -> Iterator[HostPool]:
    """Hosts as actors of the Ray cluster at `address`; gone afterwards, while this process stays attached.

    Attaching takes seconds, so a worker's child does it at its first job and again only when the cluster was lost.
    """
    import ray  # here, not above: only jobs on a cluster need it

    actors: list[Any] = []

    def gather(pending: list[Any]) -> list[Any]:
        waiting = pending
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1.0)
            check()
        return list(ray.get(pending))

    try:
        _attach(ray, address)
        seats = seats_of(params, hosts)
        actor = ray.remote(num_cpus=0)(AgentHost)  # 0: hosts of several jobs share cores instead of waiting for them
        actors.extend(actor.remote(own, params.seed) for own in seats)
        yield HostPool([RayHandle(host) for host in actors], seats, gather)
    except ray.exceptions.RayTaskError:
        raise  # an error of our own code on a host: it will happen again
    except ray.exceptions.RayError as lost:
        ray.shutdown()  # the next job attaches anew
        actors.clear()
        raise Retryable(f"an agent host on the Ray cluster at {address} was lost: {lost}") from lost
    finally:
        for host in actors:
            ray.kill(host)


def _attach(ray: Any, address: str) -> None:
    """Join the cluster, unless this process is in it. Ray gives the driver a namespace of its own; no actor is
    detached, so all end with it. Raises Retryable."""
    if ray.is_initialized():
        if _answers(ray):
            return
        ray.shutdown()
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError) as refused:
        raise Retryable(f"can't reach the Ray cluster at {address}: {refused}") from refused


def _answers(ray: Any) -> bool:
    """Whether the cluster this process is attached to still stands. Asked in a thread: a dead one never answers."""
    answer: list[bool] = []

    def ask() -> None:
        with suppress(Exception):  # whatever Ray raises, the answer is no
            answer.append(any(node["Alive"] for node in ray.nodes()))

    asking = threading.Thread(target=ask, name="is Ray there?", daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    return answer == [True]
