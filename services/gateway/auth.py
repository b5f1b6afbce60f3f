"""Who calls, and what they may do.

On loopback without a token the caller is `local` with every scope but redteam (`up --redteam` grants it). A token,
where given, always counts, and a gateway that listens anywhere else asks every caller for one, whatever
TENFOLD_AUTH says. On loopback the Host header is checked (DNS rebinding); a foreign Origin is refused everywhere.
"""

import hmac
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import g

from services.gateway.problems import Problem
from services.gateway.state import gateway
from shared.jobs.tokens import Caller, Scope, Tokens
from shared.settings import Settings

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
REDTEAM = frozenset({Scope.REDTEAM, Scope.REDTEAM_REVEAL})
LOCAL = Caller("local", frozenset(Scope) - REDTEAM)
LOCAL_REDTEAM = Caller("local", frozenset(Scope))
LOCAL_STAND_IN = Caller("local", frozenset(Scope) - {Scope.REDTEAM_REVEAL})


def caller() -> Caller:
    """The caller of this request."""
    known: Caller = g.caller
    return known


def authenticate(environ: dict[str, Any], settings: Settings) -> Caller:
    """Who calls. Raises Problem 401."""
    header = environ.get("HTTP_AUTHORIZATION")
    if header is not None:
        return _holder(header)
    if trusts_loopback(settings) and _is_loopback(environ.get("REMOTE_ADDR", "")):
        if settings.redteam == "stand_in":
            return LOCAL_STAND_IN
        return LOCAL_REDTEAM if settings.redteam else LOCAL
    raise _unauthorized("a token is required")


def require(*scopes: Scope) -> None:
    """Raises Problem 403 when the caller lacks a scope."""
    missing = [scope for scope in scopes if scope not in caller().scopes]
    if missing:
        raise Problem("forbidden", f"this needs the scope {', '.join(missing)}; you have: {_listed(caller())}")


def require_owner(owner: str, what: str) -> None:
    """Raises Problem 403 when the caller may not change what this owner owns."""
    if not caller().may_change(owner):
        raise Problem("forbidden", f"{what} is {owner}'s; changing another's needs the scope admin")


def check_origin(environ: dict[str, Any], settings: Settings) -> None:
    """Refuse unknown Host headers and foreign origins. Raises Problem 403."""
    host = environ.get("HTTP_HOST", "")
    if trusts_loopback(settings) and not _is_named(host, settings.hosts):
        raise Problem("forbidden", f"Host {host[:100]!r} is not this gateway's; add it to TENFOLD_HOSTS")
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _is_ours(origin, host, settings.hosts):
        raise Problem("forbidden", f"Origin {origin[:100]!r} is foreign to this gateway")


def trusts_loopback(settings: Settings) -> bool:
    """Whether callers on this machine need no token."""
    return settings.auth == "loopback" and settings.host in ("127.0.0.1", "localhost", "::1")


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    return not address or ip_address(address).is_loopback  # no address: a Unix socket


@lru_cache(maxsize=1024)
def _is_named(host: str, hosts: str) -> bool:
    """Whether a Host header names this machine's loopback, or what the operator named."""
    name = (host if host.endswith("]") else host.rsplit(":", 1)[0]).lower()
    return name in LOOPBACK_HOSTS or name in _names(hosts)


def _is_ours(origin: str, host: str, hosts: str) -> bool:
    """Whether an origin is this gateway itself, or a host the operator named."""
    try:
        parts = urlsplit(origin)
        return parts.netloc == host or (parts.hostname or "") in _names(hosts)
    except ValueError:  # not a URL at all
        return False


def _names(hosts: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in hosts.split(",") if name.strip())


def _holder(header: str) -> Caller:
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthorized("send Authorization: Bearer <token>")
    admin = gateway().settings.admin_token
    if admin and hmac.compare_digest(secret.strip().encode(), admin.encode()):
        return Caller("admin", LOCAL.scopes)
    holder = Tokens(gateway().store).caller(secret.strip())
    if holder is None:
        raise _unauthorized("the token is unknown, revoked or expired")
    return holder


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _listed(who: Caller) -> str:
    return ", ".join(sorted(who.scopes)) or "none"
