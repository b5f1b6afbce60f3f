"""What the README tells people to type works as it stands there."""

import os
import re
import subprocess
import sys

import pytest

from services.local.layout import SOURCE
from tests.cluster.embedded import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

LAUNCHER = """#!/bin/sh
# Dispatches as the launcher does, in the Python that runs the tests.
case $1 in
    run) exec {python} -m workers "$@" ;;
    status) exec {python} -m services.local "$@" ;;
    *) exec {python} -m services.cli "$@" ;;
esac
"""
NOT_HERE = ("demo", "test", "up", "down", "lint", "bench")  # each has tests of its own


def commands():
    """The lines after a prompt in the README's console blocks, continuation lines joined, comments kept."""
    text = (SOURCE / "README.md").read_text()
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        joined = block.replace("\\\n", " ")
        yield from (line[2:] for line in joined.splitlines() if line.startswith("$ "))


def test_the_readmes_commands_work_one_after_another(cluster, tmp_path):
    eventually(lambda: cluster.is_healthy())
    launcher = tmp_path / "tenfold"
    launcher.write_text(LAUNCHER.format(python=sys.executable))
    launcher.chmod(0o755)
    lines = [line for line in commands() if not re.match(rf"\./tenfold ({'|'.join(NOT_HERE)})\b", line)]
    assert len(lines) >= 8
    script = "set -eux\n" + "\n".join(lines)
    environment = cluster.environment | {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "figures").glob("*.plotly.json"))


def test_the_readmes_python_works(cluster):
    code = re.search(r"```python\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    assert code is not None
    command = [sys.executable, "-c", code[1]]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "'mean': 12" in done.stdout
