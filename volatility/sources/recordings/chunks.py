"""Define what a reader of recordings returns: chunks of lake rows, and what was rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from volatility.records import normalise

CHUNK_ROWS = 131_072
EXAMPLES = "examples of messages"  # what a file is called that shows them
REQUIRED = ("symbol", "time", "price", "bid", "ask")

Kind = Literal["quotes", "trades"]
# Return the symbol under which the lake keeps a venue's name; TickError when there is none.
Resolve = Callable[[str, str], str]


class RecordingError(Exception):
    """A file is not a readable recording; the message says what is wrong with it."""


class UnknownContentError(RecordingError):
    """Nothing in a file looks like market data."""


class MessagesInsideError(RecordingError):
    """The rows of a table are wrappers: a column contains JSON."""


class Rejected(msgspec.Struct, frozen=True):
    """Represent an entry that is not a valid tick: line or row (from 1), reason, original text."""

    position: int
    reason: str
    raw: str


class Chunk(msgspec.Struct, frozen=True):
    """Represent consecutive rows of a recording.

    Parameters
    ----------
    table : Table
        Valid rows with the columns of ``LAKE_SCHEMA``; ``offset`` is the record's number in the
        file, counting rejected ones. Trades have neither bid nor ask.
    run : int32[rows]
        Index into ``names``: the uninterrupted run that a row belongs to.
    names : list of str
    rejected : list of Rejected
    share : float
        Fraction of the file that has been read, 0 to 1.
    ignored : Counter
        Messages so far that carry no tick, by kind.
    kind : {"quotes", "trades"}
    said : tuple of str
        What was recognised, and what was decided, so far.
    outside : str
        Symbol and venue, where they come from outside the content: the same content in another
        folder is another recording.
    """

    table: pa.Table
    run: npt.NDArray[np.int32]
    names: list[str]
    rejected: list[Rejected]
    share: float
    ignored: Counter[str]
    kind: Kind = "quotes"
    said: tuple[str, ...] = ()
    outside: str = ""


def by_table(name: str, venue: str) -> str:  # noqa: ARG001
    """Return the symbol of a name by the table of symbols alone, whatever the venue."""
    return normalise(name).symbol


def changes(run: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Split rows into stretches of one run: pairs of first row and one past the last.

    >>> changes(np.array([0, 0, 1], dtype=np.int32))
    [(0, 2), (2, 3)]
    """
    edges = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(run)]
    return [(start, stop) for start, stop in pairwise(edges) if stop > start]
