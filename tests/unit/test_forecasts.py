"""The forecast routes: what they say is what the stream said, now and of any past moment."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from service.forecasts import board as boards
from service.forecasts import routes as routes_module
from service.forecasts.distribution import Distribution
from service.forecasts.messages import written
from service.forecasts.percentiles import Percentiles
from service.origins import Origins
from service.security import GUARDED, Guard
from tests.bundles import random_rows, small_bundle
from tests.forecasts import START, Stage, steps
from tests.live import prediction
from tests.waiting import until
from volatility.records import Heartbeat, HorizonForecast, Prediction, Quantiles, Tick, encode
from volatility.streaming.log import TICKS, LogError
from volatility.units import DAY_NS, SECOND


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def client(stage: Stage) -> Iterator[TestClient]:
    with stage.client() as client:
        yield client


def get(client: TestClient, path: str, status: int = 200) -> Any:
    response = client.get(path)
    assert response.status_code == status, response.text
    return response.json()


def fresh(one: Prediction) -> Prediction:
    return msgspec.structs.replace(one, said_at=time.time_ns())


def test_the_newest_forecast_is_what_was_said(stage: Stage, client: TestClient) -> None:
    stage.say(*steps(3)[:2], fresh(steps(3)[2]))
    stage.seen()
    found = get(client, "/forecast?symbol=BTC-USD")
    assert found["symbol"] == "BTC-USD"
    assert found["as_of"] == written(START + 2 * SECOND)
    assert found["state"] == "ok"
    assert 0 <= found["age_ms"] < 15_000
    minute = found["horizons"]["60s"]
    assert minute["volatility_bps"] == 3.0 + 2 / 1024
    assert minute["quantiles_bps"] == {"p05": 1, "p25": 2, "p50": 3, "p75": 4, "p95": 5}
    assert (minute["spike_level_bps"], minute["spike_probability"]) == (7.5, 0.25)
    assert minute["annualised_percent"] == pytest.approx((3 + 2 / 1024) / 100 * 525_600**0.5)
    assert minute["percentile_24h"] is None
    assert found["out_of_distribution"] is False
    assert list(get(client, "/forecast?symbol=BTC-USD&horizon=900s,60s")["horizons"]) == [
        "900s", "60s",
    ]  # fmt: skip


def test_several_symbols_at_once(stage: Stage, client: TestClient) -> None:
    stage.say(*steps(1), *steps(1, "ETH-USD"))
    stage.seen()
    for query in ("", "?symbol=BTC-USD,ETH-USD"):
        found = get(client, f"/forecast{query}")["forecasts"]
        assert [one["symbol"] for one in found] == ["BTC-USD", "ETH-USD"]


def test_a_forecast_that_is_old_says_so(stage: Stage, client: TestClient) -> None:
    for symbol, age, state in (("A", 14, "ok"), ("B", 100, "stale"), ("C", 1_000, "halted")):
        (one,) = steps(1, symbol)
        stage.say(msgspec.structs.replace(one, said_at=time.time_ns() - age * SECOND))
        stage.seen()
        # A slow machine may age the first one.
        assert get(client, f"/forecast?symbol={symbol}")["state"] in (state, "stale")


def test_a_symbol_that_is_warming_says_how_long(stage: Stage, client: TestClient) -> None:
    get(client, "/forecast?symbol=BTC-USD", 404)
    writer = stage.log.writer()
    for second in range(101):
        record = (
            Tick("BTC-USD", START + second * SECOND, price=2.0, bid=1.0, ask=3.0)
            if second % 2
            else Heartbeat("BTC-USD", START + second * SECOND)
        )
        writer.append(TICKS, b"BTC-USD", encode(record))
    assert get(client, "/forecast?symbol=BTC-USD") == {
        "symbol": "BTC-USD", "state": "warming", "seconds_left": 200,
    }  # fmt: skip
    # A gap does not count.
    writer.append(TICKS, b"BTC-USD", encode(Heartbeat("BTC-USD", START + 200 * SECOND)))
    assert get(client, "/forecast?symbol=BTC-USD")["seconds_left"] == 200
    assert get(client, "/probability?symbol=BTC-USD&above_bps=3", 409)["error"].startswith(
        "BTC-USD is warming: at most 200 s"
    )
    unknown = get(client, "/forecast?symbol=NO-USD", 404)
    assert (unknown["field"], unknown["row"]) == ("symbol", None)


def test_the_first_prediction_of_a_step_counts(stage: Stage, client: TestClient) -> None:
    serving, challenger = steps(3, version="1"), steps(3, version="2")
    for pair in zip(serving, challenger, strict=True):
        stage.say(*pair)
    stage.say(*serving, *challenger)  # a scorer that was killed repeats itself
    stage.seen()
    rows = get(client, f"/forecast/history?symbol=BTC-USD&from={START}")["rows"]
    assert [(row["as_of"], row["model_version"]) for row in rows] == [
        (written(one.time), "1") for one in serving
    ]
    assert get(client, "/forecast?symbol=BTC-USD")["model_version"] == "1"


def test_a_stream_read_from_its_middle_does_not_begin_with_half_a_step() -> None:
    from volatility.streaming.log import Message

    board = boards.Board()
    board.begin("g", {0: 5})
    halves = [steps(2, version="1")[0], steps(2, version="2")[0]]
    later = [steps(2, version="1")[1], steps(2, version="2")[1]]
    told = board.take(
        Message(0, 5 + n, 0, b"", msgspec.json.encode(one))
        for n, one in enumerate([halves[1], *later])  # the first half was before
    )
    assert [json.loads(one.data)["model_version"] for one in told] == ["1"]
    assert board.since("g.4") is None
    assert board.since("g.5") == told


def events(text: str) -> list[dict[str, str]]:
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line]
        fields = {name: value for name, _, value in lines if name}
        if "data" in fields:
            found.append(fields)
    return found


def test_a_socket_gets_each_forecast_once_and_resumes_without_a_hole(
    stage: Stage, client: TestClient
) -> None:
    said = steps(40)
    stage.say(*said[:10])
    stage.seen()
    with client.websocket_connect("/forecast/ws?symbol=BTC-USD") as socket:
        first = socket.receive_json()
        assert first["as_of"] == written(said[9].time)
        stage.say(*said[10:20], *steps(5, "ETH-USD"))
        got = [socket.receive_json() for _ in range(10)]
    assert [one["as_of"] for one in got] == [written(one.time) for one in said[10:20]]
    stage.say(*said[20:30])
    stage.seen()
    place = got[4]["id"]
    url = f"/forecast/ws?symbol=BTC-USD&last_event_id={place}"
    with client.websocket_connect(url) as socket:
        stage.say(*said[30:])
        rest = [socket.receive_json() for _ in range(25)]
    assert [one["as_of"] for one in rest] == [written(one.time) for one in said[15:]]


@given(cuts=st.lists(st.integers(0, 30), max_size=4), seed=st.integers(0, 2**32 - 1))
def test_a_reader_that_is_cut_off_misses_and_repeats_nothing(cuts: list[int], seed: int) -> None:
    """Whatever the order of the partitions, and wherever it is cut."""
    from volatility.streaming.log import Message

    random = np.random.default_rng(seed)
    board = boards.Board()
    board.begin("g", {0: 0, 1: 0, 2: 0})
    offsets, wanted = [0, 0, 0], []
    for number in range(30):
        partition = int(random.integers(3))
        one = prediction(START + number * SECOND, f"S{partition}")
        value = msgspec.json.encode(one)
        wanted += board.take([Message(partition, offsets[partition], 0, b"", value)])
        offsets[partition] += 1
    got: list[boards.Told] = []
    place = "g.-1.-1.-1"
    for cut in [*cuts, 30]:
        found = board.since(place)
        assert found is not None
        got += found[:cut]
        if got:
            place = json.loads(got[-1].data)["id"]
    assert got == wanted


def test_a_place_that_is_not_kept_is_told(
    stage: Stage, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.say(*steps(3))
    stage.seen()
    for place in ("nonsense", "x.1.2", "0" * 200):
        with client.websocket_connect(f"/forecast/ws?last_event_id={place}") as socket:
            assert "not everything" in socket.receive_json()["error"]
            assert socket.receive_json()["as_of"] == written(START + 2 * SECOND)


def test_probability_of_any_level(stage: Stage, client: TestClient) -> None:
    stage.say(*steps(1))
    stage.seen()
    ask = "/probability?symbol=BTC-USD&"
    found = get(client, f"{ask}above_bps=7.5")
    assert found["horizon"] == "60s"
    assert found["probability"] == pytest.approx(0.05 * (5 / 7.5) ** 3)
    assert get(client, f"{ask}above_bps=3&horizon=300s")["probability"] == 0.5
    assert get(client, f"{ask}below_bps=3")["probability"] == 0.5
    between = get(client, f"{ask}above_bps=2&below_bps=4")["probability"]
    assert between == pytest.approx(0.5)
    for query in ("", "above_bps=x", "above_bps=nan", "above_bps=4&below_bps=3", "horizon=1m",
                  "above_bps=1&horizon=60s,300s", "above_bps=-1"):  # fmt: skip
        get(client, ask + query, 422)
    get(client, f"{ask}above_bps=1&horizon=61s", 404)


def test_the_distribution_is_that_of_the_model() -> None:
    bundle, rows = small_bundle(), random_rows(300, seed=3, missing=0.0)
    symbols = np.zeros(len(rows), np.int64)
    made = bundle.forecast(rows, symbols)
    errors = []
    for place in range(len(rows)):
        forecast = HorizonForecast(
            float(made.volatility_bps[place, 0]),
            Quantiles(*made.quantiles_bps[place, 0].tolist()),
            bundle.specification.spike_levels_bps[0][0],
            float(made.exceedance[place, 0]),
        )
        law = Distribution.of(forecast)
        assert law.above(forecast.spike_level_bps) == pytest.approx(
            made.exceedance[place, 0], abs=0.03
        )
        assert law.levels == sorted(law.levels)
        assert law.below == sorted(law.below)
        assert 0.0 < law.mean() < 1.5 * forecast.volatility_bps
        levels = forecast.volatility_bps * np.array([0.1, 0.4, 0.8, 1.0, 1.3, 2.0, 4.0])
        exact = bundle.forecaster.exceedance(
            np.repeat(rows[place : place + 1], len(levels), axis=0),
            np.zeros(len(levels), np.int64), 0, levels / bundle.bps[0],
        )  # fmt: skip
        found = np.array([law.above(float(level)) for level in levels])
        assert (np.diff(found) <= 0).all()
        errors.append(np.abs(found - exact))
    assert np.mean(errors) < 0.02


def test_the_percentile_ranks_among_a_day() -> None:
    ranks = Percentiles()
    for minute in range(3_000):
        ranks.add("A", "60s", START + minute * 60 * SECOND, float(minute % 1_000))
        ranks.add("A", "60s", START + (minute * 60 + 7) * SECOND, 1e9)
        if minute < 59:
            assert ranks.rank("A", "60s", 1.0) is None
    kept = [float(minute % 1_000) for minute in range(3_000 - DAY_NS // (60 * SECOND), 3_000)]
    for value in (0.0, 400.5, 999.0, 2_000.0):
        share = 100.0 * sum(one < value for one in kept) / len(kept)
        assert ranks.rank("A", "60s", value) == share
    later = Percentiles()
    for minute in range(2_900, 3_000):
        later.add("A", "60s", START + minute * 60 * SECOND, float(minute % 1_000))
    before = [(START + m * 60 * SECOND, float(m % 1_000)) for m in range(1_000, 2_950)]
    later.put_before("A", "60s", before)
    assert later.rank("A", "60s", 400.5) == ranks.rank("A", "60s", 400.5)


def test_the_percentile_after_a_start_is_read_from_the_lake(tmp_path: Path) -> None:
    before = Stage(tmp_path)
    before.say(*(p for n in range(100) for p in steps(1, start=START + n * 60 * SECOND)))
    before.capture()
    stage = Stage(tmp_path)
    with stage.client() as client:
        client.get("/forecast")
        stage.say(*steps(1, start=START + 6_000 * SECOND))
        stage.seen()
        until(
            lambda: stage.center.board.percentiles.rank("BTC-USD", "60s", 99.0) == 100.0,
            "the last day is read",
        )


def read_arrow(content: bytes) -> pa.Table:
    return pa.ipc.open_stream(content).read_all()


def test_history_is_what_was_said_in_every_format(stage: Stage, client: TestClient) -> None:
    said = steps(50)
    stage.say(*said[:30])
    stage.capture()
    stage.say(*said[30:])
    stage.seen()
    url = f"/forecast/history?symbol=BTC-USD&from={START}"
    rows = get(client, url)["rows"]
    assert [row["as_of"] for row in rows] == [written(one.time) for one in said]
    assert [row["said_at"] for row in rows] == [written(one.said_at or 0) for one in said]
    assert [row["horizons"]["300s"]["volatility_bps"] for row in rows] == [
        4.0 + n / 1024 for n in range(50)
    ]
    table = read_arrow(client.get(url + "&format=arrow&horizon=300s").content)
    assert table.column("volatility_bps").to_pylist() == [4.0 + n / 1024 for n in range(50)]
    assert table.column("said_at").cast(pa.int64()).to_pylist() == [one.said_at for one in said]
    assert set(table.column("horizon_seconds").to_pylist()) == {300}
    whole = read_arrow(client.get(url + "&format=arrow").content)
    assert whole.num_rows == 150
    parquet = pq.read_table(io.BytesIO(client.get(url + "&format=parquet").content))
    assert parquet.to_pylist() == whole.to_pylist()
    response = client.get(url + "&format=csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    text = list(csv.DictReader(io.StringIO(response.text)))
    assert [float(row["volatility_bps"]) for row in text] == whole.column(
        "volatility_bps"
    ).to_pylist()


def test_history_is_paged(stage: Stage, client: TestClient) -> None:
    stage.say(*steps(25))
    stage.capture()
    stage.seen()
    query, found, pages = f"symbol=BTC-USD&from={START}&limit=10", [], 0
    while query:
        page = get(client, f"/forecast/history?{query}")
        found += [row["as_of"] for row in page["rows"]]
        query, pages = page["next"], pages + 1
    assert found == [written(one.time) for one in steps(25)]
    assert pages == 3


def test_history_without_a_lake_or_a_stream_is_empty(client: TestClient) -> None:
    assert get(client, "/forecast/history?symbol=BTC-USD") == {"rows": [], "next": None}
    for kind in ("csv", "arrow", "parquet"):
        assert client.get(f"/forecast/history?symbol=A&format={kind}").status_code == 200


@pytest.mark.parametrize(
    "query",
    ["", "symbol=a", "symbol=A&from=x", "symbol=A&to=1", "symbol=A&format=xml", "symbol=A&limit=0",
     "symbol=A&symbol=B", "symbol=A&what=1", "symbol=A&as_of=2100-01-02", "symbol=A%FF",
     "symbol=A&horizon=60"],
)  # fmt: skip
def test_a_wrong_question_names_the_parameter(client: TestClient, query: str) -> None:
    found = get(client, f"/forecast/history?{query}", 422)
    assert found["field"] is not None or "UTF-8" in found["error"]


@pytest.mark.slow
@given(data=st.data())
def test_history_as_of_a_moment_is_what_was_known_then(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Ask at random moments, and again of these moments when much more has been said."""
    stage = Stage(tmp_path_factory.mktemp("lake"), partitions=1)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    clock, number = START + 1_000 * SECOND, 0
    known: list[tuple[int, Any]] = []
    with stage.client() as client:
        url = f"/forecast/history?symbol=BTC-USD&from={START}&limit=10000"
        for _ in range(data.draw(st.integers(1, 6))):
            for _ in range(int(random.integers(1, 20))):
                clock += int(random.integers(1, 2 * SECOND))
                # Sometimes a step is repeated, by the same version or by another.
                back = int(random.integers(0, 3)) if random.random() < 0.3 and number > 3 else -1
                place = number if back < 0 else number - 1 - back
                (one,) = steps(1, start=START + place * SECOND, version=str(max(back, 0)))
                stage.say(msgspec.structs.replace(one, said_at=clock))
                number += back < 0
            if random.random() < 0.5:
                stage.capture()
            stage.seen()
            known.append((clock, get(client, url)["rows"]))
            clock += 1
        for moment, rows in known:
            assert get(client, f"{url}&as_of={moment}")["rows"] == rows
        for _ in range(3):
            moment = int(random.integers(START + 1_000 * SECOND, clock))
            last = known[-1][1]
            wanted = [row for row in last if row["said_at"] <= written(moment)]
            assert get(client, f"{url}&as_of={moment}")["rows"] == wanted


