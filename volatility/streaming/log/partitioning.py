"""Choose the partition of a key the way every Kafka client does, so that all logs agree."""

from __future__ import annotations

from functools import lru_cache

from kafka.partitioner.default import murmur2


@lru_cache(maxsize=1 << 16)  # the keys are symbols: few, but hashed in Python
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key: murmur2 without its sign, modulo the partition count.

    Examples
    --------
    >>> partition_of(b"BTC-USD", 4)
    1
    """
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
