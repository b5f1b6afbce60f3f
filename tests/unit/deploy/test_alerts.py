"""Alert rules and the dashboard."""

import json
import re
import shutil
import subprocess

import pytest
import yaml

from tests.unit.deploy.conftest import DEPLOY, of_kind, rendered

RULES = DEPLOY / "prometheus/rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/tenfold.json").read_text())
ALERTS = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
FROM_ONE_GATEWAY = re.compile(r"(time\(\) - )?(max|min|histogram_quantile\(0?\.\d+, max|sum by \([a-z, ]+\) \(max)")
FIRE_ON_SOME_LABELS_ONLY = {"TenfoldWorkersLost", "TenfoldJobsFail", "TenfoldMessagesRepublished"}
"""Their silence is shown by the labels missing from what fires."""
OPERATING = (DEPLOY.parent / "docs/operating.md").read_text()


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: Debian's package prometheus has it")
    return subprocess.run([program, *arguments], cwd=RULES.parent, capture_output=True, text=True)


def test_the_rules_do_what_their_tests_say():
    done = promtool("test", "rules", "rules_test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_series_on_which_it_fires_and_on_which_it_does_not():
    tried = {alert["alert"]: set() for alert in ALERTS}
    for case in yaml.safe_load((RULES.parent / "rules_test.yaml").read_text())["tests"]:
        for one in case["alert_rule_test"]:
            tried[one["alertname"]].add("exp_alerts" in one)
    assert {name for name, ways in tried.items() if True not in ways} == set()
    assert {name for name, ways in tried.items() if False not in ways} == FIRE_ON_SOME_LABELS_ONLY


def test_prometheus_takes_the_rules():
    done = promtool("check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_operators_rules_are_the_same():
    (rule,) = of_kind(rendered("ha"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_alerts_know_the_gateways_by_the_name_that_both_prometheuses_give_them():
    (job,) = set(re.findall(r'job="([^"]+)"', " ".join(one["expr"] for one in ALERTS)))
    (own,) = yaml.safe_load((RULES.parent / "prometheus.yaml").read_text())["scrape_configs"]
    (monitor,) = of_kind(rendered("ha"), "ServiceMonitor")
    (rule,) = monitor["spec"]["endpoints"][0]["relabelings"]
    assert own["job_name"] == job
    assert rule == {"targetLabel": "job", "replacement": job}


@pytest.mark.parametrize("alert", ALERTS, ids=[one["alert"] for one in ALERTS])
def test_an_alert_has_a_severity_a_summary_and_a_runbook_that_exists(alert):
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert alert["annotations"]["summary"].endswith(".")
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    assert page == "docs/operating.md"
    assert anchor in {re.sub(r"[^a-z0-9-]", "", line.lower()) for line in re.findall(r"^#+ (.+)$", OPERATING, re.M)}


def test_counters_of_the_whole_cluster_are_never_summed_over_gateways():
    """Each gateway tells the same; only HTTP requests are each one's own."""
    texts = [one["expr"] for one in ALERTS]
    texts += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    for text in texts:
        if "tenfold_" in text and "tenfold_http" not in text:
            assert FROM_ONE_GATEWAY.match(text), text
