"""Make bodies that no client should send, each from a seed: the same seed, the same body."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.streams import START
from volatility.features.table import MODEL_INPUTS
from volatility.units import SECOND

BIG_BYTES = 10_000_000
BIG_EVERY = 400  # one in so many bodies is of that size

Draw = random.Random


def valid(draw: Draw, route: str) -> dict[str, Any]:
    """Draw a body that is answered with 200, or that lacks nothing but enough ticks."""
    if route.startswith("/predict/ticks"):
        return {"ticks": [_tick(draw, k) for k in range(draw.choice([1, 5, 400]))]}
    count = draw.choice([1, 1, 1, 3, 50])
    return {"rows": [_row(draw, draw.choice([0, 4, len(MODEL_INPUTS)])) for _ in range(count)]}


def valid_body(draw: Draw, route: str) -> bytes:
    """Draw such a body as JSON."""
    return _json(valid(draw, route))


def mutated(draw: Draw, route: str) -> bytes:
    """Draw a body that is wrong in one way; now and then it is wrong in none."""
    if draw.randrange(BIG_EVERY) == 0:
        return big(draw, route)
    return draw.choice(_SMALL)(draw, valid(draw, route))


def big(draw: Draw, route: str) -> bytes:
    """Draw a body of ten million bytes."""
    items = "ticks" if route.startswith("/predict/ticks") else "rows"
    kind = draw.randrange(6)
    if kind == 0:
        return b'{"%s": [%s]}' % (items.encode(), b",".join([b"{}"] * (BIG_BYTES // 3)))
    if kind == 1:
        return b'{"%s": "%s"}' % (items.encode(), b"x" * BIG_BYTES)
    if kind == 2:
        return b" " * BIG_BYTES + _json(valid(draw, route))
    if kind == 3:
        return b"[" * BIG_BYTES
    if kind == 4:
        return b'{"%s": [{"midprice": %s}]}' % (items.encode(), b"9" * BIG_BYTES)
    item = _json(_tick(draw, 0) if items == "ticks" else _row(draw, len(MODEL_INPUTS)))
    return b'{"%s": [%s]}' % (items.encode(), b",".join([item] * (BIG_BYTES // len(item))))


def _row(draw: Draw, features: int) -> dict[str, Any]:
    return {name: draw.uniform(0.0, 3.0) for name in draw.sample(MODEL_INPUTS, features)}


def _tick(draw: Draw, second: int) -> dict[str, Any]:
    price = draw.uniform(90.0, 110.0)
    tick = {"symbol": "BTC-USD", "time": START + second * SECOND}
    if draw.random() < 0.9:
        tick |= {"price": price, "bid": price - 0.01, "ask": price + 0.01}
    return tick


def _whole(_: Draw, body: Any) -> bytes:
    return _json(body)


def _truncated(draw: Draw, body: Any) -> bytes:
    content = _json(body)
    return content[: draw.randrange(len(content))]


def _huge_number(draw: Draw, body: Any) -> bytes:
    number = draw.choice(
        [
            "1e400", "-1e400", "1e-400", "9" * draw.choice([20, 400, 5_000]), "1" + "0" * 308,
            "-0", "1.7976931348623157e308", "5e-324", "9223372036854775808", "1e999999999",
            "0." + "3" * 2_000, "NaN", "Infinity", "-Infinity", "1_0", "0x10", "01", "+1", ".5",
        ]
    )  # fmt: skip
    return _replaced(draw, body, "@").replace(b'"@"', number.encode())


def _wrong_type(draw: Draw, body: Any) -> bytes:
    value = draw.choice([None, True, "1.0", "", [], {}, [1.0], {"a": 1}, "x" * 3_000, 1, 1.5])
    return _replaced(draw, body, value)


def _nested(draw: Draw, body: Any) -> bytes:
    depth = draw.choice([10, 500, 1_200, 20_000])
    opening, closing = draw.choice([("[", "]"), ('{"rows":', "}"), ('{"a":[', "]}")])
    inside = opening * depth + closing * (depth if draw.random() < 0.5 else 0)
    if draw.random() < 0.5:
        return inside.encode()
    return _replaced(draw, body, "@").replace(b'"@"', inside.encode())


def _not_utf8(draw: Draw, body: Any) -> bytes:
    content = bytearray(_json(body))
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(content))
        content[place:place] = draw.choice(
            [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x00", b"\xef\xbb\xbf"]
        )
    return bytes(content)


def _flipped(draw: Draw, body: Any) -> bytes:
    content = bytearray(_json(body))
    for _ in range(draw.randrange(1, 6)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _unknown(draw: Draw, body: Any) -> bytes:
    name = draw.choice(
        ["x", "", "rows", "__class__", "\ud800", "\n" * 50, "é" * 500, "a" * 9_000, "midprice "]
    )
    target = draw.choice([body, *_items(body)])
    return _json({**target, name: 1.0} if target is body else _with(body, target, name))


def _foreign(draw: Draw, body: Any) -> bytes:
    content = _json(body)
    return draw.choice(
        [
            b"", b"null", b"[]", b"0", b'"rows"', b"<rows/>", b"rows=1&rows=2", b"\x80\x04K\x01.",
            b"\xef\xbb\xbf" + content, content.decode().encode("utf-16"), content + content,
            content + b",", content.replace(b"{", b"{,", 1), content.replace(b'"', b"'"),
            content[:-1] + b', "rows": []}', b'{"rows": {}}', b'{"ticks": [null]}',
        ]
    )  # fmt: skip


_SMALL: list[Callable[[Draw, Any], bytes]] = [
    _whole, _truncated, _huge_number, _wrong_type, _nested, _not_utf8, _flipped, _unknown, _foreign,
]  # fmt: skip


def _replaced(draw: Draw, body: Any, value: Any) -> bytes:
    """Put a value in the place of one that is there: a field's, an item, the list."""
    (name,) = body
    item = draw.choice(_items(body))
    kind = draw.randrange(4)
    if kind == 0:
        return _json({name: value})
    if kind == 1:
        return _json({name: [value if one is item else one for one in body[name]]})
    return _json(_with(body, item, draw.choice([*item, "midprice", "price", "time"]), value))


def _items(body: Any) -> list[dict[str, Any]]:
    (items,) = body.values()
    return list(items)


def _with(body: Any, item: Any, field: str, value: Any = 1.0) -> Any:
    (name,) = body
    return {name: [{**one, field: value} if one is item else one for one in body[name]]}


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()