def test_history_reads_the_log_where_the_last_forecasts_do_not_reach_the_lake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "RECENT", 5)
    stage = Stage(tmp_path)
    stage.center.board.recent = deque(maxlen=5)
    with stage.client() as client:
        stage.say(*steps(10))
        stage.capture()
        stage.say(*steps(30)[10:])
        client.get("/forecast")
        stage.seen()
        rows = get(client, f"/forecast/history?symbol=BTC-USD&from={START}")["rows"]
    assert [row["as_of"] for row in rows] == [written(one.time) for one in steps(30)]


def test_the_key_and_the_origins_cover_the_new_routes(stage: Stage, client: TestClient) -> None:
    assert routes_module.PATHS <= GUARDED
    stage.say(*steps(1))
    stage.seen()
    stage.state.origins = Origins(["https://desk.example"])
    response = client.get("/forecast", headers={"origin": "https://desk.example"})
    assert response.headers["access-control-allow-origin"] == "https://desk.example"
    for origin, allowed in (("https://desk.example", True), ("https://other.example", False)):
        try:
            with client.websocket_connect("/forecast/ws", headers={"origin": origin}) as socket:
                socket.receive_json()
                assert allowed
        except WebSocketDisconnect:
            assert not allowed
    stage.state.guard = Guard("key")
    for path in sorted(routes_module.PATHS):
        assert client.get(path).status_code == 401
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/forecast/ws"):
        pass
    headers = {"authorization": "Bearer key"}
    assert client.get("/forecast", headers=headers).status_code == 200
    with client.websocket_connect("/forecast/ws", headers=headers) as socket:
        assert socket.receive_json()["symbol"] == "BTC-USD"


