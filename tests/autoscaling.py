"""The formulas by which KEDA and the horizontal pod autoscaler act on `/v1/queues`, as the manifests set them.

Sources: Kubernetes, "Horizontal Pod Autoscaling" (algorithm details; scaling policies; stabilization window) and KEDA,
"ScaledJob" (scaling strategy `default`: maxScale − runningJobCount). Times are seconds of the cluster's own clock.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Policy:
    """One scaling policy: at most so many pods, or so many per cent, in a period."""

    kind: str  # Pods or Percent
    value: int
    period_s: float

    def change(self, replicas: int) -> int:
        return self.value if self.kind == "Pods" else math.ceil(replicas * self.value / 100)


@dataclass
class HorizontalScaler:
    """A ScaledObject's deployment: AverageValue of one external metric with target 1, so its value is the wish."""

    least: int
    most: int
    up: list[Policy]
    down: list[Policy]
    down_window_s: float
    replicas: int = 1
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> "HorizontalScaler":
        spec = manifest["spec"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        up, down = (_policies(behavior[way]) for way in ("scaleUp", "scaleDown"))
        window = behavior["scaleDown"]["stabilizationWindowSeconds"]
        least = spec["minReplicaCount"]
        return cls(least, spec["maxReplicaCount"], up, down, window, least)

    def step(self, now_s: float, metric: float) -> int:
        """The number of pods after this evaluation."""
        wish = min(self.most, max(self.least, math.ceil(metric)))
        self._wishes.append((now_s, wish))
        while self._wishes[0][0] < now_s - self.down_window_s:
            self._wishes.popleft()
        stable = max(wish for _, wish in self._wishes)  # down: the highest wish of the window counts
        if wish > self.replicas:
            self._change(now_s, min(wish, self._limit(now_s, self.up, +1)))
        elif stable < self.replicas:
            self._change(now_s, max(stable, self._limit(now_s, self.down, -1)))
        return self.replicas

    def _limit(self, now_s: float, policies: list[Policy], sign: int) -> int:
        """How far the policy that allows most goes, from the number at its period's beginning."""
        limits = []
        for policy in policies:
            since = [change for at, change in self._changes if at > now_s - policy.period_s and change * sign > 0]
            start = self.replicas - sum(since)
            limits.append(start + sign * policy.change(start))
        return max(limits) if sign > 0 else min(limits)

    def _change(self, now_s: float, replicas: int) -> None:
        if replicas != self.replicas:
            self._changes.append((now_s, replicas - self.replicas))
            self.replicas = replicas


def _policies(rules: dict[str, Any]) -> list[Policy]:
    return [Policy(one["type"], one["value"], one["periodSeconds"]) for one in rules["policies"]]


def new_jobs(desired: float, running: int, most: int) -> int:
    """Pods that a ScaledJob of strategy `default` starts; it never removes one."""
    return max(0, min(math.ceil(desired), most) - running)
