"""Redis behind Sentinel: the URL, and a master that dies under a real Sentinel."""

import subprocess
import time

import pytest
import redis

from shared.broker import Messages, make_app, queue_key
from shared.jobs.catalog import catalog
from shared.jobs.record import Priority
from shared.jobs.store import JobStore, NewJob, Submission
from shared.sentinel import SentinelAddress, sentinel_of
from tests.redis_server import binaries, free_port, redis_server

SPEC = catalog()["govsim.simulate"]
PASSWORD = "of@the:master"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        pytest.param("redis://h:6379/0", None, id="one-redis"),
        pytest.param("sentinel://h/m", SentinelAddress((("h", 26379),), "m"), id="shortest"),
        pytest.param(
            "sentinel://u:p%40s@a:1,b:2,c/m/3?sentinel_password=q%26",
            SentinelAddress((("a", 1), ("b", 2), ("c", 26379)), "m", 3, "u", "p@s", "q&"),
            id="everything",
        ),
        pytest.param("sentinel://:p@[::1]:5/m", SentinelAddress((("::1", 5),), "m", password="p"), id="ipv6"),
    ],
)
def test_a_url_says_which_sentinels_are_asked_for_what(url, address):
    assert sentinel_of(url) == address


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("sentinel://:hush@h:26379", id="no-master"),
        pytest.param("sentinel://:hush@/m", id="no-host"),
        pytest.param("sentinel://:hush@a:x/m", id="port"),
        pytest.param("sentinel://:hush@a,,b/m", id="empty-host"),
        pytest.param("sentinel://:hush@a/m/first", id="db"),
        pytest.param("sentinel://:hush@a/m?password=hush", id="unknown-option"),
    ],
)
def test_a_url_of_another_form_is_refused_with_the_form_and_without_its_password(url):
    with pytest.raises(ValueError, match=r"sentinel://\[user:password@\]host") as refused:
        sentinel_of(url)
    assert "hush" not in str(refused.value)


def test_celery_is_given_every_sentinel_and_the_masters_credentials():
    url, options = SentinelAddress((("a", 1), ("::1", 2)), "m", 3, "u", "p@s", "q").broker()
    assert url == "sentinel://u:p%40s@a:1/3;sentinel://u:p%40s@[::1]:2/3"
    assert (options["master_name"], options["sentinel_kwargs"]["password"]) == ("m", "q")


@pytest.fixture(scope="module")
def replicated(tmp_path_factory):
    """(URL, master, replica): two servers and a Sentinel that moves the master after half a second."""
    credentials = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
    with redis_server(*credentials, password=PASSWORD) as master:
        follow = ("--replicaof", "127.0.0.1", str(master.port))
        with redis_server(*credentials, *follow, password=PASSWORD) as replica:
            _eventually(lambda: replica.client().info("replication")["master_link_status"] == "up")
            port, folder = free_port(), tmp_path_factory.mktemp("sentinel")
            configuration = folder / "sentinel.conf"
            configuration.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor main 127.0.0.1 {master.port} 1\n"
                f"sentinel auth-pass main {PASSWORD}\nsentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 2000\n"
            )
            command = [next(iter(binaries().values())), configuration, "--sentinel"]
            with (folder / "out").open("wb") as out:
                process = subprocess.Popen(command, stdout=out, stderr=out)
            try:
                sentinel = redis.Redis(port=port, decode_responses=True)
                _eventually(lambda: _knows_replica(sentinel))
                yield f"sentinel://:of%40the%3Amaster@127.0.0.1:1,127.0.0.1:{port}/main", master, replica
                sentinel.close()
            finally:
                process.terminate()
                process.wait(20)


def _knows_replica(sentinel: redis.Redis) -> bool:
    try:
        return len(sentinel.sentinel_slaves("main")) == 1
    except redis.RedisError:
        return False


def _eventually(is_so, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def submit(store, messages) -> str:
    message, queue = messages.template(SPEC, Priority.NORMAL), queue_key(SPEC.pool, Priority.NORMAL)
    new = NewJob(SPEC.kind, SPEC.version, SPEC.pool, "{}", message, queue, Priority.NORMAL)
    return store.submit(new, Submission("ann")).id


def delivered(app) -> str:
    """The task id of the next message, by Celery's transport."""
    with app.connection_for_read() as connection, connection.SimpleQueue(app.amqp.queues["sim"]) as queue:
        message = queue.get(timeout=20)
        message.ack()
        return str(message.headers["id"])


def test_store_and_celery_go_on_with_the_replica_when_the_master_dies(replicated):
    url, master, replica = replicated
    store, app = JobStore.connect(url), make_app(url)
    messages = Messages(app)
    try:
        before = submit(store, messages)
        assert delivered(app) == f"{before}.1"
        store.redis.wait(1, 5000)
        master.process.kill()
        _eventually(lambda: replica.client().role()[0] == "master")
        assert store.get(before).kind == SPEC.kind
        after = submit(store, messages)
        assert delivered(app) == f"{after}.1"
    finally:
        store.redis.close()
        app.close()
