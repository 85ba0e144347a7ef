"""Compare docs/api.md with the service: every route, field of an answer and refusal."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from starlette.testclient import TestClient

from service import openapi_examples
from service.bodies import Warnings
from service.front import Front
from service.http import HELD, application
from service.openapi import document
from service.openapi_schemas import BODIES, example
from service.predictor import Served
from service.protocol import CROWD_REFUSAL, HEAD_REFUSAL, MALFORMED_REFUSAL
from service.security import Guard
from service.state import State
from service.ticks_process import ENDED
from service.wire import Answer, RequestError
from tests.bundles import small_bundle
from tests.documents import ROOT
from volatility.registry import RegisteredModel
from volatility.settings import Settings

TEXT = (ROOT / "docs" / "api.md").read_text()
BUSY = (RequestError(*HELD), RequestError(*ENDED))
EARLY = (HEAD_REFUSAL, MALFORMED_REFUSAL, CROWD_REFUSAL, *BUSY)
ROW = {"spread": 1.2, "midprice": 68000.5}
MAX_ROWS = Settings().serving.max_rows


@pytest.fixture
def state() -> State:
    model = RegisteredModel(small_bundle(), "crypto-vol-ml", "7", "champion", "run", {}, {})
    return State(Settings(), served=Served(small_bundle(), model, None))


@pytest.fixture
def client(state: State) -> TestClient:
    return TestClient(Front(application(state), state), raise_server_exceptions=False)


def refusals() -> list[tuple[int, str]]:
    rows = re.findall(r"^\| (\d{3}) \| .*? \| (`+)(.*?)\2 \|$", TEXT, re.MULTILINE)
    return [(int(status), text.strip()) for status, _, text in rows]


def test_every_route_is_described() -> None:
    paths = document(MAX_ROWS)["paths"]
    wanted = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    headings = " ".join(re.findall(r"^## (.+)$", TEXT, re.MULTILINE))
    assert {route for route in wanted if not re.search(rf"{route}(?![\w./])", headings)} == set()


def test_every_status_of_the_scoring_routes_is_described() -> None:
    answers = document(MAX_ROWS)["paths"]["/predict"]["post"]["responses"]
    assert {str(status) for status, _ in refusals()} == answers.keys() - {"200"}


def test_every_field_of_an_answer_is_described() -> None:
    table = TEXT.partition("| field | meaning |")[2].partition("\n\n")[0]
    described = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))
    assert sorted(described) == sorted(openapi_examples.EXPLAINED)


@pytest.mark.parametrize("kind", [Answer, *BODIES])
def test_every_example_is_valid(kind: type) -> None:
    shown = {} if kind is Warnings else example(kind)  # a healthy service has no warnings
    msgspec.convert(shown, kind)


def test_every_request_is_refused_as_described(client: TestClient, state: State) -> None:
    given = set()

    def ask(
        content: object, *, raw: bytes | None = None, method: str = "POST", **headers: str
    ) -> None:
        body = json.dumps(content).encode() if raw is None else raw
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = client.request(method, "/predict", content=body, headers=named)
        assert set(response.json()) == {"error", "row", "field"}
        given.add((response.status_code, response.json()["error"]))

    ask(None, raw=b'{"rows": [')
    ask({"rows": [ROW] * (MAX_ROWS + 1)})
    ask(None, raw=b'{"rows": [{"spread": NaN}]}')
    ask({"rows": [{"nope": 1}]})
    ask({"rows": []})
    ask({"rows": [ROW]}, content_encoding="gzip")
    ask(None, raw=b"", method="GET")
    ask({"rows": [ROW]}, origin="https://other.example")
    state.guard = Guard("key")
    ask({"rows": [ROW]})
    state.guard = Guard(rate_limit="100/second")
    state.guard._limiter.hit = lambda *_: False  # type: ignore[method-assign]
    ask({"rows": [ROW]})
    state.guard, state.served = Guard(), None
    state.problem = str(openapi_examples.NO_MODEL["error"])
    ask({"rows": [ROW]})
    late = (504, openapi_examples.TIMEOUT["error"])  # BentoML's, as the service's document shows it
    early = {(error.status, str(error)) for error in EARLY}
    assert given | {late} | early == set(refusals())
