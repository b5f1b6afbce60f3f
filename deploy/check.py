#!/usr/bin/env python3
"""Builds the images, brings compose.yaml's default profile up on this machine, and shows that it keeps its promises:

    the images hold what they should; jobs of every pool run; every container killed in turn loses nothing; a rolling
    restart under load loses nothing and counts no loss; health checks pass; the API, Redis, logs, records and artifacts
    keep their secrets.

    python deploy/check.py [--no-build] [--keep]

ENGINE is docker or podman (the first that answers), COMPOSE the compose command (`docker compose`, `podman-compose`),
CHECK_NO_BUILD says that the images are there,
CHECK_PORT the port on loopback that the API is published on. Needs the Python client (`pip install -e .`). Everything
it starts, it removes, volumes included.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from services.client import Invalid, Job, Tenfold  # noqa: E402

PROJECT = "tenfold-check"
PORT = os.environ.get("CHECK_PORT", "18990")


def first_engine() -> str | None:
    """docker or podman, whichever answers: a command without its daemon is none."""
    for name in filter(shutil.which, ("docker", "podman")):
        if subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    return None


ENGINE = os.environ.get("ENGINE") or first_engine() or "docker"
TAG = os.environ.get("TENFOLD_TAG", "latest")
COMPOSE = os.environ.get("COMPOSE") or (f"{ENGINE} compose" if "docker" in ENGINE else "podman-compose")
SERVICES = ("redis", "gateway", "reconciler", "flower", "worker-cpu", "worker-sim", "worker-gpu-on-cpu", "annotation")
IMAGES = ("services", "cpu", "gpu", "sim")
SECRETS = ("redis_password", "tenfold_admin_token", "flower_password", "grafana_password")
MODEL_KEY = "model-key-that-nobody-may-tell"
DEAF = {"deaf": {"base_url": "http://127.0.0.1:1/v1", "secret": "check-key", "tries": 1, "retry_budget_s": 0}}
RANDOM = {"type": "random", "low": 0, "high": 20}
SOCIETY = {"agents": 100, "months": 100, "capacity": 2000, "start": 2000, "policies": RANDOM}
PATIENCE_S = 300.0
OPERATOR = Path(tempfile.gettempdir()) / f"tenfold-check-operator-{os.getpid()}"


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def run(*command: str, check: bool = True, timeout: float = 600, **environment: str) -> str:
    """Output of a command. Raises RuntimeError with what it said."""
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + ("" if check else done.stderr)


def compose(*arguments: str, check: bool = True) -> str:
    names = ("TENFOLD_PUBLISH", "FLOWER_PUBLISH", "ANNOTATION_PUBLISH")
    ports = {name: f"127.0.0.1:{int(PORT) + offset}" for offset, name in enumerate(names)}
    return run(*shlex.split(COMPOSE), "-p", PROJECT, *arguments, check=check, TENFOLD_OPERATOR=str(OPERATOR), **ports)


def container(service: str) -> str:
    """The container of a service, running or not."""
    labels = (f"label=com.docker.compose.project={PROJECT}", f"label=com.docker.compose.service={service}")
    filters = [part for label in labels for part in ("--filter", label)]
    return run(ENGINE, "ps", "--all", *filters, "--format", "{{.Names}}").split()[0]


def eventually(is_so: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not after {within_s:.0f} s: {what}")
        time.sleep(0.5)


@contextmanager
def installation(*, keep: bool) -> Iterator[Tenfold]:
    """The default profile, up; a client with its admin's token. Removed afterwards."""
    compose("down", "--volumes", check=False)
    write_operators_files()
    try:
        compose("up", "--detach", "--no-build")
        eventually(is_ready, "the gateway is ready")
        token = run(ENGINE, "exec", container("gateway"), "cat", "/secrets/tenfold_admin_token").strip()
        with Tenfold(f"http://127.0.0.1:{PORT}", token=token, patience_s=PATIENCE_S) as tenfold:
            eventually(lambda: all(queue.workers for queue in tenfold.queues()), "every pool has a worker")
            yield tenfold
    finally:
        if not keep:
            compose("down", "--volumes", "--timeout", "40", check=False)
            shutil.rmtree(OPERATOR, ignore_errors=True)


