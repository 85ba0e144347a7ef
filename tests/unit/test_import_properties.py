"""However the same ticks are written, the lake gets the same bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from volatility.lake import Lake, import_files
from volatility.sources.recordings.names import NAMES

START_MS = 1_767_571_200_000
FIELDS = ("symbol", "time", "price", "bid", "ask", "bid_size", "ask_size")
# Bits of the names' table that mean what they say without a look at the content.
NAMED = {field: [name for name in NAMES[field] if len(name) > 2] for field in FIELDS}
NAMED["symbol"] = [name for name in NAMED["symbol"] if name not in {"ticker", "market", "code"}]
NAMED["time"] = [name for name in NAMED["time"] if name not in {"date", "indexlevel0"}]

Row = dict[str, Any]


def text(ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat()


TIMES: dict[str, Callable[[int], Any]] = {
    "seconds": lambda ms: ms / 1000,
    "milliseconds": lambda ms: ms,
    "microseconds": lambda ms: ms * 1_000,
    "nanoseconds": lambda ms: ms * 1_000_000,
    "digits": lambda ms: f"{ms // 1000}.{ms % 1000:03d}",
    "zulu": lambda ms: text(ms).replace("+00:00", "Z"),
    "naive": lambda ms: text(ms).replace("+00:00", "").replace("T", " "),
    "zone": text,
}
SYMBOLS = ("BTC-USD", "BTC/USD", "btcusd", "XBTUSD", "tBTCUSD", "BTC_USD ")
WRAPPED: dict[str, Callable[[Row], Any]] = {
    "bare": lambda row: row,
    "object": lambda row: {"n": 1, "payload": row},
    "text": lambda row: {"raw": json.dumps(row)},
    "deep": lambda row: {"a": {"b": [{"c": json.dumps({"d": row})}]}},
}


def columnar(rows: list[Row]) -> pa.Table:
    return pa.table({name: [row[name] for row in rows] for name in rows[0]})


def parquet(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(columnar(rows), sink, row_group_size=2)
    return sink.getvalue()


def arrow(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    feather.write_feather(columnar(rows), sink, compression="uncompressed")
    return sink.getvalue()


def delimited(delimiter: str) -> Callable[[list[Row]], bytes]:
    def write(rows: list[Row]) -> bytes:
        cells = [list(rows[0]), *([f"{cell}" for cell in row.values()] for row in rows)]
        return "".join(delimiter.join(line) + "\r\n" for line in cells).encode()

    return write


BINARY = {"parquet": parquet, "arrow": arrow}
TEXTS = {name: delimited(sign) for name, sign in (("comma", ","), ("tab", "\t"), ("bar", "|"))}
JSON: dict[str, Callable[[list[Any]], bytes]] = {
    "lines": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "array": lambda rows: json.dumps(rows).encode(),
    "pretty": lambda rows: json.dumps(rows, indent=2).encode(),
    "objects": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows).encode(),
}
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}

prices = st.integers(10_000, 99_999)
ticks = st.lists(
    st.tuples(st.integers(0, 5_000), prices, st.integers(1, 500)), min_size=2, max_size=9
)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "names": {field: draw(st.sampled_from(NAMED[field])) for field in FIELDS},
        "time": draw(st.sampled_from(sorted(TIMES))),
        "symbol": draw(st.sampled_from(SYMBOLS)),
        "numbers": draw(st.sampled_from(["numbers", "texts"])),
        "form": draw(st.sampled_from([*BINARY, *TEXTS, *JSON])),
        "wrapper": draw(st.sampled_from(sorted(WRAPPED))),
        "compression": draw(st.sampled_from(sorted(COMPRESSED))),
        "order": draw(st.permutations(FIELDS)),
    }


def written(moments: list[tuple[int, int, int]], layout: dict[str, Any]) -> bytes:
    rows = []
    ms = START_MS
    for step, price, spread in moments:
        ms += step
        value: Row = {"symbol": layout["symbol"], "time": TIMES[layout["time"]](ms)}
        numbers: Row = {"price": price, "bid": price - spread, "ask": price + spread}
        numbers |= {"bid_size": spread / 8, "ask_size": spread / 4}
        value |= {n: f"{x}" if layout["numbers"] == "texts" else x for n, x in numbers.items()}
        rows.append({layout["names"][field]: value[field] for field in layout["order"]})
    form = layout["form"]
    if form in BINARY:
        return BINARY[form](rows)
    content = (
        TEXTS[form](rows)
        if form in TEXTS
        else JSON[form]([WRAPPED[layout["wrapper"]](r) for r in rows])
    )
    return COMPRESSED[layout["compression"]](content)


def lake_bytes(content: bytes) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        path.write_bytes(content)
        lake = Lake(Path(folder) / "lake")
        report = import_files([path], lake, progress=False)
        assert report.rejected == {}, report.notes
        parts = sorted(lake.root.glob("symbol=*/date=*/part-*"))
        return [part.parent.name.encode() + part.read_bytes() for part in parts]


@given(ticks, layouts(), layouts())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_ticks_in_any_layout_become_the_same_bytes(moments, one, other):
    assert lake_bytes(written(moments, one)) == lake_bytes(written(moments, other))
