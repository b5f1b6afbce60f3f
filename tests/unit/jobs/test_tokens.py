"""API tokens: shown once, looked up by hash, revoked at once."""

import pytest

from shared.jobs.errors import NotFound
from shared.jobs.tokens import Caller, Scope, Tokens


@pytest.fixture
def tokens(lives):
    return Tokens(lives.store)


def test_a_token_tells_its_owner_and_scopes(tokens):
    token, secret = tokens.create("ci", "ann", [Scope.JOBS_WRITE, Scope.JOBS_READ, Scope.JOBS_READ])
    assert secret.startswith("tenfold_")
    assert len(secret) >= 8 + 43  # 256 bits in base64
    assert tokens.caller(secret) == Caller("ann", frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))
    assert token.scopes == (Scope.JOBS_READ, Scope.JOBS_WRITE)


def test_the_secret_is_kept_nowhere(lives, tokens):
    _, secret = tokens.create("ci", "ann", [Scope.ADMIN])
    kept = [lives.redis.dump(key) for key in lives.redis.scan_iter("*") if lives.redis.type(key) != "string"]
    assert not any(secret[8:].encode() in str(value).encode() for value in kept)
    assert not any(secret in key for key in lives.redis.scan_iter("*"))


@pytest.mark.parametrize("secret", ["", "tenfold_", "tenfold_wrong", "other"])
def test_an_unknown_token_is_nobodys(tokens, secret):
    assert tokens.caller(secret) is None


def test_a_token_ends_with_its_days(lives, tokens):
    _, secret = tokens.create("ci", "ann", [Scope.ADMIN], expires_days=1)
    lives.wait(86_399)
    assert tokens.caller(secret)
    lives.wait(1)
    assert tokens.caller(secret) is None


def test_a_revoked_token_is_nobodys(lives, tokens):
    token, secret = tokens.create("ci", "ann", [Scope.ADMIN])
    tokens.revoke(token.id)
    assert (tokens.caller(secret), tokens.all()) == (None, [])
    with pytest.raises(NotFound):
        tokens.revoke(token.id)


def test_use_at_the_moment_of_revoking_brings_nothing_back(lives, tokens):
    token, secret = tokens.create("ci", "ann", [Scope.ADMIN])
    tokens.revoke(token.id)
    tokens._note_use(token.id, lives.store.now_ms())  # a request that had looked the token up before
    assert (tokens.caller(secret), tokens.all()) == (None, [])


def test_last_use_is_noted_once_a_minute(lives, tokens):
    _, secret = tokens.create("ci", "ann", [Scope.ADMIN])
    assert tokens.all()[0].last_used_ms is None
    tokens.caller(secret)
    first = tokens.all()[0].last_used_ms
    lives.wait(60)
    tokens.caller(secret)
    assert tokens.all()[0].last_used_ms == first
    lives.wait(1)
    tokens.caller(secret)
    assert tokens.all()[0].last_used_ms == first + 61_000


@pytest.mark.parametrize(
    ("scopes", "owner", "may"), [([], "ann", True), ([], "ben", False), ([Scope.ADMIN], "ben", True)]
)
def test_changing_anothers_job_needs_admin(scopes, owner, may):
    assert Caller("ann", frozenset(scopes)).may_change(owner) is may
