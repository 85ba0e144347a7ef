"""What stands before BentoML answers plain predictions itself, and changes nothing for the rest."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from service.front import Front
from service.http import application
from service.predictor import Served
from service.security import HEADERS, Guard
from service.state import State
from tests.bundles import small_bundle
from volatility.registry import RegisteredModel
from volatility.settings import Settings, SettingsError

BODY = b'{"rows": [{"midprice": 68000.5, "spread": 1.2, "volatility_ratio_60s": 2.0}, {}]}'
MEASURED = {"ts", "latency_ms"}


@pytest.fixture
def state() -> State:
    bundle = small_bundle()
    model = RegisteredModel(bundle, "crypto-vol-ml", "7", "champion", "run", {}, {})
    return State(Settings(), served=Served(bundle, model, None))


class Inner:
    """Note what reaches the layers behind, and let the routes answer it."""

    def __init__(self, state: State) -> None:
        self.app = application(state)
        self.calls: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        self.calls.append(scope["path"])
        await self.app(scope, receive, send)


def ask(app, *chunks: bytes, path="/predict", method="POST", query=b"", headers=(), client="::1"):
    """Speak ASGI: one request, its body in chunks; give status, headers and content."""
    scope = {
        "type": "http", "path": path, "raw_path": path.encode(), "method": method,
        "query_string": query, "headers": list(headers), "client": (client, 5),
        "scheme": "http", "server": ("test", 80), "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    waiting = [
        {"type": "http.request", "body": chunk, "more_body": place < len(chunks) - 1}
        for place, chunk in enumerate(chunks)
    ]
    sent = []

    async def receive():
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    content = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(content)


def lasting(content):
    return {name: value for name, value in content.items() if name not in MEASURED}


def test_both_ways_give_the_same_answer(state):
    inner = Inner(state)
    front = Front(inner, state)
    status, headers, content = ask(front, BODY)
    assert inner.calls == []
    behind_status, behind_headers, behind = ask(inner, BODY)
    assert (status, lasting(content)) == (behind_status, lasting(behind))
    assert list(content) == list(behind)
    assert headers[b"content-type"] == behind_headers[b"content-type"]
    assert set(headers) == {*behind_headers, *dict(HEADERS)}


@pytest.mark.parametrize(
    "given",
    [
        {"chunks": (BODY[:20], BODY[20:])},
        {"chunks": (b"", BODY)},
        {"chunks": (BODY,), "query": b"explain=false"},
    ],
)
def test_a_request_that_is_not_plain_goes_the_normal_way_whole(state, given):
    inner = Inner(state)
    chunks = given.pop("chunks")
    status, _, content = ask(Front(inner, state), *chunks, **given)
    assert inner.calls == ["/predict"]
    assert (status, len(content["scores"])) == (200, 2)


@pytest.mark.parametrize("body", [b"", b"{", b'{"rows": []}', b'{"rows": [{"x": 1}]}'])
def test_errors_are_those_of_the_normal_way(state, body):
    inner = Inner(state)
    status, headers, content = ask(Front(inner, state), body)
    assert inner.calls == ["/predict"]
    behind_status, _, behind = ask(inner, body)
    assert (status, content) == (behind_status, behind)
    assert 400 <= status < 500
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_without_a_model_the_normal_way_says_so(state):
    state.served, state.problem = None, "none yet"
    status, _, content = ask(Front(Inner(state), state), BODY)
    assert (status, content["error"]) == (503, "none yet")


def test_answers_and_refusals_are_counted_once(state):
    counted: Counter[str] = Counter()
    state.on_answer = lambda _, route: counted.update([route])
    state.on_reject = lambda reason: counted.update([reason])
    front = Front(Inner(state), state)
    ask(front, BODY)
    ask(front, BODY, query=b"explain=true")
    ask(front, b"{")
    state.guard = Guard("key")
    ask(front, BODY)
    assert counted == {"/predict": 2, "not_json": 1, "unauthorised": 1}


def test_a_wrong_key_reaches_nothing(state):
    state.guard = Guard("key-of-the-house")
    inner = Inner(state)
    front = Front(inner, state)
    for path in ("/predict", "/predict/ticks"):
        status, _, content = ask(front, BODY, path=path)
        assert (status, set(content)) == (401, {"error", "row", "field"})
    assert inner.calls == []
    assert ask(front, BODY, headers=[(b"authorization", b"bearer key-of-the-house")])[0] == 200
    assert ask(front, BODY, headers=[(b"x-api-key", b"key-of-the-house")])[0] == 200
    assert ask(front, BODY, headers=[(b"authorization", b"Basic key-of-the-house")])[0] == 401
    assert ask(front, path="/health", method="GET")[0] == 200


def test_a_client_that_asks_too_often_is_refused_and_others_are_not(state):
    state.guard = Guard(rate_limit="3/hour")
    front = Front(Inner(state), state)
    statuses = [ask(front, BODY, client="10.0.0.1")[0] for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert ask(front, BODY, client="10.0.0.2")[0] == 200
    assert ask(front, path="/health", method="GET", client="10.0.0.1")[0] == 200


def test_a_rate_limit_that_cannot_be_read_is_an_error():
    with pytest.raises(SettingsError, match="100/second"):
        Guard(rate_limit="often")
