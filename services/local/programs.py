"""The processes of the embedded cluster: what is run, in which order it is stopped, on which ports it listens."""

import os
import socket
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from services.local import redis_server
from services.local.layout import Layout
from shared.jobs.catalog import pools
from shared.settings import Settings

RAY_ADDRESS = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""Ray replaces 127.0.0.1 by the machine's outer address, which changes with the network; this loopback one it keeps."""
RAY_STORE_BYTES = 200 * 1000**2
RAY_MAX_CPUS = 4
Redteam = bool | Literal["stand_in"]
"""Whether red-team kinds are offered; stand_in: against what ships with Tenfold."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: list[str]
    ports: dict[str, int] = field(default_factory=dict)
    """What it listens on, by what for."""
    environment: dict[str, str] = field(default_factory=dict)
    stop_s: int = 10
    """Seconds between SIGTERM and SIGKILL."""
    alive: str | None = None
    """The file under TENFOLD_DATA/run that it touches as long as it does its rounds."""
    is_essential: bool = True
    """The cluster answers /readyz only with it; the others are started once it does."""

    @property
    def group(self) -> str:
        """Programs of one group are restarted together when their settings change."""
        return "workers" if self.name.startswith("worker-") else self.name


STAGES = 3


def stopping_stage(name: str) -> int:
    """When a program is stopped: workers first, who hand their jobs back; then the rest; last Redis, which all need."""
    if name.startswith("worker-"):
        return 0
    return STAGES - 1 if name == "redis" else 1


def programs(settings: Settings, layout: Layout, *, redteam: Redteam) -> list[Program]:
    """Everything that runs on this machine under these settings."""
    key = {"TENFOLD_REDTEAM_KEY": str(settings.redteam_key or layout.redteam_key)} if redteam else {}
    found = [_gateway(settings, layout, redteam, key), *_workers(settings, layout, key), _reconciler()]
    if settings.redis_url is None:
        found.insert(0, _redis(settings, layout))
    if settings.ray_address is None:
        found.append(_ray(settings, layout))
    return [*found, _annotation(settings, layout), _flower(settings), *_console(settings)]


def address(host: str, port: int) -> str:
    """As it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _redis(settings: Settings, layout: Layout) -> Program:
    port = settings.ports.redis
    server = redis_server.find(layout.redis)
    command = redis_server.arguments(server, port, layout.redis, settings.redis_maxmemory_mb)
    return Program("redis", command, ports={"redis": port}, stop_s=20)


def _gateway(settings: Settings, layout: Layout, redteam: Redteam, key: dict[str, str]) -> Program:
    port = settings.ports.gateway
    command = [sys.executable, "-m", "gunicorn", "--config", "python:services.gateway.server"]
    command += ["--bind", address(settings.host, port)]
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(layout.scratch / "gateway-metrics")}
    environment |= {"TENFOLD_REDTEAM": "1" if redteam is True else redteam, **key} if redteam else {}
    return Program("gateway", command, ports={"http": port}, environment=environment)


def _workers(settings: Settings, layout: Layout, key: dict[str, str]) -> list[Program]:
    return [
        Program(
            f"worker-{pool}",
            [sys.executable, "-m", "workers", "worker", "--pool", pool, "--slots", str(_slots(settings, pool))],
            environment=ONE_THREAD | (_ray_access(layout) if pool == "sim" else {}) | (key if pool == "gpu" else {}),
            stop_s=int(settings.stop_grace_s) + 3,
            alive=f"{pool}@{socket.gethostname()}.alive",
        )
        for pool in pools()
    ]


def _slots(settings: Settings, pool: str) -> int:
    """Jobs at once. A device is one job's; the other pools grow with the machine."""
    default = 1 if pool == "gpu" else max(1, (os.cpu_count() or 1) // 4)
    return settings.slots.get(pool, default)


def _reconciler() -> Program:
    return Program("reconciler", [sys.executable, "-m", "services.reconciler"], alive="reconciler.alive")


def _annotation(settings: Settings, layout: Layout) -> Program:
    port = settings.ports.annotation
    command = [sys.executable, "-m", "gunicorn", "--config", "python:services.annotation.server"]
    command += ["--bind", address(settings.host, port)]
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(layout.scratch / "annotation-metrics")}
    return Program("annotation", command, ports={"http": port}, environment=environment, is_essential=False)


def _flower(settings: Settings) -> Program:
    port = settings.ports.flower
    command = [
        sys.executable, "-m", "celery", "--app", "shared.broker:app", "flower",
        "--address=127.0.0.1", f"--port={port}", "--read_only=True", "--max_tasks=10000",
    ]  # fmt: skip
    environment = {"FLOWER_UNAUTHENTICATED_API": "true"}  # it listens on loopback, and only shows
    return Program("flower", command, ports={"http": port}, environment=environment, is_essential=False)


def _ray(settings: Settings, layout: Layout) -> Program:
    """The head that `sim` workers attach to. Each of its ports is fixed, so that clusters can live side by side."""
    first = settings.ports.ray
    names = (
        "port", "node-manager-port", "object-manager-port", "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port",
    )  # fmt: skip
    ports = {name: first + offset for offset, name in enumerate(names)}
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--node-ip-address={RAY_ADDRESS}",
        *(f"--{name}={port}" for name, port in ports.items()),
        f"--min-worker-port={first + len(ports)}", f"--max-worker-port={first + 27}",
        f"--num-cpus={min(os.cpu_count() or 1, RAY_MAX_CPUS)}", "--num-gpus=0",
        f"--object-store-memory={RAY_STORE_BYTES}", f"--temp-dir={layout.sockets / 'ray'}",
        "--include-dashboard=false", "--include-log-monitor=false", "--disable-usage-stats",
    ]  # fmt: skip
    metrics = {"AUTOSCALER_METRIC_PORT": first + 28, "DASHBOARD_METRIC_PORT": first + 29}
    environment = ONE_THREAD | _ray_access(layout) | {name: str(port) for name, port in metrics.items()}
    return Program("ray", command, ports=ports | metrics, environment=environment, stop_s=15, is_essential=False)


def _ray_access(layout: Layout) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(layout.ray_token), "RAY_USAGE_STATS_ENABLED": "0"}


def _console(settings: Settings) -> list[Program]:
    """The console, once this installation has one."""
    if not find_spec("services.console"):
        return []
    port = settings.ports.console
    command = [sys.executable, "-m", "services.console", "--port", str(port)]
    return [Program("console", command, ports={"http": port}, is_essential=False)]
