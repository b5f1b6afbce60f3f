"""Who calls, and what they may do.

On loopback without a token the caller is `local` with every scope but redteam (`up --redteam` grants it). A token,
where given, always counts. The Host header is checked (DNS rebinding), and a foreign Origin is refused.
"""

import hmac
from urllib.parse import urlsplit

from flask import g, request

from services.gateway.problems import Problem
from services.gateway.state import gateway
from shared.jobs.tokens import Caller, Scope, Tokens

LOCAL = "local"
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})


def caller() -> Caller:
    """The caller of this request."""
    known: Caller = g.caller
    return known


def authenticate() -> None:
    """Find out who calls. Raises Problem 401."""
    settings = gateway().settings
    header = request.headers.get("Authorization", "")
    if header:
        g.caller = _holder(header)
    elif settings.auth == "loopback":
        scopes = set(Scope) - {Scope.REDTEAM, Scope.REDTEAM_REVEAL}
        g.caller = Caller(
            LOCAL, frozenset(scopes | ({Scope.REDTEAM, Scope.REDTEAM_REVEAL} if settings.redteam else set()))
        )
    else:
        raise _unauthorized("a token is required")


def require(*scopes: Scope) -> None:
    """Raises Problem 403 when the caller lacks a scope."""
    missing = [scope for scope in scopes if scope not in caller().scopes]
    if missing:
        raise Problem("forbidden", f"this needs the scope {', '.join(missing)}; you have: {_listed(caller())}")


def check_origin() -> None:
    """Refuse unknown Host headers and foreign origins. Raises Problem 403."""
    settings = gateway().settings
    accepted = LOOPBACK_HOSTS | {name.strip() for name in settings.hosts.split(",") if name.strip()}
    host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
    if settings.auth == "loopback" and host not in accepted:
        raise Problem("forbidden", f"Host {host!r} is not this gateway's; add it to TENFOLD_HOSTS")
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc != request.host and _host_of(origin) not in accepted - LOOPBACK_HOSTS:
        raise Problem("forbidden", f"Origin {origin!r} is foreign to this gateway")


def _host_of(origin: str) -> str:
    return urlsplit(origin).hostname or ""


def _holder(header: str) -> Caller:
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise _unauthorized("send Authorization: Bearer <token>")
    admin = gateway().settings.admin_token
    if admin and hmac.compare_digest(secret.encode(), admin.encode()):
        return Caller("admin", frozenset(set(Scope) - {Scope.REDTEAM, Scope.REDTEAM_REVEAL}))
    holder = Tokens(gateway().store).caller(secret)
    if holder is None:
        raise _unauthorized("the token is unknown, revoked or expired")
    return holder


def _unauthorized(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _listed(who: Caller) -> str:
    return ", ".join(sorted(who.scopes)) or "none"
