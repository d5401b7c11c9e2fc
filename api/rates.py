"""How often a key may call: a token bucket per key, in the memory of one process.

A key may call as often as the limit says in any minute, and save up a quarter of that for a burst.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

BURST_SHARE = 0.25
MOST = 10_000  # keys that are remembered


@dataclass
class _Bucket:
    tokens: float
    at: float


class Rates:
    """``per_minute`` calls for each name; 0: no limit."""

    def __init__(self, per_minute: int) -> None:
        self.per_second = per_minute / 60
        self.most = max(1.0, per_minute * BURST_SHARE)
        self._buckets: dict[str, _Bucket] = {}

    def wait(self, name: str, now: float | None = None) -> float:
        """Take one call; 0.0 when it may go on, else the seconds until the next one may (then nothing is taken)."""
        if not self.per_second:
            return 0.0
        now = time.monotonic() if now is None else now
        if name not in self._buckets and len(self._buckets) >= MOST:
            self._buckets = {n: b for n, b in self._buckets.items() if self._filled(b, now) < self.most}
        bucket = self._buckets.setdefault(name, _Bucket(self.most, now))
        bucket.tokens, bucket.at = self._filled(bucket, now), now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self.per_second
        bucket.tokens -= 1
        return 0.0

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self.most, bucket.tokens + (now - bucket.at) * self.per_second)
