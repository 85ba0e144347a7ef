"""What stands before BentoML guards the routes that score, and adds headers to every answer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from service.front import ADMITTED, Front
from service.http import application
from service.predictor import Served
from service.security import HEADERS, Guard
from service.state import State
from tests.bundles import small_bundle
from volatility.registry import RegisteredModel
from volatility.settings import Settings, SettingsError

BODY = b'{"rows": [{"midprice": 68000.5, "spread": 1.2, "volatility_ratio_60s": 2.0}, {}]}'


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


def ask(
    app,
    *chunks: bytes,
    path="/predict",
    method="POST",
    query=b"",
    headers=(),
    client="::1",
    passed=None,
):
    """Speak ASGI: one request, its body in chunks; give status, headers and content."""
    scope = {
        "type": "http", "path": path, "raw_path": path.encode(), "method": method,
        "query_string": query, "headers": list(headers), "client": (client, 5),
        "scheme": "http", "server": ("test", 80), "http_version": "1.1", "root_path": "",
        "state": passed or {},
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


def test_what_is_behind_is_reached_whole_and_its_answers_get_the_headers(state):
    inner = Inner(state)
    status, headers, content = ask(Front(inner, state), BODY[:20], BODY[20:])
    assert (status, len(content["scores"])) == (200, 2)
    assert headers.items() >= dict(HEADERS).items()
    assert ask(Front(inner, state), b"{")[0] == 400
    assert inner.calls == ["/predict"] * 2


def test_a_refusal_is_counted_and_who_was_admitted_is_not_asked_again(state):
    counted: Counter[str] = Counter()
    state.on_reject = lambda reason: counted.update([reason])
    state.guard = Guard("key")
    front = Front(Inner(state), state)
    assert ask(front, BODY)[0] == 401
    assert ask(front, BODY, passed={ADMITTED: False})[0] == 401
    assert ask(front, BODY, passed={ADMITTED: True})[0] == 200
    assert counted == {"unauthorised": 2}


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


def test_strangers_do_not_use_up_what_is_left_to_those_with_the_key():
    guard = Guard("secret", "2/hour")
    stranger = {"client": ("10.0.0.1", 1), "headers": []}
    friend = {"client": ("10.0.0.1", 2), "headers": [(b"x-api-key", b"secret")]}

    def status(scope: dict) -> int | None:
        refusal = guard.refusal(scope)
        return refusal.status if refusal else None

    assert [status(stranger) for _ in range(4)] == [401, 401, 429, 429]
    assert [status(friend) for _ in range(3)] == [None, None, 429]


def test_a_rate_limit_that_cannot_be_read_is_an_error():
    with pytest.raises(SettingsError, match="100/second"):
        Guard(rate_limit="often")
