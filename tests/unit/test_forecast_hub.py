"""Subscribers: each gets everything in order, and one that does not read is dropped alone."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from service import logs
from service.forecasts import hub as hubs
from service.forecasts.board import Told
from service.forecasts.hub import Hub
from service.protocol import protocol
from service.security import Guard
from tests.forecasts import START, Stage, steps
from tests.waiting import until
from volatility.client import Client
from volatility.units import SECOND


def told(number: int, symbol: str = "BTC-USD") -> Told:
    data = b'{"symbol":"%s","n":%d}' % (symbol.encode(), number)
    return Told(0, number, b"", symbol, number, number, data, b"data: %s\n\n" % data)


def test_each_reader_gets_its_symbols_in_order() -> None:
    async def run() -> None:
        hub = Hub()
        every, one = hub.join(frozenset()), hub.join(frozenset({"ETH-USD"}))
        for number in range(5):
            hub.publish([told(number), told(number, "ETH-USD")])
            hub.publish([told(number)])
        pieces = await every.take()
        texts = [json.loads(m) for piece in pieces for m in piece.messages]
        assert [text["n"] for text in texts] == [n for n in range(5) for _ in range(3)]
        assert [json.loads(m)["n"] for p in await one.take() for m in p.messages] == [0, 1, 2, 3, 4]
        waiting = asyncio.ensure_future(one.take())
        await asyncio.sleep(0)
        hub.publish([told(9)])
        await asyncio.sleep(0)
        assert not waiting.done()
        hub.publish([told(9, "ETH-USD")])
        assert len(await waiting) == 1

    asyncio.run(run())


def test_readers_hear_something_while_nothing_is_said() -> None:
    hub = Hub()
    reader = hub.join(frozenset({"ETH-USD"}))
    for number in range(3):
        hub.publish([told(number)])  # of another symbol
        hub.beat()
    assert [piece.events for piece in reader._waiting] == [b": nothing new\n\n"] * 2


def test_what_all_read_is_encoded_once() -> None:
    hub = Hub()
    readers = [hub.join(frozenset()) for _ in range(3)]
    hub.publish([told(1)])
    pieces = [reader._waiting[0] for reader in readers]
    assert len({id(piece) for piece in pieces}) == 1


def test_a_reader_that_is_too_slow_is_dropped_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        hub = Hub()
        slow, quick = hub.join(frozenset()), hub.join(frozenset())
        got = 0
        for number in range(hubs.MOST_WAITING + 1):
            hub.publish([told(number)])
            got += len(await quick.take())
        assert (slow.dropped, quick.dropped) == (hubs.SLOW, "")
        assert await slow.take() == []
        assert (hub.dropped, len(hub), got) == (1, 1, hubs.MOST_WAITING + 1)
        monkeypatch.setattr(hubs, "MOST_BYTES", 10)
        hub.publish([told(0)])
        assert quick.dropped
        last = hub.join(frozenset())
        hub.end()
        assert (last.dropped, len(hub)) == (hubs.ENDED, 0)

    asyncio.run(run())


@contextmanager
def served(stage: Stage) -> Iterator[str]:
    """Serve a stage over real sockets."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(stage.app, http=protocol(stage.state), log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        until(lambda: server.started, "the server starts")
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_a_reader_that_does_not_read_is_dropped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "MOST_BYTES", 60_000)
    stage = Stage(tmp_path, partitions=1)
    stage.say(*steps(1))
    with served(stage) as url:
        stage.seen()
        port = int(url.rpartition(":")[2])
        with socket.socket() as deaf, Client(url) as client:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(b"GET /forecast/stream HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: len(stage.center.hub) == 1, "the deaf reader is there")
            quick = client.stream(["BTC-USD"])
            assert next(quick).as_of.endswith("00.000000000Z")
            said, seen = 1, 1
            while not stage.center.hub.dropped:
                stage.say(*steps(20, start=START + said * SECOND))
                said += 20
                while seen < said:
                    seen += 1
                    next(quick)
            # It reads at last: what had been sent, and then why nothing more comes.
            deaf.settimeout(60.0)
            received = b""
            while b"event: dropped" not in received[-2_000:]:
                received += deaf.recv(65_536)
            assert hubs.SLOW.encode() in received
            assert len(stage.center.hub) == 1


def test_a_refused_socket_is_no_error_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs.ignore_refused_sockets()
    stage = Stage(tmp_path)
    stage.state.guard = Guard("key")
    with (
        served(stage) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as refused,
    ):
        refused.sendall(
            b"GET /forecast/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
            b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        received = b""
        while part := refused.recv(65_536):
            received += part
    assert received.startswith(b"HTTP/1.1 401 ")
    assert b"the API key is missing or wrong" in received
    assert "handshake" not in caplog.text


def test_a_stop_ends_the_streams(tmp_path: Path) -> None:
    stage = Stage(tmp_path, partitions=1)
    stage.say(*steps(1))
    with served(stage) as url:
        stage.seen()
        reader = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        reader.sendall(b"GET /forecast/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: len(stage.center.hub) == 1, "the reader is there")
    received = b""
    while part := reader.recv(65_536):
        received += part
    reader.close()
    assert hubs.ENDED.encode() in received
