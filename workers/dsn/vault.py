"""What an evaluation has found so far, text included: in memory, and in checkpoints only encrypted.

Without the operator's key nothing is stored: a job that loses its worker starts again from its seed.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput
from shared.sealed import Key, SealError, read_key
from shared.settings import Settings

BLOB = "found.enc"
T = TypeVar("T")


def operators_key(settings: Settings) -> Key | None:
    """Raises InvalidInput where the file that the operator named can't be used."""
    if settings.redteam_key is None:
        return None
    try:
        return read_key(settings.redteam_key)
    except SealError as error:
        raise InvalidInput(f"TENFOLD_REDTEAM_KEY: {error}") from None


class Vault:
    """Findings by name. `once` computes what isn't known and saves it."""

    def __init__(self, ctx: JobContext, key: Key | None, model_digest: str) -> None:
        self.ctx, self.key, self._about = ctx, key, f"checkpoint {model_digest}"
        self._found: dict[str, Any] = self._restored()

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What stands under the name, computed now if need be. JSON values only."""
        if name not in self._found:
            self._found[name] = json.loads(json.dumps(compute()))  # what a resumed job will read
            self.save()
        return cast(T, self._found[name])

    def get(self, name: str) -> Any:
        return self._found.get(name)

    def put(self, name: str, value: Any) -> None:
        """Keep without saving; None forgets."""
        if value is None:
            self._found.pop(name, None)
        else:
            self._found[name] = value

    def starting(self, beginning: str) -> dict[str, Any]:
        """Everything whose name begins so, in order of discovery."""
        return {name: value for name, value in self._found.items() if name.startswith(beginning)}

    def save(self) -> None:
        if self.key is None:
            self.ctx.check()
            return
        text = json.dumps(self._found, ensure_ascii=False).encode()
        self.ctx.checkpoint({"sealed": True}, {BLOB: self.key.seal(text, self._about)})

    def _restored(self) -> dict[str, Any]:
        restored = self.ctx.restored()
        if restored is None or self.key is None or BLOB not in restored.blobs:
            return {}
        try:
            found: dict[str, Any] = json.loads(self.key.unseal(restored.blobs[BLOB].read_bytes(), self._about))
        except SealError as error:
            raise InvalidInput(
                f"the checkpoint can't be read ({error}): key or model changed meanwhile; submit the job again"
            ) from None
        return found
