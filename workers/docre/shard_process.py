"""The process of one shard, as the job that started it sees it."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from shared.jobs import errors
from shared.jobs.errors import Permanent, Retryable
from workers.docre.shards import Shard

SOURCE = Path(__file__).resolve().parents[2]


class Finished(NamedTuple):
    """A shard's bytes, and what making them took."""

    shard: Shard
    data: bytes
    cpu_s: float
    begun: float  # seconds since the epoch
    ended: float


class ShardProcess:
    """A shard under way. It belongs to the job's process group: who ends the job ends it too."""

    def __init__(self, shard: Shard, task: Path, out: Path) -> None:
        self.shard, self._out, self._begun = shard, out, time.time()
        path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "workers.docre.shards", str(task)]
        self._errors = out.with_suffix(".stderr").open("w+b")
        self._process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=self._errors
        )

    def is_done(self) -> bool:
        return self._process.poll() is not None

    def finished(self) -> Finished:
        """The shard. Raises what its process raised."""
        if self._process.returncode:
            self._raise()
        self._errors.close()
        ended = self._out.stat().st_mtime
        cpu_s = float(self._out.with_suffix(".cpu").read_text())
        return Finished(self.shard, self._out.read_bytes(), cpu_s, self._begun, ended)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        self._errors.close()

    def _raise(self) -> NoReturn:
        self._errors.seek(0)
        last = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        self._errors.close()
        told = self._out.with_suffix(".error")
        if told.exists():
            said = json.loads(told.read_text())
            raise getattr(errors, said["type"])(said["message"])
        if self._process.returncode < 0:
            raise Retryable(f"the process of shard {self.shard.index} was killed by signal {-self._process.returncode}")
        raise Permanent(f"shard {self.shard.index} failed: {last[0] if last else self._process.returncode}")
