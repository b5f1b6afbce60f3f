"""Scripted decisions per second, beside a Mesa model of the same commons in the same run.

    python -m tests.bench.bench_govsim [--quick]

Each round runs every contender once, one after another, so that a busy machine slows all of them; a figure is the
median over rounds, its spread the smallest and largest. A decision is one agent's harvest in one month. The Mesa model
is written as its documentation teaches (an Agent class, `AgentSet.do`, a lottery that hands out unit by unit) and keeps
no log; our whole job writes every run's months, the figures and the logs in the field's format.
"""

import gc
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from shared.jobs.catalog.govsim import SimulateParams
from shared.jobs.local import LocalContext
from tests.ray_head import ray_head
from workers.govsim.hosts import local_hosts, ray_hosts
from workers.govsim.jobs import conclude, simulate
from workers.govsim.simulation import Simulation
from workers.govsim.society import simulate_runs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mesa

POLICIES: dict[str, dict[str, Any]] = {"threshold": {"type": "threshold"}, "all over-demanding": {"type": "greedy"}}
GOALS = {"threshold": 20.0, "all over-demanding": 8.0}
HOSTED_RUNS = {
    "threshold": 40_000,
    "all over-demanding": 100_000,
}  # joining a cluster takes seconds: long enough to tell
Contender = Callable[[], float]
"""Runs once; returns decisions per second."""


class Harvester(mesa.Agent):  # type: ignore[misc]
    """One agent of the peer: threshold or greedy."""

    def __init__(self, model: "MesaCommons", is_greedy: bool) -> None:
        super().__init__(model)
        self.is_greedy = is_greedy
        self.demand = self.granted = self.gain = 0

    def decide(self) -> None:
        self.granted = 0
        self.demand = self.model.stock if self.is_greedy else self.model.stock // 2 // len(self.model.agents)

    def collect(self) -> None:
        self.gain += self.granted


class MesaCommons(mesa.Model):  # type: ignore[misc]
    """The commons of five agents over twelve months in Mesa."""

    def __init__(self, is_greedy: bool, seed: int) -> None:
        super().__init__(seed=seed)
        self.stock, self.months = 100, 0
        Harvester.create_agents(self, 5, is_greedy)

    def step(self) -> None:
        self.agents.do("decide")
        self._grant()
        self.agents.do("collect")
        after = self.stock - sum(self.agents.get("granted"))
        self.months += 1
        self.running = after >= 5 and self.months < 12
        self.stock = min(100, 2 * after)

    def _grant(self) -> None:
        if sum(self.agents.get("demand")) <= self.stock:
            for agent in self.agents:
                agent.granted = agent.demand
            return
        left, below = self.stock, [agent for agent in self.agents if agent.demand]
        while left and below:
            agent = self.random.choice(below)
            agent.granted += 1
            left -= 1
            if agent.granted == agent.demand:
                below.remove(agent)


def mesa_rate(is_greedy: bool, runs: int) -> float:
    """Decisions per second of the peer."""
    start, decisions = time.perf_counter(), 0
    for seed in range(runs):
        model = MesaCommons(is_greedy, seed)
        while model.running:
            model.step()
        decisions += 5 * model.months
    return decisions / (time.perf_counter() - start)


def decisions_of(params: SimulateParams) -> int:
    """Harvest actions of a condition whose runs all last as long."""
    (run,) = simulate_runs(params, np.arange(1), local_hosts(params)).played
    return int(run) * params.agents * params.runs


def vectorised_rate(params: SimulateParams) -> float:
    """The society alone, in this process."""
    start = time.perf_counter()
    simulate_runs(params, np.arange(params.runs), local_hosts(params))
    return decisions_of(params) / (time.perf_counter() - start)


def job_rate(params: SimulateParams) -> float:
    """The whole job in this process: metrics, a line per run, figures, log_env.tar."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = LocalContext(folder)
        start = time.perf_counter()
        simulate(params, ctx)
        ctx.close()
        return decisions_of(params) / (time.perf_counter() - start)


def hosted_rate(params: SimulateParams, address: str, hosts: int = 2) -> float:
    """The whole job through Ray hosts, attaching to the cluster and starting the hosts included."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = LocalContext(folder)
        start = time.perf_counter()
        simulation = Simulation(params, ctx)
        with ray_hosts(params, address, hosts, ctx.check) as pool:
            simulation.run(pool)
        conclude(simulation, params, ctx)
        ctx.close()
        return decisions_of(params) / (time.perf_counter() - start)


def rows(quick: bool = False) -> list[dict[str, Any]]:
    """The table: what, ours, peer, peer_name, unit, ratio, spread, goal."""
    with ray_head(cpus=2) as address:
        return [row for policy in POLICIES for row in _rows_of(policy, address, quick)]


def _rows_of(policy: str, address: str, quick: bool) -> list[dict[str, Any]]:
    params = SimulateParams(policies=POLICIES[policy], runs=5_000 if quick else 20_000)
    many = params.model_copy(update={"runs": HOSTED_RUNS[policy]})
    contenders: dict[str, Contender] = {
        "mesa": lambda: mesa_rate(policy != "threshold", 100 if quick else 1_000),
        "vectorised in process": lambda: vectorised_rate(params),
        "whole job in process, logs written": lambda: job_rate(params),
        "whole job through 2 Ray hosts, logs written": lambda: hosted_rate(many, address),
    }
    rates = _interleaved(contenders, rounds=3 if quick else 5)
    goals = {"vectorised in process": GOALS[policy], "whole job through 2 Ray hosts, logs written": 1.0}
    peer = rates.pop("mesa")
    return [_row(f"{policy}: {name}", ours, peer, goals.get(name)) for name, ours in rates.items()]


def _interleaved(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    for run in contenders.values():  # once unmeasured: imports, caches
        run()
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            gc.collect()
            rates[name].append(run())
    return rates


def _row(what: str, ours: list[float], peer: list[float], goal: float | None) -> dict[str, Any]:
    mine, theirs = statistics.median(ours), statistics.median(peer)
    spread = f"ours {min(ours):,.0f}–{max(ours):,.0f}, peer {min(peer):,.0f}–{max(peer):,.0f} ({len(ours)} rounds)"
    return {
        "what": what, "ours": round(mine), "peer": round(theirs), "peer_name": f"Mesa {mesa.__version__}",
        "unit": "decisions/s", "ratio": round(mine / theirs, 2), "spread": spread, "goal": goal,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(rows("--quick" in sys.argv), indent=1, ensure_ascii=False))
