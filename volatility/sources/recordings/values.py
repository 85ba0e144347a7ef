r"""Split text into the JSON values or lines that it consists of, in bounded memory.

Lines are returned as they are. A JSON array is returned element by element, and objects that
span several lines one by one.

>>> import io
>>> list(values(io.BytesIO(b'[{"a": 1},\n {"a":\n 2}]')))
[(1, b'{"a": 1}'), (2, b'{"a":\n 2}')]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

MAX_VALUE_BYTES = 64 << 20  # the largest order book snapshot is about 1 MB
_BLOCK = 1 << 18
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]"]', re.DOTALL)


class TooLongError(ValueError):
    """A line or value is longer than any message."""


def values(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the line from 1, stripped content) of each line or JSON value.

    Raises
    ------
    TooLongError
    """
    start = stream.read(_BLOCK)
    if start.startswith(b"\xef\xbb\xbf"):
        start = start[3:]
    if _is_document(start):
        yield from _documents(start, stream)
    else:
        yield from _lines(start, stream)


def _is_document(start: bytes) -> bool:
    """Return whether JSON values are not one per line."""
    text = start.lstrip()
    if not text.startswith((b"{", b"[")):
        return False
    line = text.split(b"\n", 1)[0].strip()
    try:
        whole = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Broken, or incomplete: what continues on the next line is not the start of a message.
        rest = text[len(line) :].lstrip()[:1]
        return (
            len(line) == len(text)
            or line[:1] == b"["
            or (len(line) < 4096 and rest not in {b"{", b"["} and line[-1:] in b"{[,:")
        )
    return isinstance(whole, list) and all(isinstance(one, dict | list | str) for one in whole)


def _lines(start: bytes, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number, rest = 0, start
    while True:
        *lines, rest = rest.split(b"\n")
        for line in lines:
            number += 1
            yield number, line.strip()
        if len(rest) >= MAX_VALUE_BYTES:
            raise TooLongError
        block = stream.read(_BLOCK)
        if not block:
            break
        rest += block
    if rest:
        yield number + 1, rest.strip()


def _documents(start: bytes, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of top-level arrays, and top-level objects."""
    buffer, place, begun = start, 0, -1
    depth = base = 0
    number = 1
    while True:
        end = len(buffer)
        for token in _TOKEN.finditer(buffer, place):
            first = buffer[token.start()]
            if first == 0x22:
                if len(token[0]) == 1:  # the string ends in a later block
                    end = token.start()
                    break
                if depth == base == 1 and begun < 0:
                    yield number + buffer.count(b"\n", 0, token.start()), token[0]
            elif first in b"{[":
                if depth == 0 and first == 0x5B:
                    base = 1
                elif depth == base:
                    begun = token.start()
                depth += 1
            else:
                depth = max(depth - 1, 0)
                if depth == base and begun >= 0:
                    line = number + buffer.count(b"\n", 0, begun)
                    yield line, buffer[begun : token.end()]
                    begun = -1
                if depth == 0:
                    base = 0
        keep = min(end, begun if begun >= 0 else end)
        block = stream.read(_BLOCK)
        if not block:
            if rest := buffer[keep:].strip(b" \r\n\t,]"):
                yield number + buffer.count(b"\n", 0, keep), rest
            return
        number += buffer.count(b"\n", 0, keep)
        begun = 0 if begun >= 0 else -1
        buffer, place = buffer[keep:] + block, end - keep
        if len(buffer) >= MAX_VALUE_BYTES:
            raise TooLongError
