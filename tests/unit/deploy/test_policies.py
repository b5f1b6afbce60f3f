"""What must hold of every container, pod and scaler, whatever overlay it comes from."""

import re

import pytest

from tests.unit.deploy.conftest import OVERLAYS, containers_of, of_kind, pods_of, rendered

WORKERS = ("worker-cpu", "worker-sim", "worker-gpu")


def test_every_container_is_restricted(pods):
    for name, pod in pods.items():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in containers_of(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name


def test_every_container_has_requests_and_limits(pods):
    for name, pod in pods.items():
        for container in containers_of(pod):
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), name
            assert "memory" in resources["limits"], name


def test_every_container_has_the_three_probes(pods):
    for name, pod in pods.items():
        for container in pod["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), (name, container["name"])


def test_a_workers_liveness_is_the_file_that_its_main_process_touches(pods):
    seen = 0
    for name, pod in pods.items():
        for container in pod["spec"]["containers"]:
            if container["name"] == "worker":
                seen += 1
                command = container["livenessProbe"]["exec"]["command"][-1]
                assert "/data/run" in command, name
                assert "-60 seconds" in command, name
    assert seen >= 2


def test_redis_is_alive_and_ready_when_it_answers(pods):
    """A port that is open says nothing while the file is read."""
    for container in pods.get("StatefulSet/redis", {"spec": {"containers": []}})["spec"]["containers"]:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert "redis-cli ping" in container[probe]["exec"]["command"][-1]


def test_keys_of_model_endpoints_are_mounted_into_workers_only(pods):
    for name, pod in pods.items():
        volumes = {one["name"]: one for one in pod["spec"].get("volumes", [])}
        is_worker = pod["metadata"]["labels"].get("tenfold/role") == "worker"
        assert ("model-keys" in volumes) == is_worker, name
        assert ("endpoints" in volumes) == (is_worker or name == "Deployment/gateway"), name
        for container in pod["spec"]["containers"]:
            has = {one["name"] for one in container.get("env", [])}
            assert ("TENFOLD_SECRETS" in has) == (is_worker and container["name"] == "worker"), name


def test_models_are_where_jobs_are_computed_and_admitted():
    for name, pod in pods_of(rendered("everything")):
        mounted = {mount["mountPath"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]}
        assert ("/models" in mounted) == (name.partition("/")[2] in ("gateway", *WORKERS)), name


def test_whoever_makes_spans_reaches_the_collector_and_nobody_else():
    manifests = rendered("everything")
    policies = [one["spec"] for one in of_kind(manifests, "NetworkPolicy")]
    pods = {name.partition("/")[2]: pod["metadata"]["labels"] for name, pod in pods_of(manifests)}
    tracing = {name for name, labels in pods.items() if 4318 in reached(policies, labels, "egress")}
    assert tracing == {"gateway", "annotation", *WORKERS}


def test_the_gateways_readiness_asks_redis_and_the_store_and_its_liveness_does_not(pods):
    (gateway,) = pods["Deployment/gateway"]["spec"]["containers"]
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_a_stopping_worker_has_time_to_hand_back(manifests, pods):
    (config,) = [one for one in of_kind(manifests, "ConfigMap") if one["metadata"]["name"] == "tenfold"]
    grace = float(config["data"]["TENFOLD_STOP_GRACE_S"])
    for name, pod in pods.items():
        if pod["metadata"]["labels"].get("tenfold/role") == "worker":
            assert pod["spec"]["terminationGracePeriodSeconds"] >= grace + 20, name


def test_nothing_asks_for_the_api_servers_credentials_but_rays_head(pods):
    holders = [name for name, pod in pods.items() if pod["spec"]["automountServiceAccountToken"]]
    assert holders in ([], ["RayCluster/sim/head"])


def test_images_are_pinned(pods):
    for name, pod in pods.items():
        for container in containers_of(pod):
            image, _, tag = container["image"].rpartition(":")
            assert image, (name, container["image"])
            assert tag not in ("", "latest"), (name, container["image"])


def test_secrets_are_only_referred_to(manifests):
    assert of_kind(manifests, "Secret") == []
    for one in manifests:
        for text in _texts(one):
            assert not re.search(r"rediss?://[^$\s]*:[^@$\s]+@", text), one["metadata"]["name"]
            assert not re.search(r"tf_[A-Za-z0-9_-]{20}", text), one["metadata"]["name"]


def test_everything_lies_in_one_namespace_that_enforces_the_restricted_standard(manifests):
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {one["metadata"].get("namespace") for one in manifests if one["kind"] != "Namespace"} == {"tenfold"}


def test_what_has_several_pods_has_a_disruption_budget(manifests):
    budgets = {one["metadata"]["name"] for one in of_kind(manifests, "PodDisruptionBudget")}
    expected = {one["metadata"]["name"] for one in of_kind(manifests, "Deployment")} - {"flower", "annotation"}
    expected |= {one["metadata"]["name"] for one in of_kind(manifests, "StatefulSet")}
    assert budgets == expected


# Networks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def policies(manifests):
    return [one["spec"] for one in of_kind(manifests, "NetworkPolicy")]


def selects(selector: dict, labels: dict) -> bool:
    matches = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return matches and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", []))


def reached(policies, labels: dict, way: str) -> set[int]:
    """The ports that some policy opens for a pod, `egress` or `ingress`."""
    rules = [rule for policy in policies if selects(policy["podSelector"], labels) for rule in policy.get(way, [])]
    return {port["port"] for rule in rules for port in rule["ports"]}


def may_talk(policies, source: dict, target: dict, port: int) -> bool:
    """Whether both sides' policies allow it, of two pods in the namespace."""

    def allows(labels, way, peer_key, peer):
        return any(
            any(selects(one["podSelector"], peer) for one in rule[peer_key] if set(one) == {"podSelector"})
            and any(p["port"] <= port <= p.get("endPort", p["port"]) for p in rule["ports"])
            for policy in policies
            if selects(policy["podSelector"], labels)
            for rule in policy.get(way, [])
        )

    return allows(source, "egress", "to", target) and allows(target, "ingress", "from", source)


def test_everything_is_denied_unless_a_policy_names_it(policies):
    deny = [one for one in policies if one["podSelector"] == {} and "ingress" not in one and "egress" not in one]
    assert [sorted(one["policyTypes"]) for one in deny] == [["Egress", "Ingress"]]


def test_every_pod_is_selected_by_a_policy_of_its_own(policies, pods):
    for name, pod in pods.items():
        own = [one for one in policies if one["podSelector"] and selects(one["podSelector"], pod["metadata"]["labels"])]
        assert own, name


def test_who_needs_redis_reaches_it_and_nobody_else(policies, pods):
    labels = {name: pod["metadata"]["labels"] for name, pod in pods.items()}
    if "StatefulSet/redis" not in labels:
        pytest.skip("this overlay's Redis is elsewhere")
    talkers = {name for name, own in labels.items() if may_talk(policies, own, labels["StatefulSet/redis"], 6379)}
    needing = {name for name, pod in pods.items() if _uses(pod, "tenfold_redis_url")}
    assert talkers == needing


def test_nobody_reaches_a_worker_and_workers_reach_no_gateway(policies, pods):
    for name, pod in pods.items():
        labels = pod["metadata"]["labels"]
        if labels.get("tenfold/role") == "worker" and not _uses(pod, "ray_token"):
            assert reached(policies, labels, "ingress") == set(), name
            assert reached(policies, labels, "egress") <= {53, 443, 4318, 6379, 26379}, name


def test_nobody_reaches_the_clouds_metadata_service(policies):
    for policy in policies:
        for rule in policy.get("egress", []):
            for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                assert "169.254.0.0/16" in block.get("except", []) or block["cidr"] == "10.0.0.0/8"


# Scaling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", [one for one in OVERLAYS if one != "local"])
def test_every_pool_is_scaled_by_the_workers_it_wants(overlay):
    scalers = [one for one in rendered(overlay) if one["kind"] in ("ScaledObject", "ScaledJob")]
    assert sorted(one["metadata"]["name"] for one in scalers) == sorted(WORKERS)
    for one in scalers:
        (trigger,) = one["spec"]["triggers"]
        pool = one["metadata"]["name"].removeprefix("worker-")
        assert trigger["metadata"]["valueLocation"] == f'items.#(pool=="{pool}").desired_workers'
        assert trigger["metadata"]["targetValue"] == "1"


@pytest.mark.parametrize("overlay", ["gpu", "ha"])
def test_gpu_workers_start_from_zero_and_nobody_removes_a_running_one(overlay):
    (job,) = of_kind(rendered(overlay), "ScaledJob")
    assert job["spec"]["minReplicaCount"] == 0
    assert job["spec"]["rollout"]["strategy"] == "gradual"
    pod = job["spec"]["jobTargetRef"]["template"]
    assert pod["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    (container,) = pod["spec"]["containers"]
    assert "--exit-when-idle" in container["args"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["spec"]["tolerations"]
    assert pod["spec"]["nodeSelector"]


@pytest.mark.parametrize("overlay", ["gpu", "ha"])
def test_who_scales_a_deployment_alone_says_its_number(overlay):
    manifests = rendered(overlay)
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind(manifests, "ScaledObject")}
    assert scaled == {"worker-cpu", "worker-sim"}
    for one in of_kind(manifests, "Deployment"):
        assert ("replicas" not in one["spec"]) == (one["metadata"]["name"] in scaled)


def test_rays_nodes_reach_each_other_with_a_token():
    manifests = rendered("ha")
    policies = [one["spec"] for one in of_kind(manifests, "NetworkPolicy")]
    nodes = {name: pod["metadata"]["labels"] for name, pod in pods_of(manifests) if _uses(pod, "ray_token")}
    assert sorted(nodes) == ["Deployment/worker-sim", "RayCluster/sim/agents", "RayCluster/sim/head"]
    assert all(may_talk(policies, a, b, 6379) for a in nodes.values() for b in nodes.values() if a is not b)
    (cluster,) = of_kind(manifests, "RayCluster")
    assert cluster["spec"]["authOptions"] == {"mode": "token"}
    assert cluster["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def _uses(pod, key: str) -> bool:
    volumes = [volume.get("secret", {}).get("items", []) for volume in pod["spec"].get("volumes", [])]
    return any(item["key"] == key for items in volumes for item in items)


def _texts(value) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
