"""Read files of recorded wire messages, whatever their recorder wrote around each message.

The format of each line is detected from its content:

- a plain message (``.ndjson``);
- a JSON object whose ``data`` is the message and ``ts`` its arrival [s]; if ``t`` is not
  ``recv``, it is a note by the recorder;
- ``1618677817.0617: {message}``, with the arrival [s], and lines with an address;
- ``>`` sent, ``<`` received, ``=`` expected, where a message may span several lines;
- any other JSON, in which the message is an object or a text at any depth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from volatility.records import Heartbeat, Record, TickError
from volatility.sources.coinbase import NOT_A_MESSAGE, decode
from volatility.sources.messages import Message, Rejection
from volatility.sources.recordings.nested import is_message, messages
from volatility.sources.recordings.opening import opened
from volatility.sources.recordings.times import instant
from volatility.sources.recordings.values import TooLongError, values

MAX_UNKNOWN_LINES = 1000  # after this many lines without a message, give up on the file

_ARRIVAL = re.compile(rb"(\d{1,12}(?:\.\d+)?): (\{.*)", re.DOTALL)
_ADDRESS = re.compile(rb"(?:wss?|https?)://\S+ (<->|<-|->) |configuration: ")
_PREFIXED = re.compile(rb"([^{\"']{1,200})(\{\".*\})", re.DOTALL)  # a log's time, a key and a tab
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
    t: Any = None
    ts: Any = None
    data: msgspec.Raw = msgspec.Raw()


_envelope = msgspec.json.Decoder(_Envelope, float_hook=Decimal)
_any = msgspec.json.Decoder(float_hook=Decimal)


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
    documented : bool
        Whether the file has marked lines: it shows messages, rather than recording a market.

    Raises
    ------
    WireError
        On iteration, when the file is truncated, corrupt or not a recording of messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored: Counter[str] = Counter()
        self.share = 0.0
        self.documented = False
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
                self.documented = True
                if marked and marked[0] != b">":
                    yield marked[1], (b"\n".join(marked[2]), None)
                marked = mark[1], number, [mark[2] or b""]
            elif marked:
                marked[2].append(line)
            elif line.startswith(b"{"):
                yield from self._unwrap(number, line)
            elif arrival := _ARRIVAL.fullmatch(line):
                yield number, (arrival[2], instant(arrival[1].decode()))
            elif address := _ADDRESS.match(line):
                if address[1] == b"<->":
                    self._connect()
                self.ignored["recorder's note"] += 1
            elif prefixed := _PREFIXED.fullmatch(line):
                arrived = _time_in(prefixed[1].decode(errors="replace"))
                for place, found in self._unwrap(number, prefixed[2]):
                    if isinstance(found, tuple) and found[1] is None:
                        yield place, (found[0], arrived)
                    else:
                        yield place, found
            elif line:
                yield number, Rejection(NOT_A_MESSAGE, line.decode(errors="replace"))
        if marked and marked[0] != b">":
            yield marked[1], (b"\n".join(marked[2]), None)

    def _unwrap(
        self, number: int, line: bytes
    ) -> Iterator[tuple[int, tuple[bytes, int | None] | Rejection]]:
        if is_message(line):
            yield number, (line, None)
            return
        try:
            envelope = _envelope.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield number, (line, None)  # the message decoder reports what is wrong
            return
        sent = envelope.t in {"send", "sent"}
        try:
            found = [] if sent else list(messages(_any.decode(line)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = []
        if not found and isinstance(envelope.t, str) and envelope.t != "recv":
            if envelope.t == "connect":
                self._connect()
            self.ignored["recorder's note"] += 1
            return
        if not found:
            # A wrapper around what is not a message is rejected like the message alone.
            inner = bytes(envelope.data) or line
            yield number, Rejection(NOT_A_MESSAGE, inner.decode(errors="replace"))
        for message, received in found:
            yield number, (message, received)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        try:
            with opened(self.path) as stream:
                for number, line in values(stream.file):
                    if number == 1 and b"\0" in line[:4096]:
                        raise WireError("contains neither Parquet data nor Coinbase messages")
                    self.share = stream.share()
                    yield number, line
        except TooLongError as error:
            raise WireError("contains neither Parquet data nor Coinbase messages") from error
        except (OSError, pa.ArrowException, EOFError) as error:
            raise WireError(
                f"is truncated or corrupt ({' '.join(str(error).split())[:120]}); decompress "
                "the readable part into a plain file and import that"
            ) from error


def _time_in(prefix: str) -> int | None:
    """Return the time at the start of a line of a log; None if there is none."""
    words = prefix.replace("[", " ").replace("]", " ").replace(",", ".").split()
    for one, two in zip(words, [*words[1:], ""], strict=True):
        found = instant(f"{one} {two}") or instant(one.rstrip(":"))
        if found is not None:
            return found
    return None