def write_operators_files() -> None:
    """An endpoint that nothing listens at, and its key; readable by the containers' user."""
    for folder in ("endpoints", "secrets", "models"):
        (OPERATOR / folder).mkdir(parents=True, exist_ok=True)
    (OPERATOR / "endpoints/endpoints.json").write_text(json.dumps(DEAF))
    (OPERATOR / "secrets/check-key").write_text(MODEL_KEY)
    for path in (OPERATOR, *OPERATOR.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def is_ready() -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{PORT}/readyz", trust_env=False, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


# What it must show ------------------------------------------------------------------------------------------------


def images_hold_what_they_should() -> None:
    """Each runs by itself as the manifests run it: read-only, without capabilities, as its own user."""
    alone = ("run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", "--tmpfs", "/tmp:mode=1777")

    def says(image: str, code: str, *options: str) -> str:
        return run(ENGINE, *alone, *options, f"tenfold-{image}:{TAG}", "python", "-c", code).strip()

    for image in IMAGES[1:]:
        kernel = says(image, "from shared.models.skinny_gemm import *; print(compiled(Path('/tmp'), print))")
        assert "SkinnyGemm object" in kernel, (image, kernel)
    torch = says("gpu", "import torch, workers.app, pynvml; print(torch.__version__, torch.version.cuda)")
    triton = says("gpu", "from workers.runtime.kernels import *; print(*TRITON.rglob('*.so'))")
    assert torch.endswith("None") or "cuda_utils" in triton, (torch, triton)
    agents = (
        "import ray; ray.init(num_cpus=1, include_dashboard=False); print(ray.get(ray.remote(lambda: 6 * 7).remote()))"
    )
    assert says("sim", agents, "--shm-size", "512m").endswith("42")
    sizes = run(ENGINE, "images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}").splitlines()
    say("images: " + ", ".join(line.rpartition("/")[2] for line in sizes if f":{TAG} " in line and "tenfold-" in line))
    say(f"kernels came along in cpu, gpu, sim; torch of gpu {torch}; Ray runs in sim")


def jobs_of_every_pool_run(tenfold: Tenfold) -> None:
    simulated = tenfold.submit("govsim.simulate", SOCIETY | {"runs": 20})
    indexed = tenfold.submit("insta.index", {"library": "builtin:tasks"})
    aligned = tenfold.submit("insta.align", {"index": f"job:{indexed.id}/index.tar", "steps": 20})
    analysed = tenfold.submit("govsim.analyse", {"sources": [f"job:{simulated.id}"]})
    for job in (simulated, indexed, aligned, analysed):
        succeeded(tenfold, job)
    say("jobs of the pools sim, cpu and gpu, chained through artifacts, succeeded")


def killed_containers_lose_nothing(tenfold: Tenfold) -> None:
    undisturbed = artifacts_of(tenfold, succeeded(tenfold, tenfold.submit("govsim.simulate", load(0))))
    for service in SERVICES:
        jobs = submit_load(tenfold)
        eventually(lambda jobs=jobs: is_any_running(tenfold, jobs), "a job runs")
        before = started_at(service)
        run(
            ENGINE, "kill", "--signal", "KILL", container(service), check=False
        )  # podman may tire of waiting for the end
        time.sleep(1)
        run(ENGINE, "start", container(service), check=False)
        eventually(lambda service=service, before=before: started_at(service) != before, f"{service} started anew")
        done = [succeeded(tenfold, job) for job in jobs]
        assert artifacts_of(tenfold, done[0]) == undisturbed, f"other bytes after {service} was killed"
        losses = sum(job.losses for job in done)
        say(f"kill -9 of {service}: {len(done)} jobs succeeded, {losses} losses, the same bytes")


def started_at(service: str) -> str:
    return run(ENGINE, "inspect", "--format", "{{.State.StartedAt}}", container(service)).strip()


def rolling_restart_counts_no_loss(tenfold: Tenfold) -> None:
    jobs = []
    for service in SERVICES:
        fresh = submit_load(tenfold)
        jobs += fresh
        eventually(lambda fresh=fresh: is_any_running(tenfold, fresh), "a job runs")
        run(ENGINE, "stop", "--time", "40", container(service))
        run(ENGINE, "start", container(service))
        eventually(is_ready, f"ready after the restart of {service}")
    done = [succeeded(tenfold, job) for job in jobs]
    losses = {job.id: job.losses for job in done if job.losses}
    assert not losses, f"restarts counted as losses: {losses}"
    again = sum(job.attempt > 1 for job in done)
    say(f"rolling restart of {len(SERVICES)} services: {len(done)} jobs succeeded, {again} handed back, no loss")


def strangers_are_refused(tenfold: Tenfold) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", trust_env=False, timeout=10) as stranger:
        for path in ("/v1/jobs", "/v1/queues", "/v1/kinds"):
            assert stranger.get(path).status_code == 401, path
        for path in (
            "/v1/files/..%2f..%2fsecrets%2fredis_password",
            "/v1/jobs/..%2f../artifacts/x",
            "//secrets/redis.conf",
        ):
            assert stranger.get(path).status_code in (401, 404), path
    named = {"index": "http://169.254.169.254/latest/meta-data", "instructions": ["x"]}
    refused(tenfold, "insta.query", named)
    refused(tenfold, "insta.query", named | {"index": "file:///secrets/redis_password"})
    answer = run(ENGINE, "exec", container("redis"), "redis-cli", "ping", check=False)
    assert "NOAUTH" in answer, answer
    say("without a token 401; traversal and foreign references refused; Redis wants its password")


def no_secret_is_told(tenfold: Tenfold) -> None:
    """Neither by logs, /metrics and containers, nor by records, events and artifacts, nor in what Redis writes."""
    asked = {"policies": {"type": "llm", "model": "endpoint:deaf/model"}, "runs": 1, "months": 1}
    failed = tenfold.wait(tenfold.submit("govsim.simulate", asked, max_attempts=1).id, timeout_s=PATIENCE_S)
    assert failed.state == "failed", "an endpoint at which nothing listens answered"
    told = {service: run(ENGINE, "logs", container(service), check=False) for service in SERVICES}
    told |= {f"inspect {service}": run(ENGINE, "inspect", container(service)) for service in SERVICES}
    told["/metrics"] = httpx.get(f"http://127.0.0.1:{PORT}/metrics", trust_env=False).text
    jobs = [tenfold.job(job.id) for job in tenfold.jobs()]
    told |= {f"record {job.id}": job.model_dump_json() for job in jobs}
    told |= {f"events {job.id}": str(tenfold.event_page(job.id).items) for job in jobs}
    secrets = [(name, run(ENGINE, "exec", container("gateway"), "cat", f"/secrets/{name}").strip()) for name in SECRETS]
    for name, secret in (*secrets, ("the endpoint's key", MODEL_KEY)):
        assert len(secret) >= 16, name
        assert not [place for place, text in told.items() if secret in text], f"{name} is told"
        for service, folder in (("gateway", "/artifacts"), ("redis", "/redis")):
            found = run(ENGINE, "exec", container(service), "grep", "-rlF", "-e", secret, folder, check=False)
            assert not found.strip(), f"{name} stands in {found}"
    say(f"no secret in logs, /metrics, containers, {len(jobs)} records, their events and artifacts, on Redis's disk")


def health_checks_pass() -> None:
    for service in SERVICES:
        eventually(lambda service=service: is_healthy(container(service)), f"{service} is healthy")
    say(f"the health checks of {len(SERVICES)} services pass")


def is_healthy(name: str) -> bool:
    if "podman" in ENGINE:  # which runs them by itself only under systemd
        return subprocess.run([ENGINE, "healthcheck", "run", name], capture_output=True).returncode == 0
    return run(ENGINE, "inspect", "--format", "{{.State.Health.Status}}", name).strip() == "healthy"


def containers_are_restricted() -> None:
    for service in SERVICES[1:]:
        name = container(service)
        assert run(ENGINE, "exec", name, "id", "-u").strip() == "10001", service
        assert "Read-only" in run(ENGINE, "exec", name, "touch", "/opt/x", check=False), service
        for tool in ("gcc", "make", "git"):
            assert run(ENGINE, "exec", name, "sh", "-c", f"command -v {tool} || echo none").strip() == "none", tool
    torch = run(ENGINE, "exec", container("gateway"), "python", "-c", "import torch", check=False)
    assert "No module named 'torch'" in torch, torch
    say("non-root, read-only, no compiler; the services image has no torch")


def refused(tenfold: Tenfold, kind: str, params: dict[str, object]) -> None:
    try:
        tenfold.submit(kind, params)
    except Invalid:
        return
    raise AssertionError(f"{params} was accepted")


def is_any_running(tenfold: Tenfold, jobs: list[Job]) -> bool:
    return any(tenfold.job(job.id).state != "queued" for job in jobs)


def load(seed: int) -> dict[str, object]:
    return SOCIETY | {"runs": 400, "seed": seed}


def submit_load(tenfold: Tenfold) -> list[Job]:
    """Work for every pool, some seconds of it."""
    indexed = tenfold.submit("insta.index", {"library": "builtin:tasks"}, max_attempts=10)
    return [
        tenfold.submit("govsim.simulate", load(0), max_attempts=10),
        tenfold.submit("govsim.simulate", load(1), max_attempts=10),
        indexed,
        tenfold.submit("insta.align", {"index": f"job:{indexed.id}/index.tar", "steps": 20}, max_attempts=10),
    ]


def succeeded(tenfold: Tenfold, job: Job) -> Job:
    done = tenfold.wait(job.id, timeout_s=PATIENCE_S * 2)
    assert done.state == "succeeded", (done.kind, done.state, done.error)
    return done


def artifacts_of(tenfold: Tenfold, job: Job) -> dict[str, str]:
    """Digests by name, without those that tell of clock and attempts."""
    clocked = ("log.txt", "timings.jsonl", "manifest.json")
    return {one.name: one.sha256 for one in tenfold.artifacts(job.id) if one.name not in clocked}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--no-build", action="store_true", help="the images are there")
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    options = parser.parse_args()
    if not (options.no_build or os.environ.get("CHECK_NO_BUILD")):
        print(run(str(ROOT / "deploy/build"), *IMAGES, timeout=3600, ENGINE=ENGINE, TAG=TAG).splitlines()[-4:])
    images_hold_what_they_should()
    with installation(keep=options.keep) as tenfold:
        say("up")
        health_checks_pass()
        containers_are_restricted()
        jobs_of_every_pool_run(tenfold)
        strangers_are_refused(tenfold)
        killed_containers_lose_nothing(tenfold)
        rolling_restart_counts_no_loss(tenfold)
        no_secret_is_told(tenfold)
    say("all of it holds")


if __name__ == "__main__":
    main()
