"""The store's machine over many lives, on every Redis of this machine; and mutants of the scripts, each of them caught.

A mutant is the product's scripts with one line changed: it shows that the machine sees what it is there to see.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.redis_server import binaries, redis_server
from tests.unit.jobs import store_world as world
from tests.unit.jobs.store_machine import SettlingMachine


def machine(url: str, scripts: dict[str, str]) -> type[SettlingMachine]:
    return type("Machine", (SettlingMachine,), {"url": url, "scripts": scripts})


def examples(count: int, **others: Any) -> settings:
    return settings(
        max_examples=count, stateful_step_count=50, derandomize=True, deadline=None, database=None, print_blob=False,
        phases=[Phase.generate], report_multiple_bugs=False,  # shrinking takes minutes: add it when looking for a cause
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
    pytest.param(
        "hand_back", "if get(id, 'cancel_requested_ms') then", "if false then", id="cancel-ignored-at-hand-back"
    ),
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
