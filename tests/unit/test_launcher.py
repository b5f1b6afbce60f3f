"""`./tenfold` itself: what it installs when, and what it hands a command to.

A small shell script stands in for Python, so that an installation takes no time; it notes what it was asked to do.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]

PYTHON = r"""#!/bin/bash
# Stands in for python3: knows `-c`, `-m venv DIR` and, inside that, everything else; notes each call.
here=$(dirname -- "$0")
[ "$1" != -c ] || { [ -e "$here/too-old" ] && exit 1; case $2 in *fcntl*) exec REAL "$@" ;; *) exit 0 ;; esac; }
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/lint-imports"; exit; fi
echo "$(basename -- "$0") $*" >>"$NOTES"
if [ "$1 $2" = "-m pip" ]; then sleep "${INSTALLING_S:-0}"; fi
exit "${EXIT_CODE:-0}"
"""


class Checkout:
    """A bare clone with the launcher, and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a clone"
        self.bin = folder / "bin"
        self.notes = folder / "notes"
        for path in (self.root, self.bin, self.root / "tests" / "unit" / "govsim"):
            path.mkdir(parents=True)
        for name in ("tenfold", "pyproject.toml", "constraints.txt"):
            shutil.copy(SOURCE / name, self.root)
        python = self.bin / "python3.11"
        python.write_text(PYTHON.replace("REAL", shutil.which("python3") or "python3"))
        python.chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        known = {"PATH": f"{self.bin}:/usr/bin:/bin", "NOTES": str(self.notes), "HOME": ""}
        return subprocess.Popen(
            [self.root / "tenfold", *arguments], env=known | environment, cwd="/", text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def calls(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def installations(self) -> int:
        return sum("-m pip" in call for call in self.calls())

    def last(self) -> str:
        return self.calls()[-1]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_the_first_command_installs_once_with_the_pins_and_later_ones_do_not(checkout):
    checkout.run("kinds")
    checkout.run("kinds")
    assert checkout.installations() == 1
    root = checkout.root
    assert f"--constraint {root}/constraints.txt --editable {root}[dev]" in checkout.calls()[0]


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_a_changed_list_of_packages_is_installed_anew(checkout, changed):
    checkout.run("kinds")
    with (checkout.root / changed).open("a") as file:
        file.write("\n")
    checkout.run("kinds")
    assert checkout.installations() == 2


def test_a_torch_index_of_ones_own_is_passed_on(checkout):
    checkout.run("kinds", TENFOLD_TORCH_INDEX="https://wheels.example/cpu")
    assert "--extra-index-url https://wheels.example/cpu" in checkout.calls()[0]


def test_an_installation_killed_half_way_is_begun_again_from_nothing(checkout):
    process = checkout.start("kinds", INSTALLING_S="60")
    venv = checkout.root / ".venv"
    deadline = time.monotonic() + 10
    while checkout.installations() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (venv / "half a package").touch()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert checkout.run("kinds").returncode == 0
    assert not (venv / "half a package").exists()
    assert checkout.installations() == 2


def test_a_failed_installation_runs_nothing_and_is_tried_again(checkout):
    assert checkout.run("kinds", EXIT_CODE="7").returncode == 7
    assert checkout.installations() == len(checkout.calls()) == 1
    checkout.run("kinds")
    assert checkout.installations() == 2


def test_two_at_once_install_once(checkout):
    both = [checkout.start("kinds", INSTALLING_S="0.5") for _ in range(2)]
    for process in both:
        process.communicate(timeout=30)
    assert [process.returncode for process in both] == [0, 0]
    assert checkout.installations() == 1


def test_without_a_fitting_python_one_sentence_says_so(checkout):
    (checkout.bin / "too-old").touch()
    done = checkout.run("kinds", PATH=f"{checkout.bin}:{_bare_tools(checkout)}")
    assert done.returncode == 1
    assert "needs Python 3.11 or 3.12" in done.stderr
    assert done.stderr.count("\n") == 1


def _bare_tools(checkout: Checkout) -> Path:
    """The few tools the launcher uses, without the machine's Pythons."""
    tools = checkout.bin.parent / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "readlink", "cat", "cksum", "rm", "touch"):
        (tools / name).symlink_to(shutil.which(name) or name)
    return tools


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        pytest.param(["up", "--redteam"], "python -m services.local up --redteam", id="up"),
        pytest.param(["demo", "--keep"], "python -m services.local demo --keep", id="demo"),
        pytest.param(["status", "--json"], "python -m services.local status --json", id="status"),
        pytest.param(["run", "k", "-p", "a=1"], "python -m workers run k -p a=1", id="run"),
        pytest.param(["bench", "gateway", "--json"], "python -m tests.bench gateway --json", id="bench"),
        pytest.param(["submit", "k", "-p", "a=two words"], "python -m services.cli submit k -p a=two words", id="else"),
        pytest.param(["test"], "python -m pytest -m not slow and not chaos", id="test"),
        pytest.param(["test", "--all"], "python -m pytest", id="test --all"),
        pytest.param(["test", "-x", "govsim"], "python -m pytest -m not slow and not chaos -x tests/unit/govsim",
                     id="test of a method"),
    ],
)  # fmt: skip
def test_a_command_is_handed_on_with_its_arguments(checkout, arguments, call):
    checkout.run(*arguments)
    assert checkout.last() == call


def test_the_commands_exit_code_is_the_launchers(checkout):
    checkout.run("kinds")
    assert checkout.run("watch", "ID", EXIT_CODE="3").returncode == 3


def test_tests_of_nothing_are_a_wrong_usage(checkout):
    checkout.run("kinds")
    done = checkout.run("test", "nonesuch")
    assert done.returncode == 2
    assert "no tests of 'nonesuch'" in done.stderr


def test_a_failing_linter_fails_the_command(checkout):
    checkout.run("kinds")
    assert checkout.run("lint", EXIT_CODE="1").returncode == 1


def test_help_needs_no_installation(checkout):
    assert "./tenfold demo" in checkout.run("--help").stdout
    assert checkout.calls() == []
