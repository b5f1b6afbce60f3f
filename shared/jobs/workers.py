"""Which workers are alive, and what each pool has waiting and running: true from the job records."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from shared.jobs.store import PREFIX, JobStore


class PoolStatus(NamedTuple):
    pool: str
    waiting: int
    running: int
    slots: int
    workers: int
    oldest_wait_s: float
    desired_workers: int


class GpuMemory(NamedTuple):
    """Of one GPU of a worker's machine, by all its processes."""

    used_bytes: int
    total_bytes: int


class WorkerList:
    """Workers announce themselves; whoever stops doing so is gone after a while."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def announce(self, name: str, pool: str, slots: int, alive_for_s: float) -> None:
        until_ms = self._store.now_ms() + int(alive_for_s * 1000)
        with self._store.redis.pipeline(transaction=True) as pipe:
            pipe.zadd(f"{PREFIX}workers:{pool}", {name: until_ms})
            pipe.hset(f"{PREFIX}slots:{pool}", name, slots)
            pipe.hset(f"{PREFIX}slots_last", pool, slots)
            pipe.execute()

    def announce_gpus(self, name: str, pool: str, gpus: Sequence[GpuMemory]) -> None:
        self._store.redis.hset(f"{PREFIX}gpus:{pool}", name, json.dumps(gpus))

    def gpus(self, pool: str) -> dict[str, list[GpuMemory]]:
        """By worker, of those that have announced some."""
        found = self._store.redis.hgetall(f"{PREFIX}gpus:{pool}")
        return {name: [GpuMemory(*gpu) for gpu in json.loads(text)] for name, text in sorted(found.items())}

    def remove(self, name: str, pool: str) -> None:
        self._store.redis.zrem(f"{PREFIX}workers:{pool}", name)
        self._forget(pool, name)

    def status(self, pool: str) -> PoolStatus:
        """Waiting, running and alive now; `desired_workers = ceil((waiting + running) / slots per worker)`.

        Slots per worker are those of the largest alive, or of the last seen when none is.
        """
        redis, now_ms = self._store.redis, self._store.now_ms()
        self._forget_the_dead(pool, now_ms)
        with redis.pipeline(transaction=True) as pipe:
            pipe.zcard(f"{PREFIX}queued:{pool}")
            pipe.zcard(f"{PREFIX}running:{pool}")
            pipe.zrange(f"{PREFIX}queued:{pool}", 0, 0, withscores=True)
            pipe.zrange(f"{PREFIX}workers:{pool}", 0, -1)
            pipe.hgetall(f"{PREFIX}slots:{pool}")
            pipe.hget(f"{PREFIX}slots_last", pool)
            waiting, running, oldest, alive, slots, last = pipe.execute()
        per_worker = max([int(slots[name]) for name in alive if name in slots] or [int(last or 1)])
        return PoolStatus(
            pool=pool,
            waiting=waiting,
            running=running,
            slots=sum(int(slots.get(name, 0)) for name in alive),
            workers=len(alive),
            oldest_wait_s=max(0.0, (now_ms - oldest[0][1]) / 1000) if oldest else 0.0,
            desired_workers=math.ceil((waiting + running) / per_worker),
        )

    def _forget_the_dead(self, pool: str, now_ms: int) -> None:
        dead = self._store.redis.zrangebyscore(f"{PREFIX}workers:{pool}", "-inf", now_ms)
        if dead:
            self._store.redis.zremrangebyscore(f"{PREFIX}workers:{pool}", "-inf", now_ms)
            self._forget(pool, *dead)

    def _forget(self, pool: str, *names: str) -> None:
        for what in ("slots", "gpus"):
            self._store.redis.hdel(f"{PREFIX}{what}:{pool}", *names)
