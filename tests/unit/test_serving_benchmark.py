"""Check what the serving benchmark reads from its tools, and which targets it counts as met."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import serving_load
from benchmarks.results import missed
from benchmarks.serving_load import Burst, Load, middle, missing, read_vegeta, read_wrk
from benchmarks.serving_models import as_sent, expected
from benchmarks.serving_names import (
    BARE,
    BENTO,
    CONTRACT,
    HELLO,
    INPUTS,
    OURS,
    USUAL,
    USUAL_ASYNC,
)
from benchmarks.serving_page import latency_figure, write_page
from benchmarks.serving_rows import Found, highest_rate, kept_up, overrun, rows
from benchmarks.serving_servers import Memory, Server, descendants
from tests.bundles import random_rows, small_bundle
from volatility.cli.doctor import Check
from volatility.features.table import FEATURE_NAMES

SERVERS = (OURS, USUAL, HELLO, BENTO, BARE)
GOOD = Load(per_second=1000.0, p50_ms=0.5, p99_ms=2.0, requests=3000, failed=0)


def load(**changed: float) -> Load:
    return Load(**{**msgspec.to_builtins(GOOD), **changed})


def bursts(ours: float) -> dict[str, list[Burst]]:
    """Return bursts that just meet the targets when ``ours`` is 1 ms."""
    times = {USUAL: 4.0, HELLO: 0.5, OURS: ours}
    return {name: [Burst([times.get(name, 1.0)] * 100, 0)] for name in SERVERS}


def found(ours: Load = GOOD, steady: Load = GOOD, **changed: object) -> Found:
    """Return a run in which every target is only just met."""
    by_server = {
        OURS: ours,
        USUAL: load(per_second=1000.0 / 12.0),
        USUAL_ASYNC: load(per_second=200.0),
        HELLO: load(per_second=1250.0, p99_ms=1.0),
        BENTO: load(per_second=100.0),
        BARE: load(per_second=5000.0),
    }
    ramp = [(100, load(per_second=100.0)), (200, load(per_second=200.0))]
    given: dict[str, object] = {
        "closed": {1: by_server, 8: by_server},
        "rounds": 6,
        "round_seconds": 2,
        "inputs": {1: GOOD, 8: GOOD},
        "steady": steady,
        "steady_rate": 500,
        "steady_seconds": 60,
        "ramp": dict.fromkeys(SERVERS, ramp),
        "bursts": bursts(ours=1.0),
        "batches": {CONTRACT: {OURS: [20.0], USUAL: [10.0]}, INPUTS: {OURS: [10.0]}},
        "batch_rows": 1000,
        "reasons": {1: (3.0, 0.5), 1000: (59.0, 10.0)},
        "ready_seconds": [8.0],
        "memory": Memory(supervisor=180.0, worker=300.0, watcher=350.0),
        **changed,
    }
    return Found(**given)  # type: ignore[arg-type]


def test_what_wrk_prints_is_read_past_its_own_report() -> None:
    line = '{"requests": 300, "failed": 2, "microseconds": 2000000, "p50": 130.0, "p99": 1500.0}'
    assert read_wrk(f"Running 2s test\n  1 threads\n{line}\n") == Load(150.0, 0.13, 1.5, 300, 2)


@pytest.mark.parametrize("output", ["unable to connect", '{"requests": 0, "failed": 9}'])
def test_a_load_without_an_answer_is_no_measure(output: str) -> None:
    with pytest.raises(RuntimeError, match=r"unable to connect|no request"):
        read_wrk(output)


@pytest.mark.parametrize(
    ("codes", "failed"), [({"200": 10}, 0), ({"200": 7, "503": 2, "0": 1}, 3), ({"0": 10}, 10)]
)
def test_only_an_answer_of_200_has_not_failed(codes: dict[str, int], failed: int) -> None:
    latencies = {"50th": 500_000, "99th": 2_000_000}
    report = {"throughput": 9.5, "latencies": latencies, "requests": 10, "status_codes": codes}
    assert read_vegeta(json.dumps(report)) == Load(9.5, 0.5, 2.0, 10, failed)


def test_rounds_give_medians_and_no_failure_is_lost_in_them() -> None:
    rounds = [load(per_second=speed) for speed in (1.0, 100.0, 3.0)] + [load(failed=1)] * 2
    assert middle(rounds) == load(per_second=100.0, requests=15_000, failed=2)


def test_each_missing_tool_has_a_line_and_no_other() -> None:
    checks = [Check("wrk", True, "", "a"), Check("vegeta", False, "", "b")]
    assert missing(checks) == "vegeta is missing; how to get it: b"
    assert not missing(checks[:1])


def test_tools_are_looked_for_where_go_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(serving_load, "GO_FOLDER", tmp_path / "go")
    assert [check.ok for check in serving_load.tools()] == [False, False]
    (tmp_path / "go").mkdir()
    (tmp_path / "go" / "vegeta").write_text("#!/bin/sh\n")
    (tmp_path / "go" / "vegeta").chmod(0o755)
    assert [check.ok for check in serving_load.tools()] == [False, True]


def test_processes_are_followed_through_all_generations() -> None:
    assert sorted(descendants(10, {11: 10, 12: 11, 13: 12, 20: 1, 10: 1})) == [11, 12, 13]


@pytest.mark.parametrize(
    ("seen", "kept", "lost"),
    [
        (load(), True, False),
        (load(p99_ms=50.0), True, False),
        (load(p99_ms=50.1), False, False),
        (load(p99_ms=1000.1), False, True),
        (load(failed=1), False, True),
        (load(per_second=950.0), True, False),
        (load(per_second=949.0), False, True),
    ],
)
def test_keeping_up_is_in_time_whole_and_bounded(seen: Load, kept: bool, lost: bool) -> None:
    assert (kept_up(1000, seen), overrun(1000, seen)) == (kept, lost)


def test_the_highest_rate_is_before_the_first_that_is_not_kept() -> None:
    fast, slow = load(per_second=9e9), load(per_second=9e9, p99_ms=60.0)
    assert highest_rate([(100, fast), (200, fast), (500, slow), (1000, fast)]) == 200
    assert highest_rate([(100, slow)]) is None


def test_promises_that_are_just_kept_are_kept() -> None:
    made = rows(found())
    assert not missed(made)
    assert sum(row.met is True for row in made) == 4 * 2 + 1 + 3 + 1 + 2 + 1


@pytest.mark.parametrize(
    ("changed", "measures"),
    [
        ({"ours": load(per_second=999.0)}, ["median of 6 rounds"] * 4),
        ({"ours": load(p99_ms=2.01)}, ["p99"] * 2),
        ({"ours": load(failed=1)}, ["answered 200"] * 2),
        ({"steady": load(failed=1)}, ["answered 200"]),
        ({"memory": Memory(1.0, 300.1, 1.0)}, ["worker"]),
        ({"bursts": bursts(ours=1.01)}, ["p95"] * 2),
        (
            {"bursts": {n: [Burst(b.times_ms, 1)] for n, (b,) in bursts(1.0).items()}},
            ["answered 200"],
        ),
        ({"batches": {CONTRACT: {OURS: [20.1], USUAL: [10.0]}}}, ["4 features"]),
        ({"reasons": {1: (3.1, 0.5)}}, ["reasons"]),
    ],
)
def test_what_falls_short_is_missed(changed: dict[str, object], measures: list[str]) -> None:
    short = missed(rows(found(**changed)))  # type: ignore[arg-type]
    assert len(short) == len(measures)
    for row, measure in zip(short, measures, strict=True):
        assert measure in row.measure


def test_a_client_sends_no_feature_that_is_missing_and_scores_are_the_model_s() -> None:
    sent = as_sent(random_rows(20), FEATURE_NAMES)
    assert all(math.isfinite(value) for row in sent for value in row.values())
    assert {name for row in sent for name in row} == set(FEATURE_NAMES)
    assert min(map(len, sent)) < len(FEATURE_NAMES)
    whole = random_rows(5, missing=0.0)
    scores = expected(small_bundle(), as_sent(whole, FEATURE_NAMES))
    assert scores == small_bundle().score(whole, np.zeros(5, np.int64)).tolist()


class _Door(BaseHTTPRequestHandler):
    """Answer 200 to every body that says so, else 503."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.protocol_version = "HTTP/1.1"
        self.send_response(200 if body == b"good" else 503)
        self.end_headers()
        self.wfile.write(b"x" * 100_000)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def door() -> Iterator[Server]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Door) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield Server("door", listener.server_address[1], 0, 1.0)
        listener.shutdown()
        thread.join()


