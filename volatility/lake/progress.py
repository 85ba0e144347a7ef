"""Note through which offset a source is stored, so that not every footer is read to find out."""

from __future__ import annotations

from pathlib import Path

import msgspec

from volatility.files import write_whole

FOLDER = "captured"


class Progress(msgspec.Struct, frozen=True):
    """Represent how far a topic partition is stored.

    Parameters
    ----------
    through : int
        Offset through which nothing is missing; records without a valid row count, too.
    held : int
        Offset through which parts hold it; -1 without parts.
    part : str
        The part that says so, relative to the lake; empty without parts.
    mark : str
        Fingerprint of the record at ``through``, by which a log that was rewritten is noticed.
    """

    through: int
    held: int = -1
    part: str = ""
    mark: str = ""


def read(root: Path, topic: str, partition: int) -> Progress | None:
    """Return the note of a source; None if there is none, or it is damaged."""
    try:
        return msgspec.json.decode(_path(root, topic, partition).read_bytes(), type=Progress)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def advance(
    root: Path, topic: str, partition: int, through: int, part: Path | None, mark: str = ""
) -> None:
    """Note that a source is stored through an offset, by a part or without one.

    The caller holds the lake's lock. What another process has noted beyond it remains.
    """
    before = read(root, topic, partition) or Progress(-1)
    if through <= before.through:
        return
    if part is None:
        after = msgspec.structs.replace(before, through=through, mark=mark)
    else:
        after = Progress(through, through, part.relative_to(root).as_posix(), mark)
    write_whole(_path(root, topic, partition), msgspec.json.encode(after))


def _path(root: Path, topic: str, partition: int) -> Path:
    return root / FOLDER / f"{topic}-{partition}.json"
