"""Choose the partition of a key as every Kafka client does, so that all logs agree."""

from __future__ import annotations

from functools import lru_cache

from kafka.partitioner.default import murmur2


@lru_cache(maxsize=1 << 16)  # the keys are symbols: few, and hashed in Python
def partition_of(key: bytes, partitions: int) -> int:
    """Give the partition of a key among so many: murmur2 without its sign, modulo.

    Examples
    --------
    >>> partition_of(b"BTC-USD", 4)
    1
    """
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
