"""Read other formats as records: Coinbase messages and recordings of them."""

from volatility.sources.coinbase import decode
from volatility.sources.messages import Decoder, Message, parse_time
from volatility.sources.recordings import REQUIRED, Chunk, RecordingError, changes, read

__all__ = [
    "REQUIRED",
    "Chunk",
    "Decoder",
    "Message",
    "RecordingError",
    "changes",
    "decode",
    "parse_time",
    "read",
]