def test_other_methods_are_refused_and_head_has_no_body(stage: Stage, client: TestClient) -> None:
    stage.say(*steps(1))
    stage.seen()
    for path in sorted(routes_module.PATHS - {routes_module.SOCKET}):
        response = client.post(path)
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    for path in ("/forecast", "/forecast/stream", "/forecast/history?symbol=BTC-USD",
                 "/probability?symbol=BTC-USD&above_bps=1", "/health"):  # fmt: skip
        response = client.head(path)
        assert (response.status_code, response.content) == (200, b"")
    assert client.get("/forecast/ws").status_code == 426


def test_without_a_log_the_routes_say_why(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.log.delete("predictions")
    with stage.client() as client:
        until(lambda: "volatility score" in stage.center.board.problem, "the log is asked")
        for path in ("/forecast", "/forecast/stream", "/forecast/ws"):
            if path.endswith("ws"):
                with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
                    pass
            else:
                assert "no predictions yet" in get(client, path, 503)["error"]


def test_a_log_that_does_not_answer_is_not_asked_by_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path)
    asked: list[str] = []

    def away(topic: str) -> list[int]:
        asked.append(threading.current_thread().name)
        raise LogError("no broker responds")

    monkeypatch.setattr(stage.log, "partitions", away)
    with stage.client() as client:
        for path in ("/forecast?symbol=BTC-USD", "/probability?symbol=BTC-USD&above_bps=3"):
            get(client, path, 503)
        until(lambda: stage.center.board.problem == "no broker responds", "the log is asked")
        for path in ("/forecast?symbol=BTC-USD", "/probability?symbol=BTC-USD&above_bps=3"):
            assert get(client, path, 503)["error"] == "no broker responds"
    assert set(asked) == {"forecasts"}
