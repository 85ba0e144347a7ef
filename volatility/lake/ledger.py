"""Read and write the ledger of gaps: what is known to be missing, one line per gap.

>>> import tempfile
>>> ledger = Path(tempfile.mkdtemp()) / "gaps.jsonl"
>>> append(ledger, Gap("BTC-USD", 1_000, 2_000, "reconnect"))
>>> read(ledger)
[Gap(symbol='BTC-USD', start_ns=1000, stop_ns=2000, reason='reconnect', detail={})]
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import msgspec

from volatility.files import make_folder, sync
from volatility.lake.parts import LakeError

_log = logging.getLogger(__name__)


VOID = "void"  # reason of a gap whose rows are in the lake, but must not be used


class Gap(msgspec.Struct, frozen=True):
    """Represent a period [ns] in which nothing is known about ``symbol``, and the reason.

    ``detail`` contains whatever helps to find the cause, such as the lost sequence numbers.
    """

    symbol: str
    start_ns: int
    stop_ns: int
    reason: str
    detail: dict[str, Any] = {}


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Gap)


def append(path: Path, gap: Gap) -> None:
    """Append one line with a single write; it is on disk when this returns.

    Raises
    ------
    LakeError
        When the file cannot be written.
    """
    line = _encoder.encode(gap) + b"\n"
    try:
        created = not path.exists()
        if created:
            make_folder(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line  # do not append to a line that a crash left incomplete
            if os.write(handle, line) < len(line):  # the disk was full amid the line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
        if created:
            sync(path.parent)
    except OSError as error:
        raise LakeError(
            f"cannot write {path} ({error.strerror}); free some space, then run again"
        ) from error


def read(path: Path, symbol: str | None = None) -> list[Gap]:
    """Read the gaps in the order in which they were recorded, without repetitions.

    A line that a crash left incomplete is skipped and logged; a missing file means no gaps.
    """
    if not path.exists():
        return []
    gaps: list[Gap] = []
    for number, line in enumerate(dict.fromkeys(path.read_bytes().splitlines()), start=1):
        if not line:
            continue
        try:
            gap = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            _log.warning("%s: skipping incomplete entry %d", path, number)
            continue
        if symbol in (None, gap.symbol):
            gaps.append(gap)
    return gaps
