"""Read files of recorded wire messages, whatever their recorder wrote around each message.

The format of each line is detected from its content:

- a plain message (``.ndjson``);
- a JSON object whose ``data`` is the message and ``ts`` its arrival [s]; if ``t`` is not
  ``recv``, it is a note by the recorder;
- ``1618677817.0617: {message}``, with the arrival [s], and lines with an address;
- ``>`` sent, ``<`` received, ``=`` expected, where a message may span several lines.

The file may be compressed with gzip or zstd.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from volatility.records import Heartbeat, Record, TickError
from volatility.sources.coinbase import NOT_A_MESSAGE, decode
from volatility.sources.messages import Message, Rejection

MAX_LINE_BYTES = 64 << 20  # the largest order book snapshot is about 1 MB
MAX_UNKNOWN_LINES = 1000  # after this many lines without a message, give up on the file

_COMPRESSION = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_ARRIVAL = re.compile(rb"(\d{1,12}(?:\.\d+)?): (\{.*)", re.DOTALL)
_ADDRESS = re.compile(rb"wss?://\S+ (<->|<-|->) ")
_MARKED = re.compile(rb"([<>=])(?:\s+(\{.*)?)?$", re.DOTALL)


class WireError(Exception):
    """A file does not contain a readable recording; the message says why."""


class Line(msgspec.Struct, frozen=True):
    """Represent the content of one line (or one message that spans several lines).

    Parameters
    ----------
    number : int
        Number of the line, from 1.
    connection : int
        Number of the connection within the file, from 0.
    records, rejected
        As in ``coinbase.Message``.
    """

    number: int
    connection: int
    records: tuple[Record, ...] = ()
    rejected: tuple[Rejection, ...] = ()


class _Envelope(msgspec.Struct):
    channel: msgspec.Raw = msgspec.Raw()
    type: msgspec.Raw = msgspec.Raw()
    t: str | None = None
    ts: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()


_envelope = msgspec.json.Decoder(_Envelope)
_string = msgspec.json.Decoder(str)


class WireReader:
    """Iterate over the lines of a wire file that contain records or rejected entries.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    ignored : Counter
        Messages and lines without a record, by kind.
    share : float
        Fraction of the file that has been read, 0 to 1.

    Raises
    ------
    WireError
        On iteration, when the file is truncated, corrupt or not a recording of messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored: Counter[str] = Counter()
        self.share = 0.0
        self._connection = 0
        self._symbols: dict[str, None] = {}
        self._sequence: int | None = None
        self._started = False

    def __iter__(self) -> Iterator[Line]:
        understood, unknown = False, 0
        for number, message in self._messages():
            line = self._line(number, *message) if isinstance(message, tuple) else message
            if isinstance(line, Rejection):
                unknown += 1
                line = Line(number, self._connection, rejected=(line,))
            else:
                understood = True
            if not understood and unknown >= MAX_UNKNOWN_LINES:
                break
            if line.records or line.rejected:
                yield line
        if not understood:
            raise WireError("contains neither Parquet data nor Coinbase messages")

    def _line(self, number: int, text: bytes, received: int | None) -> Line | Rejection:
        try:
            message = decode(text, received, tuple(self._symbols))
        except TickError as error:
            return Rejection(str(error), text.decode(errors="replace"))
        self._follow(message)
        if not message.records and not message.rejected:
            self.ignored[message.kind] += 1
        return Line(number, self._connection, message.records, message.rejected)

    def _follow(self, message: Message) -> None:
        """Track what a heartbeat needs: the symbols subscribed on this connection."""
        if message.sequence is not None:
            if message.sequence == 0 and self._sequence:
                self._connect()
            self._sequence = message.sequence
        if message.symbols is not None:
            self._symbols = dict.fromkeys(message.symbols)
        for record in message.records:
            if not isinstance(record, Heartbeat):
                self._symbols[record.symbol] = None
        self._started = True

    def _connect(self) -> None:
        if self._started:
            self._connection += 1
            self._symbols, self._sequence, self._started = {}, None, False

    def _messages(self) -> Iterator[tuple[int, tuple[bytes, int | None] | Rejection]]:
        """Strip what the recorder wrote around each message; yield (message, arrival [ns])."""
        marked: tuple[bytes, int, list[bytes]] | None = None
        for number, line in self._lines():
            if mark := _MARKED.match(line):
                if marked and marked[0] != b">":
                    yield marked[1], (b"\n".join(marked[2]), None)
                marked = mark[1], number, [mark[2] or b""]
            elif marked:
                marked[2].append(line)
            elif line.startswith(b"{"):
                yield from self._unwrap(number, line)
            elif arrival := _ARRIVAL.fullmatch(line):
                yield number, (arrival[2], _nanoseconds(arrival[1]))
            elif address := _ADDRESS.match(line):
                if address[1] == b"<->":
                    self._connect()
                self.ignored["recorder's note"] += 1
            elif line:
                yield number, Rejection(NOT_A_MESSAGE, line.decode(errors="replace"))
        if marked and marked[0] != b">":
            yield marked[1], (b"\n".join(marked[2]), None)

    def _unwrap(
        self, number: int, line: bytes
    ) -> Iterator[tuple[int, tuple[bytes, int | None] | Rejection]]:
        try:
            envelope = _envelope.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield number, (line, None)  # the message decoder reports what is wrong
            return
        channel, kind, data = (bytes(x) for x in (envelope.channel, envelope.type, envelope.data))
        if channel or kind or not (envelope.t or data):
            yield number, (line, None)
        elif data and envelope.t in {None, "recv"}:
            try:
                inner = _string.decode(data).encode() if data.startswith(b'"') else data
            except (msgspec.MsgspecError, UnicodeError):  # an incomplete escape sequence
                inner = data
            yield number, (inner, _nanoseconds(bytes(envelope.ts)))
        else:
            if envelope.t == "connect":
                self._connect()
            self.ignored["recorder's note"] += 1

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        size = self.path.stat().st_size
        with self.path.open("rb") as raw:
            head = raw.read(4)
            raw.seek(0)
            kind = next((k for magic, k in _COMPRESSION.items() if head.startswith(magic)), None)
            try:
                yield from self._split(raw, kind, size)
            except (OSError, pa.ArrowException, EOFError) as error:
                raise WireError(
                    f"is truncated or corrupt ({' '.join(str(error).split())[:120]}); decompress "
                    "the readable part into a plain file and import that"
                ) from error

    def _split(self, raw: BinaryIO, kind: str | None, size: int) -> Iterator[tuple[int, bytes]]:
        stream = raw
        if kind:
            opened: Any = pa.CompressedInputStream(raw, kind)
            stream = io.BufferedReader(opened, 1 << 20)
        number = 0
        while line := stream.readline(MAX_LINE_BYTES):
            number += 1
            if len(line) == MAX_LINE_BYTES or (number == 1 and b"\0" in line[:4096]):
                raise WireError("contains neither Parquet data nor Coinbase messages")
            self.share = raw.tell() / size
            yield number, line.strip()


def _nanoseconds(seconds: bytes) -> int | None:
    """Read a decimal number of seconds exactly; None if it is malformed or out of range."""
    try:
        value = int(Decimal(seconds.decode()) * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return value if 0 < value < 2**63 else None
