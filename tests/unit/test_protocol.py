"""Plain predictions are answered by the protocol itself; all else reaches the application whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from itertools import pairwise

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import protocol as protocols
from service.front import Front
from service.http import application
from service.origins import Origins
from service.predictor import Served
from service.security import HEADERS, Guard
from service.state import State
from tests.bundles import small_bundle
from tests.waiting import PATIENCE_SECONDS, until_async
from volatility.registry import RegisteredModel
from volatility.settings import Settings

BODY = b'{"rows": [{"midprice": 68000.5, "spread": 1.2, "volatility_ratio_60s": 2.0}, {}]}'
MEASURED = {"ts", "latency_ms"}


@pytest.fixture
def state() -> State:
    bundle = small_bundle()
    model = RegisteredModel(bundle, "crypto-vol-ml", "7", "champion", "run", {}, {})
    return State(Settings(), served=Served(bundle, model, None))


class Behind:
    """Note what reaches the application, and let its routes answer it."""

    def __init__(self, state: State) -> None:
        self.app = Front(application(state), state)
        self.calls: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            self.calls.append(scope["path"])
            await self.app(scope, receive, send)


class Place:
    """A running server: its application, and the means to speak to it."""

    def __init__(self, behind: Behind, server: uvicorn.Server, port: int) -> None:
        self.behind, self.server, self.port = behind, server, port

    async def ask(self, *pieces: bytes, count: int = 1):
        """Send pieces over one connection, one after the other; give the answers."""
        async with connection(self.port) as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)  # so that they are packets of their own
            return [await asyncio.wait_for(read(reader), PATIENCE_SECONDS) for _ in range(count)]


@contextlib.asynccontextmanager
async def connection(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def holding(connections) -> bool:
    """Return whether any connection is holding a request back."""
    return any(getattr(one, "_held", None) for one in connections)


async def read(reader):
    """Read one answer: status, headers, content."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    content = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), headers, json.loads(content)


