"""Keep unreadable records, with the reason, in a separate topic."""

from __future__ import annotations

from volatility.streaming.log import DEAD_LETTER, LARGEST_RECORD, Writer


def send_to_dead_letter(
    writer: Writer, key: bytes | None, value: bytes, reason: str, source: str | None = None
) -> None:
    """Append a record to ``ticks.dead-letter``.

    A value above the size limit is truncated, and its header ``length`` gives the original size.

    Parameters
    ----------
    reason : str
        Why the record cannot be read.
    source : str, optional
        ``topic/partition/offset`` it was read from.

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
