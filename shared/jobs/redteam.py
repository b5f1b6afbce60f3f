"""The red-team list (which models may be attacked) and its audit trail, a chain of hashes that shows tampering."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from shared.jobs.errors import NotFound
from shared.jobs.store import PREFIX, JobStore

AUDIT = f"{PREFIX}audit"
NEWEST = f"{PREFIX}audit_newest"  # the hash of the newest entry
ALLOWED = f"{PREFIX}allowed"
SEALED = f"{PREFIX}sealed"  # jobs that may keep text encrypted, by when it is next looked whether it may go
GENESIS = "0" * 64


class AllowedModel(NamedTuple):
    name: str
    ref: str
    added_by: str
    added_ms: int
    digest: str  # SHA-256 of the weights that were allowed


class AuditEntry(NamedTuple):
    id: str
    at_ms: int
    owner: str
    action: str
    detail: str
    hash: str


class Redteam:
    """What may be attacked, and who did what about it."""

    def __init__(self, store: JobStore) -> None:
        self._redis = store.redis
        self._store = store

    def allow(self, name: str, ref: str, owner: str, digest: str) -> AllowedModel:
        """Put a model on the list; the list and its trail change together."""
        model = AllowedModel(name, ref, owner, self._store.now_ms(), digest)
        text = json.dumps(model._asdict())
        self._append(owner, "allow", f"{name} = {ref} {digest}", lambda pipe: pipe.hset(ALLOWED, name, text))
        return model

    def all(self) -> list[AllowedModel]:
        return sorted(AllowedModel(**json.loads(text)) for text in self._redis.hvals(ALLOWED))

    def find(self, name: str) -> AllowedModel:
        """Raises NotFound."""
        text = self._redis.hget(ALLOWED, name)
        if text is None:
            listed = ", ".join(model.name for model in self.all()) or "nothing"
            raise NotFound(
                f"{name} is not on the red-team list; it has: {listed}; an admin adds with `tenfold redteam allow`"
            )
        return AllowedModel(**json.loads(text))

    def remove(self, name: str, owner: str) -> None:
        """Raises NotFound."""
        self.find(name)
        self._append(owner, "remove", name, lambda pipe: pipe.hdel(ALLOWED, name))

    def record(self, owner: str, action: str, detail: str) -> None:
        """Append to the trail; each entry's hash covers the one before it."""
        self._append(owner, action, detail, lambda _: None)

    def _append(self, owner: str, action: str, detail: str, change: Callable[[Any], object]) -> None:
        """An entry and what it is about, in one transaction; again when somebody else appended meanwhile."""
        while True:
            with self._redis.pipeline() as pipe:
                try:
                    pipe.watch(AUDIT)
                    last = pipe.xrevrange(AUDIT, count=1)
                    previous = last[0][1]["hash"] if last else GENESIS
                    entry = {"at_ms": str(self._store.now_ms()), "owner": owner, "action": action, "detail": detail}
                    digest = _chain(previous, entry)
                    pipe.multi()
                    change(pipe)
                    pipe.xadd(AUDIT, {**entry, "hash": digest})
                    pipe.set(NEWEST, digest)
                    pipe.execute()
                    return
                except redis.WatchError:
                    continue

    def audit(self, after: str = "0", limit: int = 200) -> list[AuditEntry]:
        rows = self._redis.xrange(AUDIT, min=f"({after}" if after != "0" else "-", count=limit)
        return [AuditEntry(id, int(f["at_ms"]), f["owner"], f["action"], f["detail"], f["hash"]) for id, f in rows]

    def verify(self) -> tuple[int, str | None]:
        """(entries, the first entry whose hash is not what its content and predecessor give).

        A trail that lacks its newest entries is broken at the last one left ("0-0": none is).
        """
        previous, count, after = GENESIS, 0, "0"
        while entries := self.audit(after):
            for entry in entries:
                content = {
                    "at_ms": str(entry.at_ms),
                    "owner": entry.owner,
                    "action": entry.action,
                    "detail": entry.detail,
                }
                if _chain(previous, content) != entry.hash:
                    return count, entry.id
                previous, count, after = entry.hash, count + 1, entry.id
        if previous != (self._redis.get(NEWEST) or GENESIS):
            return count, after if count else "0-0"
        return count, None


def _chain(previous: str, entry: dict[str, str]) -> str:
    return hashlib.sha256((previous + json.dumps(entry, sort_keys=True)).encode()).hexdigest()
