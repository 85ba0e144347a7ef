"""Each layout of the table becomes the ticks it stands for, or says in one line why not."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.recorded import CASES, MS, Case
from volatility.lake import ImportingError, Lake, import_files, trades_of
from volatility.sources import parse_mapping


def stored(lake: Lake, symbol: str, names: tuple[str, ...]) -> list[tuple[object, ...]]:
    table = pa.Table.from_batches(lake.scan(symbol, ["time", *names]))
    times = [(ns - MS * 1_000_000) / 1e6 for ns in table["time"].cast(pa.int64()).to_pylist()]
    return list(zip(times, *(table[name].to_pylist() for name in names), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_file_becomes_its_ticks_or_says_why_not(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "in" / case.name
    path.parent.mkdir(parents=True)
    path.write_bytes(case.content)
    lake = Lake(tmp_path / "lake")
    mapping = parse_mapping(case.options)
    if case.ticks is None and case.trades is None:
        with pytest.raises(ImportingError) as caught:
            import_files([path], lake, progress=False, mapping=mapping)
        assert case.says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not lake.root.exists()
        return
    report = import_files([path], lake, progress=False, mapping=mapping)
    said = "\n".join([*report.notes, *report.ignored])
    assert sum(report.rejected.values()) == case.rejected, said
    if case.ticks is not None:
        assert stored(lake, case.symbol, ("bid", "ask", "price")) == list(case.ticks), said
    else:
        assert case.trades is not None
        found = stored(trades_of(lake), case.symbol, ("price", "size", "side"))
        assert found == list(case.trades), said
        assert not lake.exists()
    assert case.says in said


def test_the_table_is_large() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
