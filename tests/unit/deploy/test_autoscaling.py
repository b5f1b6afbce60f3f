"""The autoscalers' formulas, on the numbers of our manifests."""

import pytest
import yaml

from tests.autoscaling import HorizontalScaler, new_jobs
from tests.unit.deploy.conftest import DEPLOY

SCALERS = {
    one["metadata"]["name"]: one
    for one in yaml.safe_load_all((DEPLOY / "kubernetes/components/keda/autoscaling.yaml").read_text())
}


@pytest.fixture
def scaler():
    return HorizontalScaler.of(SCALERS["worker-cpu"])


def test_a_burst_doubles_the_workers_every_quarter_minute(scaler):
    assert [scaler.step(now, 40) for now in (0, 15, 30, 45)] == [5, 10, 20, 20]


def test_nobody_is_removed_before_the_queue_was_low_for_five_minutes(scaler):
    for now in range(0, 60, 15):
        scaler.step(now, 12)
    assert [scaler.step(now, 2) for now in range(60, 345, 15)] == [12] * 19
    assert scaler.step(360, 2) < 12


def test_no_more_than_a_quarter_of_the_workers_is_removed_in_a_minute(scaler):
    scaler.replicas = 16
    seen = [scaler.step(1000 + now, 0) for now in range(0, 180, 15)]
    assert seen == [12] * 4 + [9] * 4 + [6] * 4


def test_a_queue_that_grows_again_keeps_everybody(scaler):
    scaler.replicas = 8
    scaler.step(0, 8)
    for now in range(15, 300, 15):
        scaler.step(now, 8 if now == 150 else 1)
    assert scaler.replicas == 8


@pytest.mark.parametrize(
    ("desired", "running", "started"),
    [
        pytest.param(0, 0, 0, id="nothing-wanted"),
        pytest.param(3, 0, 3, id="from-zero"),
        pytest.param(5, 3, 2, id="running-jobs-have-their-pods"),
        pytest.param(1, 3, 0, id="nobody-is-removed"),
        pytest.param(40, 2, 6, id="capped"),
    ],
)
def test_a_scaled_job_starts_what_is_missing_and_removes_nothing(desired, running, started):
    assert new_jobs(desired, running, most=8) == started
