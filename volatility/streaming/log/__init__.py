"""The event log: one small interface, implemented on Kafka and in memory."""

from volatility.streaming.log.interface import (
    DEAD_LETTER,
    LARGEST_RECORD,
    LAYOUT,
    PREDICTIONS,
    TICKS,
    DeniedError,
    EventLog,
    LogError,
    Message,
    Reader,
    Writer,
    was_deleted,
)
from volatility.streaming.log.kafka_log import KafkaLog
from volatility.streaming.log.local_log import LocalLog
from volatility.streaming.log.partitioning import partition_of

__all__ = [
    "DEAD_LETTER",
    "LARGEST_RECORD",
    "LAYOUT",
    "PREDICTIONS",
    "TICKS",
    "DeniedError",
    "EventLog",
    "KafkaLog",
    "LocalLog",
    "LogError",
    "Message",
    "Reader",
    "Writer",
    "partition_of",
    "was_deleted",
]
