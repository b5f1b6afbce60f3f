"""Who calls, and what they may do.

On loopback without a token the caller is `local` with every scope but redteam (`up --redteam` grants it). A token,
where given, always counts, and a gateway that listens anywhere else asks every caller for one, whatever
TENFOLD_AUTH says. On loopback the Host header is checked (DNS rebinding); a foreign Origin is refused everywhere.
"""

import hmac
from functools import cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import g, request

from services.gateway.problems import Problem
from services.gateway.state import gateway
from shared.jobs.tokens import Caller, Scope, Tokens
from shared.settings import Settings

LOCAL = "local"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
REDTEAM = frozenset({Scope.REDTEAM, Scope.REDTEAM_REVEAL})
LOCAL_SCOPES = frozenset(Scope) - REDTEAM


def caller() -> Caller:
    """The caller of this request."""
    known: Caller = g.caller
    return known


def authenticate() -> None:
    """Find out who calls. Raises Problem 401."""
    settings = gateway().settings
    header = request.headers.get("Authorization")
    if header is not None:
        g.caller = _holder(header)
    elif trusts_loopback(settings) and _is_loopback(request.remote_addr):
        g.caller = Caller(LOCAL, frozenset(Scope) if settings.redteam else LOCAL_SCOPES)
    else:
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


def check_origin() -> None:
    """Refuse unknown Host headers and foreign origins. Raises Problem 403."""
    settings = gateway().settings
    named = _names(settings.hosts)
    if trusts_loopback(settings) and _without_port(request.host) not in LOOPBACK_HOSTS | named:
        raise Problem("forbidden", f"Host {request.host[:100]!r} is not this gateway's; add it to TENFOLD_HOSTS")
    origin = request.headers.get("Origin")
    if origin is not None and not _is_ours(origin, named):
        raise Problem("forbidden", f"Origin {origin[:100]!r} is foreign to this gateway")


def trusts_loopback(settings: Settings) -> bool:
    """Whether callers on this machine need no token."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return settings.auth == "loopback" and host in LOOPBACK_HOSTS


def _is_loopback(address: str | None) -> bool:
    return not address or ip_address(address).is_loopback  # no address: a Unix socket


@cache
def _names(hosts: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in hosts.split(",") if name.strip())


def _without_port(host: str) -> str:
    return (host if host.endswith("]") else host.rsplit(":", 1)[0]).lower()


def _is_ours(origin: str, named: frozenset[str]) -> bool:
    """The origin is this gateway itself, or a host the operator named."""
    try:
        parts = urlsplit(origin)
        return parts.netloc == request.host or (parts.hostname or "") in named
    except ValueError:  # not a URL at all
        return False


def _holder(header: str) -> Caller:
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthorized("send Authorization: Bearer <token>")
    admin = gateway().settings.admin_token
    if admin and hmac.compare_digest(secret.strip().encode(), admin.encode()):
        return Caller("admin", LOCAL_SCOPES)
    holder = Tokens(gateway().store).caller(secret.strip())
    if holder is None:
        raise _unauthorized("the token is unknown, revoked or expired")
    return holder


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _listed(who: Caller) -> str:
    return ", ".join(sorted(who.scopes)) or "none"
