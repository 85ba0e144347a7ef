"""Long tick requests are worked on in a process beside the worker, with the same result."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from service import http, ticks
from service.front import Front
from service.http import application
from service.predictor import Served
from service.state import State
from service.ticks_process import ENDED, TicksProcess
from service.wire import RequestError
from tests.bundles import small_bundle
from tests.streams import START
from tests.waiting import PATIENCE_SECONDS
from volatility.registry import RegisteredModel
from volatility.settings import Features, Settings
from volatility.units import SECOND

FEATURES, MAX_ROWS = Features(), 5


def body(count: int, **last: object) -> bytes:
    """Make a body of a tick a second, the last of which has other fields."""
    found: list[dict[str, object]] = [
        {
            "symbol": "A",
            "time": START + k * SECOND,
            "price": 10.0,
            "bid": 9.0 + k % 3 / 10,
            "ask": 11.0,
        }
        for k in range(count)
    ]
    found[-1] |= last
    return json.dumps({"ticks": found}).encode()


@pytest.fixture(scope="module")
def process() -> TicksProcess:
    return TicksProcess()


@pytest.mark.slow
def test_it_ends_with_the_worker() -> None:
    running = TicksProcess().start()
    assert running.poll() is not None  # nobody refers to it any more
    process = TicksProcess()
    left = process.start()
    assert left.stdin is not None
    left.stdin.close()  # as the system does when the worker is killed
    left.stdin = None
    assert left.wait(PATIENCE_SECONDS) == 0


def test_it_builds_the_same_rows(process: TicksProcess) -> None:
    content = body(1_000)
    parts = [content[start : start + 1_000] for start in range(0, len(content), 1_000)]
    symbol, steps, rows = ticks.rows(parts, FEATURES, MAX_ROWS)
    found = process.rows(parts, FEATURES, MAX_ROWS)
    assert found[0] == symbol
    assert np.array_equal(found[1], steps)
    assert np.array_equal(found[2], rows, equal_nan=True)
    assert len(found[2]) == MAX_ROWS


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff", body(2), body(400, symbol="B"), body(400, time=START + 99_999 * SECOND),
        body(400, bid=12.0), body(400, price="x"), b'{"ticks": []}', b'{"ticks": ' + b"{" * 300_000,
    ],
)  # fmt: skip
def test_it_refuses_the_same(process: TicksProcess, content: bytes) -> None:
    with pytest.raises(RequestError) as expected:
        ticks.rows([content], FEATURES, MAX_ROWS)
    with pytest.raises(RequestError) as found:
        process.rows([content], FEATURES, MAX_ROWS)
    assert vars(found.value) == vars(expected.value)
    assert str(found.value) == str(expected.value)


@pytest.mark.slow
def test_a_killed_process_is_replaced(process: TicksProcess) -> None:
    first = process.start()

    def killed() -> Iterator[bytes]:  # while it reads the body
        first.kill()
        yield b" " * 100

    class Body(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            return killed()

    with pytest.raises(RequestError) as error:
        process.rows(Body([b" " * 100]), FEATURES, MAX_ROWS)
    assert (error.value.status, error.value.reason) == ENDED[:2]
    assert first.poll() is not None
    assert process.rows([body(1_000)], FEATURES, MAX_ROWS)[0] == "A"


@pytest.fixture
def state() -> State:
    model = RegisteredModel(small_bundle(), "crypto-vol-ml", "7", "champion", "run", {}, {})
    return State(Settings(), served=Served(small_bundle(), model, None))


@pytest.fixture
def client(state: State) -> TestClient:
    return TestClient(Front(application(state), state), raise_server_exceptions=False)


def test_long_requests_alone_are_given_to_it(
    state: State, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def rows(parts: list[bytes], *rest: object) -> object:
        given.append(sum(map(len, parts)))
        raise RequestError(*ENDED)

    monkeypatch.setattr(state.long_ticks, "rows", rows)
    long, short = body(1_500), body(400)
    assert len(short) < http.SHORT_BYTES < len(long)
    assert client.post("/predict/ticks", content=short).status_code == 200
    assert given == []
    assert client.post("/predict/ticks", content=long).status_code == 503
    assert given == [len(long)]


@pytest.mark.parametrize("path", ["/predict", "/predict/ticks"])
def test_large_bodies_are_bounded_together_and_small_ones_pass(
    state: State, client: TestClient, path: str
) -> None:
    state.held_bytes = http.HELD_BYTES
    small = b'{"rows": [{}]}' if path == "/predict" else body(400)
    large = small + b" " * http.SHORT_BYTES
    assert client.post(path, content=large).status_code == 503
    assert client.post(path, content=small).status_code == 200
    state.held_bytes = 0
    assert client.post("/predict", content=b'{"rows": [{}]}'.ljust(90_000)).status_code == 200
    assert client.post("/predict", content=b"x" * 90_000_000).status_code == 413
    assert state.held_bytes == 0
