"""No page of another site can drive the flows through the browser of whoever runs the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.prefects import Prefect, run_prefect

EVIL = "https://evil.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    with run_prefect(tmp_path_factory.mktemp("prefect")) as running:
        yield running


def variable(server: Prefect, name: str, headers: dict[str, str], content_type: str | None) -> int:
    """Try to change something; a page can do so without asking first if it names no JSON type."""
    headers = {**headers, **({"content-type": content_type} if content_type else {})}
    body = f'{{"name": "{name}", "value": "x"}}'.encode()
    return httpx.post(f"{server.url}/variables/", content=body, headers=headers).status_code


def held(server: Prefect) -> set[str]:
    found = server.post("variables/filter")
    assert isinstance(found, list)
    return {entry["name"] for entry in found}


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "http://localhost.evil.example", "http://localhost:1", "nonsense", "http://[::"],
)
def test_a_foreign_page_changes_nothing(
    server: Prefect, origin: str, content_type: str | None
) -> None:
    assert variable(server, "foreign", {"origin": origin}, content_type) == 403
    assert "foreign" not in held(server)


@pytest.mark.parametrize("method", ["PATCH", "POST", "DELETE", "PUT"])
def test_a_foreign_page_is_not_told_that_it_may(server: Prefect, method: str) -> None:
    answer = httpx.options(
        f"{server.url}/deployments/x",
        headers={"origin": EVIL, "access-control-request-method": method},
    )
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4200", "localhost.evil.example"])
def test_a_foreign_name_that_points_here_is_refused(server: Prefect, host: str) -> None:
    same = {"host": host, "origin": f"http://{host}"}
    assert variable(server, "rebound", same, "application/json") == 403
    assert httpx.get(f"{server.url}/health", headers={"host": host}).status_code == 403
    assert "rebound" not in held(server)


def test_programs_and_the_server_s_own_page_are_served(server: Prefect) -> None:
    port = httpx.URL(server.url).port
    assert variable(server, "program", {}, "application/json") == 201
    for name in ("localhost", "127.0.0.1"):  # the same page by either of its names
        page = {"origin": f"http://{name}:{port}"}
        assert variable(server, f"page_{name[0]}", page, "application/json") == 201
    assert {"program", "page_l", "page_1"} <= held(server)


def test_other_names_can_be_allowed(tmp_path: Path) -> None:
    with run_prefect(tmp_path, PREFECT_ALLOWED_HOSTS="flows.example,127.0.0.1") as server:
        headers = {"host": "flows.example", "origin": "http://flows.example"}
        assert variable(server, "named", headers, "application/json") == 201
