"""Redis behind Sentinel, as a URL:

    sentinel://[user:password@]host[:port][,host[:port]…]/master[/db][?sentinel_password=…]

User and password are the master's; the Sentinels' own password, where they have one, stands in the query. The store
asks them for the master whenever it connects, and Celery's transport does the same.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

SCHEME = "sentinel://"
FORM = "sentinel://[user:password@]host[:port][,host[:port]…]/master[/db][?sentinel_password=…]"
ANSWERS_S = 2.0
"""How long one Sentinel may take, before the next one is asked."""
_PORT = 26379
_NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\s]+)(:(?P<port>\d{1,5}))?\Z")
_PATH = re.compile(r"/(?P<master>[^/]+)(/(?P<db>\d{1,4})?)?\Z")


@dataclass(frozen=True)
class SentinelAddress:
    """Where the Sentinels are, and what they are asked for."""

    nodes: tuple[tuple[str, int], ...]
    master: str
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinel_password: str | None = None

    def client(self, **options: Any) -> redis.Redis:
        """A client of whoever is master at the time of each connection. `options` are redis-py's own."""
        sentinels = Sentinel(list(self.nodes), sentinel_kwargs=self._sentinel_options())
        found: redis.Redis = sentinels.master_for(
            self.master, redis_class=redis.Redis, db=self.db, username=self.username, password=self.password, **options
        )
        return found

    def broker(self) -> tuple[str, dict[str, Any]]:
        """Celery's broker URL, one part per Sentinel, and the transport options that go with it."""
        named = f"{quote(self.username or '', '')}:{quote(self.password, '')}@" if self.password else ""
        url = ";".join(f"{SCHEME}{named}{_netloc(host)}:{port}/{self.db}" for host, port in self.nodes)
        return url, {"master_name": self.master, "sentinel_kwargs": self._sentinel_options()}

    def _sentinel_options(self) -> dict[str, Any]:
        """One that does not answer is not asked twice: by default each dead Sentinel costs every connection 9 s."""
        password = {"password": self.sentinel_password} if self.sentinel_password else {}
        patience = {"socket_timeout": ANSWERS_S, "socket_connect_timeout": ANSWERS_S, "retry": Retry(NoBackoff(), 0)}
        return patience | password


def _netloc(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def sentinel_of(url: str) -> SentinelAddress | None:
    """What a URL says of Sentinels; None for a URL of one Redis. Raises ValueError, which tells no password."""
    if not url.startswith(SCHEME):
        return None
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    nodes = [_NODE.match(node) for node in hosts.split(",")]
    path, query = _PATH.match(parts.path), parse_qs(parts.query)
    if path is None or not all(nodes) or set(query) - {"sentinel_password"}:
        raise ValueError(f"the Redis URL names no Sentinels that can be asked; its form is {FORM}")
    return SentinelAddress(
        tuple((node["host"].strip("[]"), int(node["port"] or _PORT)) for node in nodes if node),
        unquote(path["master"]),
        int(path["db"] or 0),
        unquote(username) or None,
        unquote(password) or None,
        query.get("sentinel_password", [None])[0],
    )
