"""Every name that alerts, dashboard and autoscalers use is one that a running cluster really exposes."""

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
DEPLOY = Path(__file__).parents[2] / "deploy"
TEXTS = [(DEPLOY / "prometheus/rules.yaml").read_text(), (DEPLOY / "grafana/dashboards/tenfold.json").read_text()]
AUTOSCALERS = [*(DEPLOY / "kubernetes/components").rglob("*.yaml")]


@pytest.fixture(scope="module")
def series(cluster):
    """Names of series, with the labels each family has."""
    text = httpx.get(f"{cluster.url}/metrics", trust_env=False, timeout=20).text
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")} if kind == "histogram" else {name}
    return names


@pytest.mark.parametrize("text", TEXTS, ids=["alerts", "dashboard"])
def test_every_series_is_exposed(series, text):
    used = set(re.findall(r"\btenfold_[a-z0-9_]+", text))
    assert used
    assert used <= series, used - series


def test_every_autoscaler_asks_for_a_field_that_is_there(cluster):
    items = httpx.get(f"{cluster.url}/v1/queues", trust_env=False, timeout=20).json()["items"]
    queues = {item["pool"]: item for item in items}
    asked = [
        trigger["metadata"]
        for path in AUTOSCALERS
        for manifest in yaml.safe_load_all(path.read_text())
        for trigger in (manifest.get("spec") or {}).get("triggers", [])
    ]
    assert len(asked) == 3
    for one in asked:
        pool, field = re.fullmatch(r'items\.#\(pool=="(\w+)"\)\.(\w+)', one["valueLocation"]).groups()
        assert one["url"].endswith(":8000/v1/queues")
        assert isinstance(queues[pool][field], int), json.dumps(queues)
