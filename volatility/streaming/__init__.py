"""The long-running processes around the event log: ingest, capture and score."""

from volatility.streaming.capture import Rotation, capture_topic
from volatility.streaming.ingest import last_records, market_from, run, source_of, symbols_of
from volatility.streaming.models import Models
from volatility.streaming.score import GROUP, Scorer
from volatility.streaming.sources.venues import VENUES
from volatility.streaming.together import Together
from volatility.streaming.topics import CAPTURED

__all__ = [
    "CAPTURED",
    "GROUP",
    "VENUES",
    "Models",
    "Rotation",
    "Scorer",
    "Together",
    "capture_topic",
    "last_records",
    "market_from",
    "run",
    "source_of",
    "symbols_of",
]
