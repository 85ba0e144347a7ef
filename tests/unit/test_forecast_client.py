"""The Python clients: what they read is what was said, whatever happens to the service."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from starlette.testclient import TestClient

from service import openapi_examples, openapi_forecasts
from service.forecasts.messages import written
from tests.bundles import START_NS
from tests.documents import ROOT
from tests.forecasts import START, Stage, steps
from volatility import client as clients
from volatility.client import AsyncClient, Client, ClientError, Forecast, Warming, core
from volatility.units import SECOND

HEAVY = {
    "numba", "pandas", "pyarrow", "mlflow", "bentoml", "starlette", "uvicorn", "kafka", "sklearn",
    "prefect", "numpy", "service",
}  # fmt: skip
URL = "http://service"
Answers = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "pauses", lambda: iter([0.0] * 1_000))


@pytest.fixture(params=["blocking", "asynchronous"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return a function that calls a method of either client, and lists what it yields."""

    async def call(answers: Answers, name: str, *given: Any, most: int = 0, **named: Any) -> Any:
        async with AsyncClient(URL, transport=httpx.MockTransport(answers)) as client:
            found = getattr(client, name)(*given, **named)
            if not isinstance(found, AsyncIterator):
                return await found
            listed: list[Any] = []
            async for one in found:
                listed.append(one)
                if len(listed) == most:
                    break
            return listed

    def blocking(answers: Answers, name: str, *given: Any, most: int = 0, **named: Any) -> Any:
        with Client(URL, transport=httpx.MockTransport(answers)) as client:
            found = getattr(client, name)(*given, **named)
            if not isinstance(found, Iterator):
                return found
            listed: list[Any] = []
            for one in found:
                listed.append(one)
                if len(listed) == most:
                    break
            return listed

    if request.param == "blocking":
        return blocking
    return lambda *given, **named: asyncio.run(call(*given, **named))


def json_of(content: object) -> httpx.Response:
    return httpx.Response(200, content=msgspec.json.encode(content))


def test_an_import_loads_no_package_of_the_server() -> None:
    script = "import sys, volatility.client; print(*{n.partition('.')[0] for n in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "httpx" in done.stdout.split()
    assert HEAVY & set(done.stdout.split()) == set()


def test_the_types_are_those_of_the_service() -> None:
    def same(kind: type, shown: dict[str, Any]) -> None:
        found: Any = msgspec.convert(shown, kind)
        assert set(msgspec.to_builtins(found)) >= set(shown)
        for name, value in shown.items():
            assert msgspec.to_builtins(getattr(found, name)) == value

    same(clients.Forecast, openapi_forecasts.NEWEST)
    same(clients.Warming, openapi_forecasts.WARMING)
    same(clients.Odds, openapi_forecasts.ODDS)
    same(clients.Answer, openapi_examples.ANSWER | {"forecasts": []})


def test_the_newest_of_one_and_of_several(ask: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        one = dict(request.url.params).get("symbol") == "BTC-USD"
        return json_of(openapi_forecasts.NEWEST if one else openapi_forecasts.SEVERAL)

    found = ask(answer, "latest", "BTC-USD")
    assert isinstance(found, Forecast)
    assert found.horizons["60s"].volatility_bps == 4.1
    assert found.time.isoformat() == "2026-04-04T21:13:43+00:00"
    first, second = ask(answer, "latest_of", ("BTC-USD", "ETH-USD"))
    assert first == found
    assert second == Warming("ETH-USD", 212)


def test_a_busy_service_is_asked_again(ask: Any) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) == 1:
            raise httpx.ReadError("reset")
        if len(asked) < 4:
            return httpx.Response(503, json={"error": "busy", "row": None, "field": None})
        return json_of(openapi_forecasts.ODDS)

    odds = ask(answer, "probability", "BTC-USD", above_bps=12.0)
    assert (odds.probability, len(asked)) == (0.02, 4)
    assert dict(asked[0].url.params) == {"symbol": "BTC-USD", "above_bps": "12.0"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(401), "requires a key"),
        (httpx.Response(404, json={"error": "no"}), r"no \(HTTP 404"),
        (httpx.Response(200, content=b"\xff\x00garbage"), "does not respond like this service"),
        (httpx.Response(200, json=[1]), "does not respond like this service"),
        (httpx.Response(200, json={"state": "ok"}), "does not respond like this service"),
        (httpx.Response(500, content=b"<html>"), "like this service: HTTP 500"),
        (httpx.ConnectError("refused"), "no service responds at"),
        (httpx.ReadTimeout("late"), "did not respond within"),
        (httpx.RemoteProtocolError("cut"), "the connection to http://service failed: cut"),
    ],
)  # fmt: skip
def test_errors_are_one_line(ask: Any, answer: Any, message: str) -> None:
    def give(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, content=answer.content)

    for name in ("latest", "history", "stream"):
        named = {"most": 1, "patience_seconds": -1.0} if name == "stream" else {}
        if name == "stream" and message.startswith("does not"):
            continue  # lines that are no events
        if name == "history" and message.startswith("does not"):
            continue  # read by pyarrow
        given = () if name == "stream" else ("BTC-USD",)
        with pytest.raises(ClientError, match=message) as caught:
            ask(give, name, *given, **named)
        assert "\n" not in str(caught.value)


