"""Check what the load test sends, what it counts as passed, and its page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks import load, load_page
from benchmarks.load import Found, LoadError, summary
from benchmarks.serving_load import Burst, Load
from service.wire import decode_rows

GOOD = Burst([float(k) for k in range(1, 101)], 0)


def met(rate: int, p99_ms: float, failed: int = 0) -> tuple[int, Load]:
    return rate, Load(float(rate), 0.5, p99_ms, 3 * rate, failed)


def test_what_is_sent_is_a_valid_row_and_no_two_are_alike() -> None:
    sent = load.bodies()
    assert len(sent) == len(set(sent)) == 100
    assert all(decode_rows(body, 1).shape[0] == 1 for body in sent)


@pytest.mark.parametrize(
    ("ramp", "keeps_up", "within_slo"),
    [
        ([met(100, 2.0), met(200, 14.0), met(500, 40.0), met(1000, 400.0)], 500, 200),
        ([met(100, 2.0), met(200, 3.0)], 200, 200),
        ([met(100, 20.0), met(200, 3.0)], 200, None),
        ([met(100, 60.0)], None, None),
        ([met(100, 2.0, failed=1)], None, None),
    ],
)
def test_rates_count_up_to_the_first_that_is_not_met(
    ramp: list[tuple[int, Load]], keeps_up: int | None, within_slo: int | None
) -> None:
    found = Found("ml version 1", [GOOD], ramp)
    assert (found.keeps_up, found.within_slo) == (keeps_up, within_slo)
    assert found.passed == (keeps_up is not None)


def test_one_failure_in_a_burst_is_told_and_fails() -> None:
    found = Found("ml version 1", [GOOD, Burst(GOOD.times_ms, 1)], [met(100, 2.0)])
    assert not found.passed
    assert "1 of 200 NOT answered" in summary(found)


def test_the_line_says_what_was_withstood() -> None:
    assert summary(Found("ml version 1", [GOOD], [met(100, 20.0), met(2000, 30.0)])) == (
        "burst of 100: all answered, p95 95 ms; keeps up to 2,000/s, the highest tried "
        "(p99 <= 50 ms), at no rate within 15 ms"
    )


def test_the_page_shows_every_rate_and_loads_nothing(tmp_path: Path) -> None:
    found = Found("ml version 7", [GOOD], [met(100, 2.0), met(200, 400.0)])
    page = load_page.write_page(found, summary(found), load.SLO_MS, tmp_path).read_text()
    assert "ml version 7" in page
    assert page.count("</td></tr>") == 2
    assert "NO</td>" in page
    for outside in ("http://", "https://", "<script", '<link rel="stylesheet'):
        assert outside not in page
    stored = json.loads((tmp_path / "load.json").read_text())
    assert (stored["keeps_up"], stored["passed"]) == (100, True)
    assert "load.html" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.com:3000", "not on this machine"),
        ("https://localhost:3000", "not on this machine"),
        ("localhost:3000", "not on this machine"),
        ("http://localhost:9", "nothing answers"),
    ],
)
def test_an_address_that_cannot_be_loaded_is_told(url: str, says: str) -> None:
    with pytest.raises(LoadError, match=says):
        load.running(url)


class _Door(BaseHTTPRequestHandler):
    """Be ready, and refuse every prediction as a service that asks for a key."""

    ready = 200

    def do_GET(self) -> None:
        self._answer(type(self).ready)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(401)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def door() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Door) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://localhost:{listener.server_address[1]}"
        listener.shutdown()
        thread.join()


def test_a_service_that_refuses_is_not_loaded(door: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="a single request is refused: ours answers 401"):
        load.measure(load.running(door), tmp_path, 1)


def test_a_service_that_is_not_ready_is_not_loaded(door: str, monkeypatch) -> None:
    monkeypatch.setattr(_Door, "ready", 503)
    with pytest.raises(LoadError, match="not ready: /readyz answers 503"):
        load.running(door)
