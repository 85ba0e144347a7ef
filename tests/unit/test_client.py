"""The client of a running service: the same scores as without one, and errors that help."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from click.testing import CliRunner, Result

from service.front import Front
from service.http import application
from service.predict import predict, score_file
from service.predictor import Served
from service.security import Guard
from service.state import State
from tests.bundles import START_NS, random_rows
from tests.bundles import small_bundle as fit_bundle
from tests.streams import random_records
from volatility.client import Client, ClientError, Limits
from volatility.features.engine import feature_batches
from volatility.features.files import to_batch
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.records.columns import to_table
from volatility.records.tick import Heartbeat
from volatility.registry import RegisteredModel
from volatility.settings import Features, Serving, Settings
from volatility.simulation.simulator import simulate
from volatility.units import SECOND

ROOT = Path(__file__).parents[2]
URL = "http://service"

SYMBOLS = ("BTC-USD", "ETH-USD")


@cache
def small_bundle():
    return fit_bundle(0, SYMBOLS)


def score(rows: np.ndarray, symbol: str | None) -> np.ndarray:
    return small_bundle().score(rows, np.full(len(rows), small_bundle().place(symbol)))


class AsgiTransport(httpx.BaseTransport):
    """Carry the requests of a client that waits to an application that does not."""

    def __init__(self, portal: BlockingPortal, app) -> None:
        self._portal, self._inner = portal, httpx.ASGITransport(app)
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)

        async def ask() -> httpx.Response:
            response = await self._inner.handle_async_request(request)
            content = await response.aread()
            return httpx.Response(response.status_code, headers=response.headers, content=content)

        return self._portal.call(ask)


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def state() -> State:
    model = RegisteredModel(small_bundle(), "crypto-vol-ml", "7", "champion", "run", {}, {})
    return State(
        Settings(serving=Serving(max_rows=200)), served=Served(small_bundle(), model, None)
    )


@pytest.fixture
def transport(portal, state) -> AsgiTransport:
    return AsgiTransport(portal, Front(application(state), state))


def scored(path: Path, transport: httpx.BaseTransport, key: str = "") -> pa.Table:
    output = path.with_name("scores.parquet")
    with Client(URL, key, transport=transport) as client:
        count = score_file(client, path, output, Features(), progress=False)
    table = pq.ParquetFile(output).read()
    assert len(table) == count
    assert {file.name for file in path.parent.iterdir()} == {path.name, output.name}
    return table


def batch_path(ticks: pa.Table, symbol: str = "BTC-USD") -> tuple[np.ndarray, np.ndarray]:
    """Build features and scores in one pass: steps [ns] and scores of the warm ones."""
    built = [
        (time.copy(), rows.copy()) for time, rows in feature_batches(ticks.to_batches(), Features())
    ]
    time, rows = (np.concatenate(parts) for parts in zip(*built, strict=True))
    warm = ~np.isnan(rows[:, INDEX["realised_volatility_900s"]])
    return time[warm], score(rows[warm], symbol)


def steps_of(table: pa.Table) -> np.ndarray:
    return table.column("time").cast(pa.int64()).to_numpy()


def test_rows_get_the_scores_of_the_bundle_bit_for_bit(tmp_path, transport, state):
    market = simulate("BTC-USD", START_NS, 0.4, 7)
    built = [(time.copy(), rows.copy()) for time, rows in feature_batches(market, Features())]
    time, rows = (np.concatenate(parts) for parts in zip(*built, strict=True))
    assert np.isnan(rows).any()
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_batches([to_batch(time, rows)]), path)
    table = scored(path, transport)
    assert table.column("score").to_pylist() == score(rows, None).tolist()
    assert steps_of(table).tolist() == time.tolist()
    assert table.column("out_of_distribution").to_pylist() == (
        small_bundle().out_of_distribution(rows).tolist()
    )
    assert table.column("spike").to_pylist() == [
        score >= small_bundle().threshold for score in table.column("score").to_pylist()
    ]
    assert set(table.column("model_version").to_pylist()) == {"7"}
    expected = small_bundle().forecast(rows, np.full(len(rows), -1))
    for place, horizon in enumerate((60, 300, 900)):
        found = table.column(f"volatility_bps_{horizon}s").to_pylist()
        assert found == expected.volatility_bps[:, place].tolist()
        levels = set(table.column(f"spike_level_bps_{horizon}s").to_pylist())
        assert levels == {small_bundle().specification.spike_levels_bps[-1][place]}
    posts = [request for request in transport.sent if request.method == "POST"]
    assert len(posts) == -(-len(rows) // 200)


def test_some_features_of_other_types_are_enough(tmp_path, transport):
    path = tmp_path / "rows.parquet"
    table = {
        "symbol": ["ETH-USD", "B", "ETH-USD"],
        "spread_bps": pa.array([1, None, 3], pa.int32()),
        "volatility_ratio_60s": pa.array([2.5, float("nan"), None], pa.float32()),
        "momentum_60s": pa.nulls(3),
    }
    pq.write_table(pa.table(table), path)
    rows = np.full((3, len(FEATURE_NAMES)), np.nan)
    rows[:, INDEX["spread_bps"]] = [1.0, np.nan, 3.0]
    rows[0, INDEX["volatility_ratio_60s"]] = 2.5
    answered = scored(path, transport)
    expected = small_bundle().score(rows, np.array([1, -1, 1]))
    assert answered.column("score").to_pylist() == expected.tolist()
    assert answered.column("symbol").to_pylist() == ["ETH-USD", "B", "ETH-USD"]
    assert len([request for request in transport.sent if request.method == "POST"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("gaps", [False, True])
def test_ticks_get_the_scores_of_the_batch_path_for_every_warm_step(tmp_path, transport, gaps):
    symbols = {}
    for seed, name in enumerate(("BTC-USD", "ETH-USD")):
        records = [
            msgspec.structs.replace(record, symbol=name)
            for record in random_records(seed, 5000, gaps=gaps)
        ]
        symbols[name] = to_table(records, 0, range(len(records)))
    # The two symbols' rows alternate in the file, each in its order of arrival.
    order = np.argsort(np.concatenate([np.arange(len(t)) for t in symbols.values()]), kind="stable")
    path = tmp_path / "ticks.parquet"
    pq.write_table(pa.concat_tables(symbols.values()).take(order), path)
    table = scored(path, transport)
    for name, ticks in symbols.items():
        mine = table.filter(np.array(table.column("symbol").to_pylist()) == name)
        time, scores = batch_path(ticks, name)
        assert len(time) > 500
        assert steps_of(mine).tolist() == time.tolist()
        assert mine.column("score").to_pylist() == scores.tolist()
    assert all(len(request.content) < 10_000_000 for request in transport.sent)


@pytest.mark.slow
def test_ticks_without_optional_columns_are_scored(tmp_path, transport):
    ticks = pa.Table.from_batches(simulate("BTC-USD", START_NS, 0.3, 1))
    path = tmp_path / "ticks.parquet"
    few = ticks.select(["symbol", "time", "price", "bid", "ask"])
    pq.write_table(few.append_column("recording", pa.array(["one"] * len(few))), path)
    table = scored(path, transport)
    for name in ("bid_size", "ask_size", "trade_id", "sequence"):
        place = ticks.schema.get_field_index(name)
        ticks = ticks.set_column(place, name, pa.nulls(len(ticks), ticks.schema.field(name).type))
    time, scores = batch_path(ticks)
    assert steps_of(table).tolist() == time.tolist()
    assert table.column("score").to_pylist() == scores.tolist()


@pytest.mark.slow
def test_a_busy_symbol_gets_smaller_requests(tmp_path, transport, monkeypatch):
    ticks = pa.Table.from_batches(simulate("BTC-USD", START_NS, 0.8, 1))
    time = ticks.column("time").cast(pa.int64()).to_numpy()
    path = tmp_path / "ticks.parquet"
    pq.write_table(ticks, path)
    whole = scored(path, transport)
    (tmp_path / "scores.parquet").unlink()
    before = len(transport.sent)
    # Room for the memory and some 100 steps more, where a request might have 200.
    most = int((np.searchsorted(time, time + 1900 * SECOND) - np.arange(len(time))).max())
    monkeypatch.setattr(Client, "limits", lambda _: Limits(rows=200, ticks=most))
    assert scored(path, transport).equals(whole)
    sent = [request.content.count(b"symbol") for request in transport.sent]
    assert max(sent[:before]) > most >= max(sent[before:])
    monkeypatch.setattr(Client, "limits", lambda _: Limits(rows=200, ticks=100))
    with pytest.raises(ClientError, match="BTC-USD has more than 99 ticks in 1801 s"):
        scored(path, transport)


def refused(path: Path, transport: httpx.BaseTransport, key: str = "") -> str:
    with pytest.raises(ClientError) as caught:
        scored(path, transport, key)
    text = str(caught.value)
    assert "\n" not in text
    assert not path.with_name("scores.parquet").exists()
    assert {file.name for file in path.parent.iterdir()} == {path.name}
    return text


def write_rows(tmp_path: Path, **columns) -> Path:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"spread_bps": [1.0], "label": [True]}, "column 'label' is not a feature"),
        ({"spread_bps": ["1"]}, "column 'spread_bps' is not numeric: string"),
        ({"spread_bps": [True]}, "column 'spread_bps' is not numeric: bool"),
        ({"spread_bps": [0.0] * 300 + [np.inf]}, "row 300, spread_bps: is infinite"),
        ({"open": [1.0]}, "neither feature rows nor ticks"),
        ({"spread_bps": pa.array([], pa.float64())}, "nothing to score"),
        (
            {"symbol": ["A"], "time": [1], "price": [1.0], "bid": [1.0], "ask": [1.0]}
            | {"spread_bps": [1.0]},
            "both feature rows and ticks",
        ),
        (
            {"symbol": ["A", None], "time": [START_NS] * 2}
            | {name: [1.0, 1.0] for name in ("price", "bid", "ask")},
            "row 1, symbol: is missing",
        ),
        (
            {"symbol": ["A"], "time": ["noon"], "price": [1.0], "bid": [1.0], "ask": [1.0]},
            "column 'time': ",
        ),
    ],
)
def test_what_cannot_be_sent_is_said_before_it_is(tmp_path, transport, columns, text):
    assert text in refused(write_rows(tmp_path, **columns), transport)


def test_a_refusal_names_the_row_and_the_field_of_the_file(tmp_path, transport):
    records = random_records(0, 3000)
    records = [msgspec.structs.replace(r, symbol=name) for name in "AB" for r in records]
    table = to_table(records, 0, range(len(records)))
    asks = table.column("ask").to_pylist()
    wrong = next(k for k in range(len(asks) * 9 // 10, len(asks)) if asks[k] is not None)
    asks[wrong] = None
    place = table.schema.get_field_index("ask")
    path = tmp_path / "ticks.parquet"
    pq.write_table(table.set_column(place, "ask", pa.array(asks, pa.float64())), path)
    text = refused(path, transport)
    assert text.startswith(f"{path}: row {wrong}: price, bid or ask is missing")
    assert text.endswith("(HTTP 422)")


def test_a_field_at_fault_is_named(tmp_path, monkeypatch):
    def refuse(_: httpx.Request) -> httpx.Response:
        body = {"error": "spread is out of range", "row": 1, "field": "spread"}
        return httpx.Response(422, json=body)

    path = write_rows(tmp_path, spread=[1.0, 2.0])
    with Client(URL, transport=httpx.MockTransport(refuse)) as client:
        monkeypatch.setattr(client, "limits", lambda: Limits(rows=10, ticks=10))
        with pytest.raises(ClientError) as caught:
            score_file(client, path, tmp_path / "scores.parquet", Features(), progress=False)
    assert str(caught.value) == (f"{path}: row 1, spread: spread is out of range (HTTP 422)")
    assert (caught.value.row, caught.value.field) == (1, "spread")


def test_a_step_needs_its_history(tmp_path, transport):
    ticks = pa.Table.from_batches(simulate("BTC-USD", START_NS, 0.05, 1))
    path = tmp_path / "ticks.parquet"
    pq.write_table(ticks, path)
    assert "300 s of history" in refused(path, transport)


def test_a_key_is_sent_and_its_absence_explained(tmp_path, transport, state):
    state.guard = Guard("key-of-the-house")
    path = write_rows(tmp_path, spread_bps=[1.0])
    assert refused(path, transport) == f"{URL} requires a key: set VOLATILITY_API_KEY"
    assert refused(path, transport, "wrong") == f"{URL} rejects the key in VOLATILITY_API_KEY"
    assert len(scored(path, transport, "key-of-the-house")) == 1


def test_without_a_model_the_service_says_what_to_do(tmp_path, transport, state):
    state.served, state.problem = None, "no model is loaded: run `volatility train`"
    path = write_rows(tmp_path, spread_bps=[1.0])
    assert refused(path, transport) == "no model is loaded: run `volatility train` (HTTP 503)"


def test_a_rate_limit_is_waited_for(tmp_path, transport, state, monkeypatch):
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            state.guard = Guard()

    monkeypatch.setattr("time.sleep", wait)
    state.guard = Guard(rate_limit="1/hour")
    path = write_rows(tmp_path, spread_bps=[1.0] * 300)
    assert len(scored(path, transport)) == 300
    assert waits == [1.0] * 3
    state.guard = Guard(rate_limit="1/hour")
    (tmp_path / "scores.parquet").unlink()
    assert "too many requests: at most 1 per 1 hour (HTTP 429)" in refused(path, transport)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (httpx.Response(200, text="<html>"), "does not respond like this service: check --url"),
        (httpx.Response(200, json={"openapi": "3.0.3"}), "does not respond like this service"),
        (httpx.Response(404, text="nothing"), "does not respond like this service"),
        (httpx.Response(200, json=[1]), "does not respond like this service"),
    ],
)
def test_another_server_is_not_mistaken_for_the_service(tmp_path, answer, text):
    path = write_rows(tmp_path, spread_bps=[1.0])
    assert text in refused(path, httpx.MockTransport(lambda _: answer))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (httpx.ConnectError("Connection refused"), "no service responds at http://service"),
        (httpx.ReadTimeout("late"), "did not respond within 60 s"),
        (httpx.RemoteProtocolError("cut"), "the connection to http://service failed: cut"),
    ],
)
def test_a_lost_connection_is_explained(tmp_path, error, text):
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    assert text in refused(write_rows(tmp_path, spread_bps=[1.0]), httpx.MockTransport(fail))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(predict, [str(a) for a in arguments], obj=Settings())


def test_the_command_scores_a_file(tmp_path, transport, monkeypatch):
    monkeypatch.setenv("VOLATILITY_API_KEY", "key-of-the-house")
    made = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **given: made(**{**given, "transport": transport}))
    rows = random_rows(250, missing=0.0)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: rows[:, INDEX[name]] for name in FEATURE_NAMES}), path)
    result = run(path, "--output", tmp_path / "out.parquet", "--url", URL)
    assert (result.exit_code, result.stdout) == (
        0,
        f"Wrote 250 scores to {tmp_path / 'out.parquet'}\n",
    )
    assert result.stderr == ""  # no progress bar where nobody looks
    assert transport.sent[-1].headers["authorization"] == "Bearer key-of-the-house"


def test_wrong_usage_has_exit_code_2(tmp_path):
    path = write_rows(tmp_path, spread_bps=[1.0])
    for arguments in (
        (tmp_path / "none.parquet", "--output", "x"),
        (path,),
        (path, "--output", "x", "--url", "localhost:3000"),
    ):
        assert run(*arguments).exit_code == 2


def test_a_file_of_another_kind_is_refused(tmp_path, transport):
    path = tmp_path / "rows.csv"
    path.write_text("spread_bps\n1\n")
    assert "is not a Parquet file" in refused(path, transport)


def test_the_command_is_registered():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["volatility.commands"]["predict"] == "service.predict:predict"


@pytest.mark.slow
def test_a_heartbeat_closes_the_last_step_and_nothing_is_sent_twice(tmp_path, transport):
    records = random_records(3, 2500)
    last = max(record.time for record in records)
    records = [*records, Heartbeat(records[0].symbol, last + 40 * SECOND)]
    ticks = to_table(records, 0, range(len(records)))
    path = tmp_path / "ticks.parquet"
    pq.write_table(ticks, path)
    table = scored(path, transport)
    time, scores = batch_path(ticks, records[0].symbol)
    assert steps_of(table).tolist() == time.tolist()
    assert table.column("score").to_pylist() == scores.tolist()
    assert len(set(steps_of(table).tolist())) == len(table)