def request(body=BODY, path="/predict", method="POST", **headers) -> bytes:
    given = {"host": "test", "content-length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def served(state, talk):
    """Run a real server on a free port while ``talk`` speaks to it; give what it says."""

    async def run():
        behind = Behind(state)
        config = uvicorn.Config(
            behind, http=protocols.protocol(state), log_config=None, lifespan="off", port=0,
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
        running = asyncio.create_task(server.serve())
        await until_async(lambda: server.started, "the server starts")
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            return await talk(Place(behind, server, port))
        finally:
            server.should_exit = True
            await asyncio.wait_for(running, PATIENCE_SECONDS)

    return asyncio.run(run())


def lasting(answer):
    status, headers, content = answer
    names = {name for name in headers if name not in ("date", "content-length")}
    return status, names, {k: v for k, v in content.items() if k not in MEASURED}


@pytest.mark.parametrize(("trusted", "admitted"), [("", 2), ("10.0.0.1", 2), ("127.0.0.0/8", 6)])
def test_a_client_evades_the_rate_limit_only_through_a_trusted_proxy(
    state, monkeypatch, trusted, admitted
):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", trusted)  # as service.app sets it
    state.guard = Guard(rate_limit="2/hour")

    async def talk(place):
        answers = [
            await place.ask(request(x_forwarded_for=f"10.9.8.{number}, 10.0.0.7{number}"))
            for number in range(6)
        ]
        return [status for ((status, *_),) in answers]

    assert served(state, talk) == [200] * admitted + [429] * (6 - admitted)


@pytest.mark.parametrize("line", [b"x: " + b"y" * 66_000, b"a: b\r\n" * 11_000])
def test_a_head_without_end_is_refused_before_the_key_is_looked_at(state, line):
    state.guard = Guard("secret")
    rejected: list[str] = []
    state.on_reject = rejected.append

    async def talk(place):
        async with connection(place.port) as (reader, writer):
            writer.write(b"POST /predict HTTP/1.1\r\n")
            for start in range(0, len(line), 10_000):
                writer.write(line[start : start + 10_000])
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
            answer = await asyncio.wait_for(read(reader), PATIENCE_SECONDS)
            rest = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        return answer, rest, place.behind.calls

    (status, _, content), rest, calls = served(state, talk)
    assert (status, rest, calls) == (431, b"", [])
    assert "at most 65536 bytes and 100 headers" in content["error"]
    assert rejected == ["head_too_large"]


@pytest.mark.parametrize("chunked", [False, True])
def test_no_more_lines_are_parsed_than_a_head_may_have(state, monkeypatch, chunked):
    parsed: list[bytes] = []
    whole = HttpToolsProtocol.on_header

    def on_header(connection, name, value):
        parsed.append(name)
        whole(connection, name, value)

    monkeypatch.setattr(HttpToolsProtocol, "on_header", on_header)
    start = b"POST /nowhere HTTP/1.1\r\n"
    if chunked:  # the lines after the last chunk are read like those of the head
        start += b"transfer-encoding: chunked\r\n\r\n0\r\n"

    async def talk(place):
        async with connection(place.port) as (reader, writer):
            writer.write(start + b"a: b\r\n" * 9_000 + b"\r\n")
            return await asyncio.wait_for(read(reader), PATIENCE_SECONDS)

    assert served(state, talk)[0] == 431
    assert len(parsed) <= protocols.HEAD_LINES + 1


def test_what_is_not_http_is_refused_like_the_rest_and_floods_no_log(state, caplog):
    rejected: list[str] = []
    state.on_reject = rejected.append

    async def talk(place):
        return [(await place.ask(b"GARBAGE\r\n\r\n"))[0] for _ in range(3)]

    answers = served(state, talk)
    assert [(status, content["error"]) for status, _, content in answers] == [
        (400, "the request is not HTTP/1.1")
    ] * 3
    assert rejected == ["not_http"] * 3
    assert "Invalid HTTP request" not in caplog.text


def test_a_large_head_within_the_bound_and_a_large_body_before_a_head_are_taken(state):
    async def talk(place):
        (cookie,) = await place.ask(request(cookie="x" * 50_000))
        body = BODY[:-1] + b" " * 150_000 + b"}"
        both = await place.ask(request(body), request()[:20], request()[20:], count=2)
        return [cookie[0], *(answer[0] for answer in both)]

    assert served(state, talk) == [200, 200, 200]


@pytest.mark.parametrize("begun", [b"", b"POST /pred", b"POST /predict HTTP/1.1\r\nx: "])
def test_a_head_that_does_not_arrive_ends_the_connection(state, monkeypatch, begun):
    monkeypatch.setattr(protocols, "HEAD_SECONDS", 0.2)

    async def talk(place):
        async with connection(place.port) as (reader, writer):
            writer.write(begun)
            silent = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        async with connection(place.port) as (reader, writer):  # also after a good request
            writer.write(request() + (begun or b"POST /pred"))
            await read(reader)
            return silent, await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)

    assert served(state, talk) == (b"", b"")


@contextlib.asynccontextmanager
async def connections(port, count, sent=b""):
    """Open connections one after the other, and send the same over each."""
    async with contextlib.AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(await stack.enter_async_context(connection(port)))
            opened[-1][1].write(sent)
        yield opened


@pytest.mark.parametrize("sent", [b"", b"POST /pred", b"POST /predict HTTP/1.1\r\nx: "])
def test_beyond_the_limit_the_longest_idle_make_room(state, sent):
    state.max_connections = 4

    async def talk(place):
        known = place.server.server_state.connections
        async with (
            connection(place.port) as (reader, writer),
            connections(place.port, 3, sent) as idle,
        ):
            writer.write(request())  # it has sent a request: the silent ones go first
            statuses = [(await asyncio.wait_for(read(reader), PATIENCE_SECONDS))[0]]
            await until_async(lambda: len(known) == 4, "all are connected")
            for _ in range(6):
                async with connection(place.port) as (other, out):
                    out.write(request())
                    statuses.append((await asyncio.wait_for(read(other), PATIENCE_SECONDS))[0])
                    assert len(known) <= 4
            ended = await asyncio.wait_for(idle[0][0].read(), PATIENCE_SECONDS)
            writer.write(request())
            statuses.append((await asyncio.wait_for(read(reader), PATIENCE_SECONDS))[0])
        return statuses, ended

    assert served(state, talk) == ([200] * 8, b"")


def test_those_that_sent_a_request_make_room_in_the_order_of_their_last(state):
    state.max_connections = 3

    async def talk(place):
        async with connections(place.port, 3) as opened:
            for reader, writer in [*opened, opened[0]]:
                writer.write(request())
                await asyncio.wait_for(read(reader), PATIENCE_SECONDS)
            async with connection(place.port) as (reader, writer):
                writer.write(request())
                await asyncio.wait_for(read(reader), PATIENCE_SECONDS)
                ended = await asyncio.wait_for(opened[1][0].read(), PATIENCE_SECONDS)
                for kept in (opened[0], opened[2]):
                    kept[1].write(request())
                    await asyncio.wait_for(read(kept[0]), PATIENCE_SECONDS)
            return ended

    assert served(state, talk) == b""


@pytest.mark.parametrize("given", [{}, {"x_forwarded_for": "10.0.0.1"}, {"path": "/predict/ticks"}])
def test_beyond_the_limit_none_in_use_is_closed_and_a_new_one_is_refused(state, given):
    state.max_connections = 3
    rejected: list[str] = []
    state.on_reject = rejected.append
    whole = request(**given)

    async def talk(place):
        known = place.server.server_state.connections
        async with connections(place.port, 3, whole[:-10]) as busy:
            await until_async(
                lambda: len(known) == 3 and all(one._heads for one in known), "all are in use"
            )
            async with connection(place.port) as (reader, _):
                refused = await asyncio.wait_for(read(reader), PATIENCE_SECONDS)
                rest = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
            answers = []
            for reader, writer in busy:
                writer.write(whole[-10:])
                answers.append((await asyncio.wait_for(read(reader), PATIENCE_SECONDS))[0])
            async with connection(place.port) as (reader, writer):  # there is room again
                writer.write(request())
                answers.append((await asyncio.wait_for(read(reader), PATIENCE_SECONDS))[0])
        return refused, rest, answers

    (status, headers, content), rest, answers = served(state, talk)
    assert (status, headers["connection"], rest) == (503, "close", b"")
    assert set(content) == {"error", "row", "field"}
    assert answers == [422 if "path" in given else 200] * 3 + [200]
    assert rejected[0] == "connections"


@pytest.mark.parametrize("path", ["/docs.json", "/predict"])
def test_a_client_that_never_reads_is_not_waited_for_forever(state, monkeypatch, path):
    monkeypatch.setattr(protocols, "UNREAD_SECONDS", 0.2)
    asked = (
        request(b'{"rows": [%s]}' % b",".join([b"{}"] * 1000))
        if path == "/predict"
        else request(b"", path, "GET")
    )

    async def talk(place):
        known = place.server.server_state.connections
        async with connection(place.port) as (reader, writer):
            reader._transport.pause_reading()
            writer.write(asked * 300)
            await until_async(lambda: known, "it is connected")
            await until_async(lambda: not known, "it is ended")
        return await place.ask(request())

    assert served(state, talk)[0][0] == 200


def test_an_idle_connection_outlasts_the_patience_of_balancers(state):
    async def made():
        config = uvicorn.Config(Behind(state), log_config=None)
        config.load()
        kind = protocols.protocol(state)
        return kind(config=config, server_state=uvicorn.server.ServerState(), app_state={})

    assert asyncio.run(made()).timeout_keep_alive > 60


def test_both_ways_give_the_same_answer(state):
    async def talk(place):
        (plain,) = await place.ask(request())
        calls = list(place.behind.calls)
        (normal,) = await place.ask(request(path="/predict?explain=false"))
        return plain, calls, normal

    plain, calls, normal = served(state, talk)
    assert calls == []
    assert lasting(plain) == lasting(normal)
    assert list(plain[2]) == list(normal[2])
    assert plain[1].items() >= {k.decode(): v.decode() for k, v in HEADERS}.items()


@pytest.mark.parametrize(
    ("origin", "readable"),
    [
        ("http://localhost:5173", True),
        ("https://desk.example", True),
        ("https://desk.example.evil", False),
        ("null", False),
    ],
)
def test_pages_of_allowed_origins_read_the_answers_of_both_ways(state, origin, readable):
    state.origins = Origins(["http://localhost:5173", "https://desk.example"])

    async def talk(place):
        (plain,) = await place.ask(request(origin=origin))
        calls = list(place.behind.calls)
        (normal,) = await place.ask(request(path="/predict?explain=false", origin=origin))
        (large,) = await place.ask(request(origin=origin, x="y" * 70_000)[:69_000])
        state.origins = None
        (off,) = await place.ask(request(origin=origin))
        return plain, calls, normal, large, off

    plain, calls, normal, large, off = served(state, talk)
    if readable:
        assert (calls, plain[0], normal[0]) == ([], 200, 200)
    else:
        assert (plain[0], normal[0]) == (403, 403)
    assert (large[0], off[0]) == (431, 403)
    for _, headers, _ in (plain, normal):
        assert headers.get("access-control-allow-origin") == (origin if readable else None)
        assert headers["vary"] == "origin"
    # The headers of an endless head are read as far as they came.
    assert large[1].get("access-control-allow-origin") == (origin if readable else None)
    assert not {"vary", "access-control-allow-origin"} & set(off[1])


@pytest.mark.parametrize("origin", ["http://localhost:5173", "https://desk.example"])
def test_a_preflight_over_a_socket_has_no_body_and_keeps_the_connection(state, origin):
    state.origins, state.guard = Origins([origin]), Guard("secret")
    asked = request(b"", method="OPTIONS", origin=origin, access_control_request_method="POST")

    async def talk(place):
        async with connection(place.port) as (reader, writer):
            writer.write(asked)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            writer.write(request(origin=origin, x_api_key="secret"))
            answer = await asyncio.wait_for(read(reader), PATIENCE_SECONDS)
        return head, answer, place.behind.calls

    head, answer, calls = served(state, talk)
    assert head.startswith(b"HTTP/1.1 204 ")
    assert b"content-length" not in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert (answer[0], calls) == (200, ["/predict"])
    assert answer[1]["access-control-allow-origin"] == origin


@pytest.mark.parametrize("cuts", [(10,), (70,), (150,), (40, 80, 130), tuple(range(1, 150, 7))])
def test_it_may_come_in_any_pieces(state, cuts):
    whole = request()
    edges = [0, *cuts, len(whole)]
    pieces = [whole[a:b] for a, b in pairwise(edges)]

    async def talk(place):
        return await place.ask(*pieces), place.behind.calls

    ((answer,), calls) = served(state, talk)
    assert (answer[0], len(answer[2]["scores"]), calls) == (200, 2, [])


def test_several_at_once_are_answered_in_their_order(state):
    bodies = [b'{"rows": [%s]}' % b",".join([b"{}"] * n) for n in (1, 2, 3)]
    mixed = [
        request(bodies[0]),
        request(bodies[1], path="/predict?explain=true"),  # the normal way
        request(bodies[2]),
        request(b"{"),
        request(bodies[0]),
    ]

    async def talk(place):
        return await place.ask(b"".join(mixed), count=5), place.behind.calls

    answers, calls = served(state, talk)
    assert [a[0] for a in answers] == [200, 200, 200, 400, 200]
    assert [len(a[2].get("scores", ())) for a in answers] == [1, 2, 3, 0, 1]
    assert set(calls) == {"/predict"}


@pytest.mark.parametrize(
    "given",
    [
        {"body": b"{"},
        {"body": b'{"rows": []}'},
        {"body": b'{"rows": [{"x": 1}]}'},
        {"body": b""},
        {"method": "PUT"},
        {"path": "/predictions"},
        {"path": "/predict/ticks"},
        {"x_forwarded_for": "10.0.0.1"},
    ],
)
def test_what_is_not_plain_goes_the_normal_way_whole(state, given):
    async def talk(place):
        return await place.ask(request(**given)), place.behind.calls

    ((answer,), calls) = served(state, talk)
    assert len(calls) == 1
    assert (answer[0] == 200) == ("x_forwarded_for" in given)
    assert answer[0] < 500


def test_who_waits_for_a_word_gets_it(state):
    head, _, body = request(expect="100-continue").partition(b"\r\n\r\n")

    async def talk(place):
        async with connection(place.port) as (reader, writer):
            writer.write(head + b"\r\n\r\n")
            word = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            writer.write(body)
            return word, await asyncio.wait_for(read(reader), PATIENCE_SECONDS)

    word, answer = served(state, talk)
    assert word.startswith(b"HTTP/1.1 100")
    assert answer[0] == 200


def test_a_body_in_chunks_is_read(state):
    chunked = request(b"", transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"")
    whole = chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

    async def talk(place):
        return await place.ask(whole), place.behind.calls

    ((answer,), calls) = served(state, talk)
    assert (answer[0], calls) == (200, ["/predict"])


def test_a_slow_body_is_given_to_the_normal_way_and_its_timeout(state, monkeypatch):
    monkeypatch.setattr(protocols, "HELD_SECONDS", 0.01)
    whole = request()

    async def talk(place):
        return await place.ask(whole[:90], whole[90:120], whole[120:]), place.behind.calls

    ((answer,), calls) = served(state, talk)
    assert (answer[0], len(answer[2]["scores"]), calls) == (200, 2, ["/predict"])


def test_a_client_that_leaves_in_the_middle_does_no_harm(state):
    async def talk(place):
        for cut in (30, 80, 120):
            async with connection(place.port) as (_, writer):
                writer.write(request()[:cut])
                await writer.drain()
                writer.transport.abort()
        await asyncio.sleep(0.05)
        return await place.ask(request())

    assert served(state, talk)[0][0] == 200


def test_the_connection_ends_where_the_client_asks_for_it(state):
    async def talk(place):
        async with connection(place.port) as (reader, writer):
            writer.write(request(connection="close"))
            answer = await asyncio.wait_for(read(reader), PATIENCE_SECONDS)
            return answer, await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)

    (_, headers, _), rest = served(state, talk)
    assert headers["connection"] == "close"
    assert rest == b""


