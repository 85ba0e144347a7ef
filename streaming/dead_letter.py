"""Keep what cannot be read, with the reason, in a topic of its own."""

from __future__ import annotations

from streaming.log import DEAD_LETTER, LARGEST_RECORD, Writer


def bury(
    writer: Writer, key: bytes | None, value: bytes, reason: str, source: str | None = None
) -> None:
    """Append a record to ``ticks.dead-letter``.

    One longer than a record may be is cut, and its header ``length`` says how long it was.

    Parameters
    ----------
    reason : str
        Why it cannot be read.
    source : str, optional
        ``topic/partition/offset`` where it was read.

    Raises
    ------
    LogError
        When the writer's queue is full.
    """
    headers = [("reason", reason.encode())]
    if source is not None:
        headers.append(("source", source.encode()))
    if len(value) > LARGEST_RECORD:
        headers.append(("length", str(len(value)).encode()))
        value = value[:LARGEST_RECORD]
    writer.append(DEAD_LETTER, key, value, headers)
