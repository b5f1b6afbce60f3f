"""One attack: when it looks, which suffix it keeps, when it stops, and that it goes on where it was."""

import csv
import io

import pytest

from shared.jobs.local import LocalContext
from shared.sealed import Key
from workers.dsn import attack as attacking
from workers.dsn.attack import Arm, Attack, Look, Schedule
from workers.dsn.search import Step
from workers.dsn.steps import STEPS_CSV
from workers.dsn.vault import Vault

ARM = Arm("dsn@10", 10.0)
START = (7, 7)


class Descending:
    """A search whose loss falls by one a step, and whose suffix is the step's number."""

    width = type("Width", (), {"batch": 4})
    prompts = (None, None)

    def begin(self, suffix, seed):
        self.step_number, self.best, self.best_losses, self.seed = 0, suffix, (100.0, 1.0), seed

    def step(self):
        self.step_number += 1
        self.best, self.best_losses = (self.step_number, self.seed), (100.0 - self.step_number, 0.5)
        return Step(self.step_number, self.best, *self.best_losses, *[self.total(self.best_losses)] * 2)

    def total(self, losses):
        return losses[0] + 10 * losses[1]

    def state(self):
        return {"step": self.step_number, "best": self.best, "losses": self.best_losses, "seed": self.seed}

    def restore(self, state):
        self.step_number, self.best = state["step"], tuple(state["best"])
        self.best_losses, self.seed = tuple(state["losses"]), state["seed"]


@pytest.fixture
def make(tmp_path):
    """`make(successes by step, steps, every, …)`: what the attack found, and what it did on the way."""
    contexts = []

    def make(successes, n_steps=8, test_steps=2, stop=False, folder="ctx", key=None):
        said, looked, stepped = [], [], []
        ctx = LocalContext(tmp_path / folder, say=lambda event, data: said.append((event, data)))
        contexts.append(ctx)

        def look(suffix):
            looked.append(suffix)
            success = successes.get(suffix[0], 0.0)
            return Look(success, 0.25, None, int(4 * (success or 0)), 0)

        made = Attack(ARM, 1, Descending(), Schedule(n_steps, test_steps, stop), look, Vault(ctx, key, "d"), ctx,
                      stepped.append)  # fmt: skip
        return made, ctx, said, looked, stepped

    yield make
    for ctx in contexts:
        ctx.release()


def test_it_looks_every_so_many_steps_and_at_the_last(make):
    made, _, _, looked, stepped = make({}, n_steps=7, test_steps=3)
    found = made.found(START, 5)
    assert [one["step"] for one in found["looks"]] == [3, 6, 7]
    assert looked == [(3, 5), (6, 5), (7, 5)]
    assert sum(stepped) == 7
    assert found["steps"] == 7


def test_the_last_step_is_looked_at_once(make):
    made, *_ = make({}, n_steps=6, test_steps=3)
    assert [one["step"] for one in made.found(START, 5)["looks"]] == [3, 6]


@pytest.mark.parametrize(("successes", "kept"), [
    pytest.param({2: 0.5, 4: 1.0, 6: 0.75, 8: 0.5}, 4, id="most success, though later losses are lower"),
    pytest.param({2: 0.5, 4: 0.5, 6: 0.5, 8: 0.5}, 8, id="of equals the lowest loss"),
    pytest.param({2: 0.0, 4: None, 6: None, 8: None}, 2, id="an unjudged look is below any"),
    pytest.param({2: None, 4: None, 6: None, 8: None}, 8, id="without verdicts the lowest loss"),
])  # fmt: skip
def test_the_kept_suffix_has_most_success_and_of_equals_the_lowest_loss(make, successes, kept):
    made, *_ = make(successes)
    found = made.found(START, 5)
    assert found["chosen"]["step"] == kept
    assert found["last"]["step"] == 8
    assert found["last"]["total"] <= found["chosen"]["total"]


