"""Read other formats as records: Coinbase messages, and recordings of any venue."""

from volatility.sources.coinbase import decode
from volatility.sources.messages import Decoder, Message, parse_time
from volatility.sources.recordings import (
    EXAMPLES,
    REQUIRED,
    STDIN,
    Chunk,
    Entry,
    Kind,
    Mapping,
    MappingError,
    RecordingError,
    UnknownContentError,
    changes,
    content,
    find,
    ignored_only,
    members,
    parse_mapping,
    read,
    read_entry,
)

__all__ = [
    "EXAMPLES",
    "REQUIRED",
    "STDIN",
    "Chunk",
    "Decoder",
    "Entry",
    "Kind",
    "Mapping",
    "MappingError",
    "Message",
    "RecordingError",
    "UnknownContentError",
    "changes",
    "content",
    "decode",
    "find",
    "ignored_only",
    "members",
    "parse_mapping",
    "parse_time",
    "read",
    "read_entry",
]
