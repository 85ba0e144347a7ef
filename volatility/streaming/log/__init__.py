"""The event log: one small interface, implemented on Kafka and in memory."""

from volatility.streaming.log.interface import (
    DEAD_LETTER,
    LARGEST_RECORD,
    LAYOUT,
    PREDICTIONS,
    TICKS,
    EventLog,
    LogError,
    Message,
    Reader,
    Writer,
    was_deleted,
)
from volatility.streaming.log.kafka_log import KafkaLog

__all__ = [
    "DEAD_LETTER",
    "LARGEST_RECORD",
    "LAYOUT",
    "PREDICTIONS",
    "TICKS",
    "EventLog",
    "KafkaLog",
    "LogError",
    "Message",
    "Reader",
    "Writer",
    "was_deleted",
]
