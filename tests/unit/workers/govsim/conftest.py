"""Societies for tests, and where the real run logs lie."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from shared.jobs.catalog.govsim import SimulateParams
from workers.govsim.hosts import local_hosts
from workers.govsim.society import simulate_runs

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def real_data():
    """The folder of real GOVSIM runs; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("TENFOLD_REAL_DATA") or REPOSITORY.parent / "shared" / "data")
    folder = root / "govsim"
    if not folder.is_dir():
        pytest.skip(f"no real runs at {folder}; set TENFOLD_REAL_DATA")
    return folder


@pytest.fixture(scope="session")
def real_runs(real_data):
    return [json.loads(line) for line in (real_data / "runs.jsonl").read_text().splitlines()]


def play(hosts=1, first=0, **params):
    """(params, trajectories) of a society in this process."""
    params = SimulateParams(**params)
    return params, simulate_runs(params, np.arange(first, first + params.runs), local_hosts(params, hosts))


@pytest.fixture(name="play", scope="session")
def play_fixture():
    return play
