"""Pages of the allowed origins read every answer, others none; a preflight needs no key."""

from __future__ import annotations

import json

import msgspec
import pytest
from starlette.testclient import TestClient

from service.front import Front
from service.http import application
from service.origins import Origins
from service.predictor import Served
from service.security import HEADERS, Guard
from service.state import State
from tests.bundles import small_bundle
from volatility.registry import RegisteredModel
from volatility.settings import Serving, Settings

ALLOWED = ("http://localhost:5173", "https://desk.example")
FOREIGN = ("http://localhost:5174", "https://desk.example.evil", "http://desk.example", "null", "")
BODY = {"rows": [{"spread": 1.2}]}
ALLOW = "access-control-allow-origin"


@pytest.fixture
def state() -> State:
    model = RegisteredModel(small_bundle(), "crypto-vol-ml", "7", "champion", "run", {}, {})
    return State(
        Settings(serving=Serving(max_rows=3)),
        served=Served(small_bundle(), model, None),
        origins=Origins(ALLOWED),
    )


@pytest.fixture
def client(state: State) -> TestClient:
    return TestClient(Front(application(state), state), raise_server_exceptions=False)


def preflight(client: TestClient, origin: str, path: str = "/predict"):
    asked = {"access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "authorization,content-type"
    return client.options(path, headers={"origin": origin, **asked})


def of_cors(response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-")}


def answers(client: TestClient, state: State, origin: str):
    """Ask for one answer of each kind."""
    named = {"origin": origin}
    yield client.post("/predict", json=BODY, headers=named)
    yield client.post("/predict?explain=true", json=BODY, headers=named)
    yield client.post("/predict", json={"rows": []}, headers=named)
    yield client.post("/predict", content=b"{", headers=named)
    yield client.post("/predict", json={"rows": [{}] * 4}, headers=named)
    yield client.get("/predict", headers=named)
    for path in ("/health", "/version", "/docs", "/docs.json", "/nowhere"):
        yield client.get(path, headers=named)
    state.guard = Guard("secret")
    yield client.post("/predict", json=BODY, headers=named)
    state.guard = Guard(rate_limit="1/hour")
    yield client.post("/predict", json=BODY, headers=named)
    yield client.post("/predict/ticks", json=BODY, headers=named)
    state.guard, state.served = Guard(), None
    yield client.post("/predict", json=BODY, headers=named)
    yield client.get("/health", headers=named)


@pytest.mark.slow
@pytest.mark.parametrize("origin", ALLOWED)
def test_a_page_of_an_allowed_origin_may_read_every_answer(client, state, origin):
    statuses = set()
    for response in answers(client, state, origin):
        assert of_cors(response) == {ALLOW: origin}  # and nothing else is exposed
        assert response.headers["vary"] == "origin"
        assert response.headers["cache-control"] == "no-store"
        statuses.add(response.status_code)
    assert statuses >= {200, 400, 401, 404, 405, 413, 422, 429, 503}


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_origin_may_read_none(client, state, origin):
    for response in answers(client, state, origin):
        assert of_cors(response) == {}
        assert response.headers["vary"] == "origin"
    assert of_cors(preflight(client, origin)) == {}


@pytest.mark.parametrize("origin", ["https://anywhere.example", "null"])
def test_every_origin_may_be_allowed_without_naming_it(client, state, origin):
    state.origins = Origins(["*"])
    for response in answers(client, state, origin):
        assert of_cors(response) == {ALLOW: "*"}
    assert preflight(client, origin).headers[ALLOW] == "*"


@pytest.mark.parametrize("path", ["/predict", "/predict/ticks", "/health", "/version"])
@pytest.mark.parametrize("origin", ALLOWED)
def test_a_preflight_is_answered_before_key_and_rate_limit_and_the_request_is_not(
    client, state, path, origin
):
    state.guard = Guard("secret", "1/hour")
    for _ in range(3):
        response = preflight(client, origin, path)
        assert (response.status_code, response.content) == (204, b"")
        permitted = of_cors(response)
        assert permitted[ALLOW] == origin
        assert permitted["access-control-allow-methods"] == "GET, POST"
        assert set(permitted["access-control-allow-headers"].split(", ")) == {
            "authorization", "content-type", "last-event-id", "x-api-key",
        }  # fmt: skip
        assert "access-control-allow-credentials" not in permitted
        assert response.headers.items() >= {k.decode(): v.decode() for k, v in HEADERS}.items()
    named = {"origin": origin}
    assert client.post("/predict", json=BODY, headers=named).status_code == 401
    named["authorization"] = "Bearer secret"
    assert client.post("/predict", json=BODY, headers=named).status_code == 200


@pytest.mark.parametrize("origin", ALLOWED)
def test_options_that_are_no_preflight_are_no_way_past_the_key(client, state, origin):
    state.guard = Guard("secret")
    asked = {"access-control-request-method": "POST"}
    for headers in ({}, {"origin": origin}, asked):
        assert client.options("/predict", headers=headers).status_code == 401


@pytest.mark.parametrize("origin", [*ALLOWED, None])
def test_without_the_setting_nothing_is_added(client, state, origin):
    state.origins = None
    named = {} if origin is None else {"origin": origin}
    for response in (client.post("/predict", json=BODY, headers=named), client.get("/health")):
        assert of_cors(response) == {}
        assert "vary" not in response.headers
    assert preflight(client, ALLOWED[0]).status_code == 403


@pytest.mark.parametrize("path", ["/predict", "/predict/ticks", "/predict?explain=true"])
@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("allowed", [None, Origins(ALLOWED)])
def test_a_page_of_another_origin_cannot_use_the_scoring_routes(
    client, state, allowed, origin, path
):
    state.origins, state.guard = allowed, Guard(rate_limit="1/hour")
    rejected: list[str] = []
    state.on_reject = rejected.append
    state.on_answer = lambda *_: pytest.fail("it was answered")
    named = {"origin": origin, "content-type": "text/plain", "sec-fetch-site": "same-site"}
    for _ in range(2):  # nor use up what is left to others
        response = client.post(path, content=json.dumps(BODY), headers=named)
        assert response.status_code == 403
        assert "serving.allowed_origins" in response.json()["error"]
    assert rejected == ["origin"] * 2


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://testserver"},
        {"origin": "https://testserver"},  # a proxy speaks TLS for the service
        {"origin": "https://desk.example", "sec-fetch-site": "same-origin"},  # and hides the name
    ],
)
@pytest.mark.parametrize("allowed", [None, Origins(["https://other.example"])])
def test_programs_and_own_pages_may_use_them(client, state, allowed, headers):
    state.origins = allowed
    assert client.post("/predict", json=BODY, headers=headers).status_code == 200