def test_a_burst_waits_for_every_whole_answer(door: Server) -> None:
    taken = serving_load.burst(door, [b"good", b"bad"] * 10)
    assert (len(taken.times_ms), taken.failed) == (20, 10)
    assert taken.times_ms == sorted(taken.times_ms)


def test_a_burst_on_a_closed_port_fails() -> None:
    taken = serving_load.burst(Server("gone", 9, 0, 1.0), [b""] * 3)
    assert taken.failed == 3


def test_the_page_shows_what_was_missed_and_loads_nothing(tmp_path: Path) -> None:
    run = found(memory=Memory(1.0, 321.0, 1.0))
    page = write_page([rows(run)[-1], *rows(run)], run, tmp_path).read_text()
    assert "resident memory, worker" in page.partition("Latency against")[0]
    assert "321" in page
    for outside in ("http://", "https://", "<script", '<link rel="stylesheet'):
        assert outside not in page
    stored = json.loads((tmp_path / "serving.json").read_text())
    assert stored["memory"]["worker"] == 321.0


def test_the_plot_has_a_line_for_every_server_in_both_panels() -> None:
    figure = latency_figure(found().ramp)
    for axes in figure.axes:
        drawn = {line.get_label() for line in axes.lines if str(line.get_label())[0] != "_"}
        assert drawn == set(SERVERS)
        assert np.isfinite(axes.get_ylim()).all()