def events(forecasts: list[dict[str, Any]]) -> bytes:
    return b"".join(
        b"id: %s\ndata: %s\n\n" % (one["id"].encode(), json.dumps(one).encode())
        for one in forecasts
    )


def shown(number: int, symbol: str = "BTC-USD") -> dict[str, Any]:
    as_of = written(START + number * SECOND)
    return openapi_forecasts.EVENT | {"as_of": as_of, "id": f"g.{number}", "symbol": symbol}


def test_a_stream_continues_after_a_cut(ask: Any) -> None:
    """The service is restarted, is slow to start, drops the reader and repeats itself."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id", ""))
        turn = len(asked)
        if turn == 1:
            cut = events([shown(2)])[:-20]
            return httpx.Response(200, content=b"retry: 1\n\n" + events([shown(0), shown(1)]) + cut)
        if turn == 2:
            raise httpx.ConnectError("refused")
        if turn == 3:
            return httpx.Response(503, json={"error": "starting", "row": None, "field": None})
        if turn == 4:
            dropped = b'event: dropped\ndata: {"error": "too slow"}\n\n'
            return httpx.Response(200, content=events([shown(1), shown(2)]) + dropped)
        return httpx.Response(200, content=b": idle\n\n" + events([shown(3), shown(4)]))

    found = ask(answer, "stream", ("BTC-USD",), most=5)
    assert [one.as_of for one in found] == [written(START + n * SECOND) for n in range(5)]
    assert asked == ["", "g.1", "g.1", "g.1", "g.2"]


def test_what_the_stream_does_not_have_any_more_comes_from_the_history(ask: Any) -> None:
    turns = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal turns
        if request.url.path == "/forecast/history":
            params = dict(request.url.params)
            first = 1 if params["from"] == written(START) else 3
            rows = [{k: v for k, v in shown(n).items() if k != "id"} for n in (first, first + 1)]
            following = f"symbol=BTC-USD&from={START + 3 * SECOND}" if first == 1 else None
            return json_of({"rows": rows, "next": following})
        turns += 1
        if turns == 1:
            return httpx.Response(200, content=events([shown(0)]))
        reset = b'event: reset\ndata: {"error": "gone"}\n\n'
        return httpx.Response(200, content=reset + events([shown(4), shown(5)]))

    found = ask(answer, "stream", most=6)
    assert [one.as_of for one in found] == [written(START + n * SECOND) for n in range(6)]


def test_a_stream_gives_up_when_its_patience_ends(ask: Any) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(ClientError, match="no service responds"):
        ask(answer, "stream", most=1, patience_seconds=-1.0)

    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(422, json={"error": "symbol", "row": None, "field": "symbol"})

    with pytest.raises(ClientError, match="HTTP 422") as caught:
        ask(refuse, "stream", ("?",), most=1)
    assert (caught.value.field, caught.value.status) == ("symbol", 422)


def through(client: TestClient) -> Answers:
    def answer(request: httpx.Request) -> httpx.Response:
        found = client.request(
            request.method,
            request.url.raw_path.decode(),
            content=request.content,
            headers=dict(request.headers),
        )
        return httpx.Response(found.status_code, content=found.content)

    return answer


def test_history_becomes_frames(ask: Any, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.client() as client:
        stage.say(*steps(20))
        client.get("/forecast")
        stage.seen()
        found = ask(through(client), "history", "BTC-USD", START, horizons=("60s",))
        table, frame = found.to_arrow(), found.to_pandas()
        assert table.num_rows == len(frame) == 20
        assert frame["volatility_bps"].tolist() == [3.0 + n / 1024 for n in range(20)]
        none = ask(through(client), "history", "ETH-USD")
        assert none.to_arrow().num_rows == 0


def test_rows_and_ticks_are_forecast(ask: Any, tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.client() as client:
        rows = [{"spread_bps": 0.2, "interarrival_60s": None, "trade_intensity": float("nan")}]
        answer = ask(through(client), "predict", rows, "BTC-USD", explain=True)
        assert len(answer.scores) == len(answer.reasons) == 1
        tick = {"price": 100.0, "bid": 99.99, "ask": 100.01, "symbol": "BTC-USD"}
        ticks = [tick | {"time": START_NS + n * SECOND} for n in range(400)]
        answer = ask(through(client), "predict_ticks", ticks)
        assert answer.steps is not None
        assert len(answer.steps) == len(answer.scores)
        with pytest.raises(ClientError, match="HTTP 422") as caught:
            ask(through(client), "predict", [{"nope": 1.0}])
        assert (caught.value.row, caught.value.field) == (0, "nope")
