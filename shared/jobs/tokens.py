"""API tokens: 256 random bits behind a fixed prefix, shown once, kept as a hash."""

import hashlib
import json
import secrets
from enum import StrEnum
from typing import NamedTuple

from shared.jobs.errors import NotFound
from shared.jobs.store import PREFIX, JobStore

TOKEN_PREFIX = "tenfold_"  # secret scanners find leaks by it
USED = f"{PREFIX}tokens_used"  # when each was last used


class Scope(StrEnum):
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    REDTEAM = "redteam"
    REDTEAM_REVEAL = "redteam:reveal"
    ADMIN = "admin"


class Caller(NamedTuple):
    """Who makes a call."""

    owner: str
    scopes: frozenset[Scope]

    def may_change(self, owner: str) -> bool:
        return owner == self.owner or Scope.ADMIN in self.scopes


class Token(NamedTuple):
    """What is known of a token; never the token itself."""

    id: str
    name: str
    owner: str
    scopes: tuple[Scope, ...]
    created_ms: int
    expires_ms: int | None
    last_used_ms: int | None


class Tokens:
    """The tokens of a cluster, looked up by their hash."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def create(
        self, name: str, owner: str, scopes: list[Scope], expires_days: float | None = None
    ) -> tuple[Token, str]:
        """A new token and its secret, which is not kept."""
        secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
        now_ms = self._store.now_ms()
        expires_ms = now_ms + int(expires_days * 86_400_000) if expires_days else None
        token = Token(_digest(secret)[:16], name, owner, tuple(sorted(set(scopes))), now_ms, expires_ms, None)
        fields = {"name": name, "owner": owner, "scopes": json.dumps(token.scopes), "created_ms": now_ms}
        if expires_ms:
            fields["expires_ms"] = expires_ms
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.hset(self._key(_digest(secret)), mapping=fields)
            pipe.hset(f"{PREFIX}tokens", token.id, _digest(secret))
            pipe.execute()
        return token, secret

    def caller(self, secret: str) -> Caller | None:
        """Who holds this token; None when it is unknown, revoked or past its days."""
        digest = _digest(secret)
        fields = self._store.redis.hgetall(self._key(digest))
        if not fields:
            return None
        now_ms = self._store.now_ms()
        if int(fields.get("expires_ms", now_ms + 1)) <= now_ms:
            return None
        self._note_use(digest[:16], now_ms)
        return Caller(fields["owner"], frozenset(Scope(scope) for scope in json.loads(fields["scopes"])))

    def all(self) -> list[Token]:
        """Every token, newest first."""
        tokens = []
        used = self._store.redis.hgetall(USED)
        for token_id, digest in self._store.redis.hgetall(f"{PREFIX}tokens").items():
            if fields := self._store.redis.hgetall(self._key(digest)):
                tokens.append(_token(token_id, fields, used.get(token_id)))
        return sorted(tokens, key=lambda token: -token.created_ms)

    def revoke(self, token_id: str) -> None:
        """Raises NotFound."""
        digest = self._store.redis.hget(f"{PREFIX}tokens", token_id)
        if digest is None:
            raise NotFound(f"there is no token {token_id}")
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.delete(self._key(digest))
            pipe.hdel(f"{PREFIX}tokens", token_id)
            pipe.hdel(USED, token_id)
            pipe.execute()

    def _note_use(self, token_id: str, now_ms: int) -> None:
        """Once a minute, and apart from the token, which may be revoked at this moment."""
        if now_ms - int(self._store.redis.hget(USED, token_id) or 0) > 60_000:
            self._store.redis.hset(USED, token_id, now_ms)

    def _key(self, digest: str) -> str:
        return f"{PREFIX}token:{digest}"


def _token(token_id: str, fields: dict[str, str], used_ms: str | None) -> Token:
    return Token(
        token_id,
        fields["name"],
        fields["owner"],
        tuple(Scope(scope) for scope in json.loads(fields["scopes"])),
        int(fields["created_ms"]),
        int(fields["expires_ms"]) if "expires_ms" in fields else None,
        int(used_ms) if used_ms else None,
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