def test_a_request_that_is_held_while_the_server_ends_is_answered(state):
    whole = request()

    async def talk(place):
        connections = place.server.server_state.connections
        async with connection(place.port) as (reader, writer):
            writer.write(whole[:100])
            await until_async(lambda: holding(connections), "a request is held")
            place.server.should_exit = True
            await until_async(lambda: not holding(connections), "it is given back")
            writer.write(whole[100:])
            return await asyncio.wait_for(read(reader), PATIENCE_SECONDS)

    assert served(state, talk)[0] == 200


def test_answers_refusals_and_hits_are_counted_once(state):
    counted: Counter[str] = Counter()
    state.on_answer = lambda _, route: counted.update([route])
    state.on_reject = lambda reason: counted.update([reason])

    async def talk(place):
        await place.ask(request())
        await place.ask(request(path="/predict?explain=true"))
        await place.ask(request(b"{"))
        state.guard = Guard("key")
        answers = await place.ask(request())
        answers += await place.ask(request(authorization="Bearer key"))
        state.guard = Guard(rate_limit="3/hour")
        for body in (b"{", BODY, b"{", BODY, BODY):
            answers += await place.ask(request(body))
        return [answer[0] for answer in answers]

    statuses = served(state, talk)
    assert statuses == [401, 200, 400, 200, 400, 429, 429]
    assert counted == {
        "/predict": 4, "not_json": 3, "unauthorised": 1, "rate_limit": 2,
    }  # fmt: skip


def test_without_a_model_the_normal_way_says_so(state):
    state.served, state.problem = None, "none yet"

    async def talk(place):
        return await place.ask(request())

    ((status, _, content),) = served(state, talk)
    assert (status, content["error"]) == (503, "none yet")


def test_a_fault_of_ours_is_no_fault_of_the_clients(state, caplog, monkeypatch):
    monkeypatch.setattr(protocols, "encode", lambda _: 1 / 0)

    async def talk(place):
        return await place.ask(request())

    assert served(state, talk)[0][0] == 200
    assert "normal path" in caplog.text
