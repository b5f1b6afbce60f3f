"""Where the embedded cluster of one TENFOLD_DATA keeps its things."""

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from services.local.errors import CannotStart

SOURCE = Path(__file__).resolve().parents[2]
"""The folder that holds shared/, services/ and workers/."""
PROBE_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """The folders and files of one cluster; `data` is absolute."""

    data: Path

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def redis(self) -> Path:
        return self.data / "redis"

    @property
    def home(self) -> Path:
        """HOME of every process: nothing is written into the user's own."""
        return self.data / "home"

    @property
    def scratch(self) -> Path:
        """TMPDIR of every process but Ray."""
        return self.data / "tmp"

    @property
    def supervisor_conf(self) -> Path:
        return self.data / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        return self.data / "supervisord.pid"

    @property
    def ray_token(self) -> Path:
        return self.data / "ray.token"

    @property
    def redteam_key(self) -> Path:
        """The key that `up --redteam` makes, where the operator names none."""
        return self.data / "redteam.key"

    @property
    def lock(self) -> Path:
        """Held while the cluster is being started or stopped."""
        return self.data / "cluster.lock"

    @cached_property
    def sockets(self) -> Path:
        """A short folder under /tmp: a Unix socket's path may have 107 bytes, TENFOLD_DATA may be longer."""
        return Path("/tmp") / f"tf-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:8]}"

    @property
    def supervisor_socket(self) -> Path:
        return self.sockets / "supervisor.sock"

    def prepare(self) -> None:
        """Make the folders and Ray's token. Raises CannotStart where the disk is full or can't be written to."""
        try:
            for folder in (self.logs, self.redis, self.home, self.scratch):
                folder.mkdir(parents=True, exist_ok=True)
            self._probe()
            self._make_token()
        except OSError as failure:
            why = failure.strerror or str(failure)
            raise CannotStart(
                f"{self.data} can't be written to ({why}): make room or rights there, "
                "or set TENFOLD_DATA to another folder."
            ) from failure
        self._make_sockets()

    def _probe(self) -> None:
        """Find out now that the disk is full, not in the middle of a job."""
        probe = self.data / ".probe"
        try:
            with probe.open("wb") as out:
                out.write(bytes(PROBE_BYTES))
                out.flush()
                os.fsync(out.fileno())
        finally:
            probe.unlink(missing_ok=True)

    def _make_token(self) -> None:
        if not self.ray_token.exists():
            fresh = self.ray_token.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            fresh.replace(self.ray_token)

    def _make_sockets(self) -> None:
        self.sockets.mkdir(mode=0o700, exist_ok=True)
        found = self.sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise CannotStart(f"{self.sockets} is somebody else's: remove it, or set TENFOLD_DATA to another folder.")
