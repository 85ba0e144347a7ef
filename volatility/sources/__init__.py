"""Read other formats as records: Coinbase messages and recordings of them."""

from volatility.sources.coinbase import Message, decode, parse_time
from volatility.sources.recordings import REQUIRED, Chunk, RecordingError, changes, read

__all__ = [
    "REQUIRED",
    "Chunk",
    "Message",
    "RecordingError",
    "changes",
    "decode",
    "parse_time",
    "read",
]