def test_headers_of_an_inner_layer_are_replaced_where_the_setting_is_on(state):
    async def app(scope, receive, send) -> None:
        headers = [(b"Access-Control-Allow-Origin", b"*"), (b"vary", b"accept"), (b"x", b"y")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    client = TestClient(Front(app, state))
    response = client.get("/", headers={"origin": ALLOWED[0]})
    assert of_cors(response) == {ALLOW: ALLOWED[0]}
    assert response.headers["vary"] == "accept, origin"
    assert response.headers["x"] == "y"
    state.origins = None
    assert client.get("/").headers[ALLOW] == "*"


@pytest.mark.parametrize(
    "origin",
    [
        "localhost:5173", "http://localhost:5173/", "http://Desk.example", "https://desk.example:443",
        "http://desk.example:80", "null", "", "https://*.example", "http://desk.example:99999",
        "http://user@desk.example", "https://desk.example?x",
    ],
)  # fmt: skip
def test_what_no_browser_sends_as_an_origin_is_refused_at_the_start(origin):
    with pytest.raises(msgspec.ValidationError, match="allowed_origins"):
        msgspec.convert({"serving": {"allowed_origins": [origin]}}, Settings)


@pytest.mark.parametrize(
    "origin",
    [*ALLOWED, "*", "http://127.0.0.1:8080", "http://[::1]:3000", "chrome-extension://abcdef"],
)
def test_what_a_browser_sends_is_taken(origin):
    found = msgspec.convert({"serving": {"allowed_origins": [origin]}}, Settings)
    assert found.serving.allowed_origins == (origin,)
