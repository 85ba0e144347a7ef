"""Keep records on disk, one after the other, so that they outlive the process.

A record is written by one system call before anyone may read it: a process that is killed loses
nothing that was read. What a kill or a power cut leaves half written at the end is cut off. Like
Kafka, the journal leaves it to the system when a write reaches the disk itself.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from volatility.streaming.log.interface import LogError, Message

SEGMENT_BYTES = 8 * 1024 * 1024  # per file; whole files are deleted
HEAD = struct.Struct("<II")  # length and CRC-32 of the content
Place = tuple[str, int]  # topic and partition


class _Entry(msgspec.Struct, array_like=True, gc=False):
    topic: str
    message: Message


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Entry)


class Journal:
    """Append records to numbered files in a folder.

    Parameters
    ----------
    folder : Path
        Exists; used by one process at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._size = 0
        # By file, the newest offset of each partition in it; the file being written comes last.
        self._newest: dict[Path, dict[Place, int]] = {}

    def read(self) -> Iterator[tuple[str, Message]]:
        """Read every record, in the order in which they were appended; call once, first.

        Raises
        ------
        LogError
            When a file is damaged anywhere but at the end of the last one.
        """
        paths = sorted(self._folder.glob("*.journal"))
        for path in paths:
            content = path.read_bytes()
            newest, end = self._newest.setdefault(path, {}), 0
            for end, entry in _entries(content):  # noqa: B007
                newest[entry.topic, entry.message.partition] = entry.message.offset
                yield entry.topic, entry.message
            if end == len(content):
                continue
            if path != paths[-1]:
                raise LogError(
                    f"{path} is damaged at byte {end}: delete the folder {self._folder}; the lake "
                    "keeps what was captured"
                )
            os.truncate(path, end)

    def append(self, topic: str, message: Message) -> None:
        """Write a record.

        Raises
        ------
        OSError
            When the disk does not take it; then nothing of it stays.
        """
        if self._file is None or self._size >= SEGMENT_BYTES:
            self._next()
        assert self._file is not None
        content = _encoder.encode(_Entry(topic, message))
        frame = HEAD.pack(len(content), zlib.crc32(content)) + content
        try:
            if os.write(self._file, frame) != len(frame):
                raise OSError("the disk took only a part of the record")
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(frame)
        next(reversed(self._newest.values()))[topic, message.partition] = message.offset

    def drop(self, starts: dict[Place, int]) -> None:
        """Delete the files whose every record is before the start of its partition."""
        for path, newest in list(self._newest.items())[:-1]:
            if any(offset >= starts.get(place, 0) for place, offset in newest.items()):
                return  # the later ones follow in order
            path.unlink(missing_ok=True)
            del self._newest[path]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _next(self) -> None:
        """Begin a file."""
        self.close()
        numbers = [int(path.stem) for path in self._newest]
        path = self._folder / f"{max(numbers, default=0) + 1:010d}.journal"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = 0
        self._newest[path] = {}


def _entries(content: bytes) -> Iterator[tuple[int, _Entry]]:
    """Read the whole records of a file, each with the position of its end."""
    start = 0
    while start + HEAD.size <= len(content):
        length, check = HEAD.unpack_from(content, start)
        start += HEAD.size
        part = content[start : start + length]
        start += length
        if len(part) != length or zlib.crc32(part) != check:
            return
        yield start, _decoder.decode(part)
