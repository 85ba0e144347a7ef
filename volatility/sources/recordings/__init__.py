"""Read recordings of any supported kind as chunks of lake rows, in bounded memory."""

from volatility.sources.recordings.chunks import (
    CHUNK_ROWS,
    EXAMPLES,
    REQUIRED,
    Chunk,
    Kind,
    RecordingError,
    Rejected,
    UnknownContentError,
    changes,
)
from volatility.sources.recordings.mapping import Mapping, MappingError, parse_mapping
from volatility.sources.recordings.opening import STDIN, Entry, content, find, members
from volatility.sources.recordings.reading import ignored_only, read, read_entry

__all__ = [
    "CHUNK_ROWS",
    "EXAMPLES",
    "REQUIRED",
    "STDIN",
    "Chunk",
    "Entry",
    "Kind",
    "Mapping",
    "MappingError",
    "RecordingError",
    "Rejected",
    "UnknownContentError",
    "changes",
    "content",
    "find",
    "ignored_only",
    "members",
    "parse_mapping",
    "read",
    "read_entry",
]
