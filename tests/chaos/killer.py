"""Choosing and killing processes of an embedded cluster, and measuring how long their jobs take to run again."""

import itertools
import random
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import psutil

from services.local import processes
from tests.cluster.embedded import Embedded, is_pool_child

ROLES = ("child", "worker", "gateway", "reconciler", "ray", "redis")
WEIGHTS = (8, 4, 2, 2, 1, 2)


@dataclass
class Killer:
    """Kills -9 whatever its generator names; remembers what and when (seconds since the epoch)."""

    cluster: Embedded
    rng: random.Random
    kills: list[tuple[str, float]] = field(default_factory=list)

    def schedule(self, kills: int) -> list[str]:
        """Roles in random order: each of them, pool children and workers most often."""
        each = list(ROLES) * max(1, kills // 15) if kills >= len(ROLES) else []
        roles = each + self.rng.choices(ROLES, WEIGHTS, k=kills - len(each))
        self.rng.shuffle(roles)
        return roles

    def kill_one(self, role: str) -> bool:
        """One random process of a role; False when there was none to kill right now."""
        victims = self.victims(role)
        if not victims:
            return False
        try:
            self.rng.choice(victims).kill()
        except psutil.Error:
            return False
        self.kills.append((role, time.time()))
        return True

    def victims(self, role: str) -> list[psutil.Process]:
        """Living processes of a role: a pool child is a child of a worker's main process."""
        own = processes.own_processes(self.cluster.layout)
        busy = ("worker-test", "worker-sim")  # the pools that have the experiment's jobs
        mains = [process for process in own if any(self._is_main(process, name) for name in busy)]
        if role == "child":
            return [child for main in mains for child in _children(main) if is_pool_child(child)]
        if role == "worker":
            return mains
        return [process for process in own if self._is_main(process, role)]

    def _is_main(self, process: psutil.Process, role: str) -> bool:
        """Started by supervisord itself."""
        try:
            is_supervised = "supervisord" in " ".join(process.parent().cmdline())  # type: ignore[union-attr]
        except (psutil.Error, AttributeError):
            return False
        return is_supervised and processes.role_of(process).startswith(role)

    def summary(self) -> str:
        counts = Counter(role for role, _ in self.kills)
        return ", ".join(f"{count} {role}" for role, count in counts.most_common())


def _children(main: psutil.Process) -> list[psutil.Process]:
    try:
        return main.children()
    except psutil.Error:
        return []


def recoveries(kills: list[tuple[str, float]], turns: list[list[tuple[str, float]]]) -> dict[str, list[float]]:
    """For every job that lost its worker: seconds from the last kill to its return to the queue, by what was killed.

    `turns` are the states of each job with their times, in order. (How long it then waits for a free slot says how
    many jobs there are, not how fast the cluster recovers.)
    """
    found: dict[str, list[float]] = defaultdict(list)
    for states in turns:
        for (before, since), (after, at) in itertools.pairwise(states):
            blamed = [(role, killed) for role, killed in kills if since <= killed <= at]
            if (before, after) == ("running", "queued") and blamed:
                role, killed = blamed[-1]
                found[role].append(at - killed)
    return found


def describe(values: list[float]) -> str:
    if not values:
        return "none"
    return f"median {statistics.median(values):.1f} s, maximum {max(values):.1f} s of {len(values)}"