@pytest.mark.parametrize(("stop", "steps"), [(False, 8), (True, 4)])
def test_it_stops_at_the_first_whole_success_only_if_asked_to(make, stop, steps):
    made, _, _, looked, _ = make({2: 0.99, 4: 1.0}, stop=stop)
    assert made.found(START, 5)["steps"] == steps
    assert looked[-1][0] == steps


def test_every_step_is_a_line_of_the_table_and_a_point_of_the_curves(make):
    made, ctx, said, _, _ = make({})
    made.found(START, 5)
    journal = ctx.journal(STEPS_CSV)
    journal.handle.flush()
    rows = list(csv.DictReader(io.StringIO(journal.path.read_text())))
    assert [(row["arm"], row["run"], row["step"], row["target_loss"]) for row in rows] == [
        ("dsn@10", "1", str(n), str(100 - n)) for n in range(1, 9)]  # fmt: skip
    assert {row["total_loss"] for row in rows[:1]} == {"104"}
    metrics = [data for event, data in said if event == "metric"]
    assert {one["name"] for one in metrics} == {
        f"dsn-10.1.{name}" for name in ("target_loss", "refusal_loss", "train_success", "train_refused")}  # fmt: skip
    assert [one["step"] for one in metrics if one["name"].endswith("train_success")] == [2, 4, 6, 8]


def test_a_second_attack_goes_on_in_the_same_table(make):
    made, ctx, *_ = make({}, n_steps=2)
    made.found(START, 5)
    made.vault.put("attack", None)
    Attack(Arm("gcg", 0.0), 0, Descending(), made.schedule, made.look, made.vault, ctx, lambda n: None).found(START, 5)
    ctx.journal(STEPS_CSV).handle.flush()
    lines = ctx.journal(STEPS_CSV).path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["arm", "dsn@10", "dsn@10", "gcg", "gcg"]


class Stopped(Exception):
    """A test's kill."""


@pytest.mark.parametrize("dies_at", [3, 4, 7])
def test_killed_at_any_step_it_goes_on_and_finds_the_same(make, monkeypatch, dies_at):
    monkeypatch.setattr(attacking, "EVERY", 2)
    successes, key = {2: 0.5, 4: 0.75, 6: 0.25, 8: 0.75}, Key(b"k" * 32)
    whole, ctx, *_ = make(successes, folder="whole", key=key)
    expected = whole.found(START, 5)
    ctx.journal(STEPS_CSV).handle.flush()
    table = ctx.journal(STEPS_CSV).path.read_bytes()
    killed, first, *_ = make(successes, folder="killed", key=key)
    step = killed.search.step

    def die():
        if killed.search.step_number == dies_at:
            raise Stopped
        return step()

    killed.search.step = die
    with pytest.raises(Stopped):
        killed.found(START, 5)
    first.release()
    resumed, ctx, _, looked, stepped = make(successes, folder="killed", key=key)
    found = resumed.found(START, 5)
    assert [{**one, "suffix": tuple(one["suffix"])} for one in found["looks"]] == expected["looks"]
    assert found["chosen"]["step"] == expected["chosen"]["step"]
    ctx.journal(STEPS_CSV).handle.flush()
    assert ctx.journal(STEPS_CSV).path.read_bytes() == table
    assert sum(stepped) == 8
    assert len(looked) < 4 or dies_at == 3


def test_how_long_steps_took_is_a_timing_and_a_line_of_the_log_and_no_result(make):
    made, ctx, said, _, _ = make({})
    found = made.found(START, 5)
    assert [entry["name"] for entry in ctx._timings] == ["steps.dsn-10"]
    (line,) = [data["message"] for event, data in said if event == "log"]
    assert "s/step" in line
    assert "candidates/s, each for 2 prompts" in line
    assert not {"seconds", "timing"} & set(found)


def test_what_a_search_was_in_the_middle_of_is_forgotten_at_its_end(make):
    made, *_ = make({})
    made.found(START, 5)
    assert made.vault.get("searching/dsn-10/1") is None
