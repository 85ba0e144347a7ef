"""Forget the first records of ticks, as retention does."""

from __future__ import annotations

from volatility.streaming.log.interface import TICKS
from volatility.streaming.log.memory_log import MemoryLog


class ShortLog(MemoryLog):
    """A log in memory of which the first records can be forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, int] = {}

    def start_offsets(self, topic: str) -> dict[int, int]:
        return super().start_offsets(topic) | (self.kept if topic == TICKS else {})

    def forget(self, partition: int, before: int) -> None:
        records = self._topics[TICKS].records[partition]
        records[:before] = [None] * before  # type: ignore[list-item]  # reading one must fail
        self.kept[partition] = before
