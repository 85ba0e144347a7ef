"""Episodes: told once each, late rather than never, and never the reason that a flow fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines import alerts
from pipelines.state import flow_state
from pipelines.watch import ended
from tests.webhooks import Webhook, run_webhook

URL = "http://hook.example/told"


class Posts:
    """Take messages, or refuse them."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.down = False

    def __call__(self, url: str, message: Mapping[str, Any]) -> None:
        assert url == URL
        if self.down:
            raise httpx.ConnectError("down")
        self.taken.append(str(message["episode"]))


@pytest.fixture
def posts() -> Posts:
    return Posts()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with run_webhook() as running:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", running.url)
        yield running


def observe(folder: Path, wrong: bool, now: float, subject: str = "train") -> None:
    alerts.observe(folder, "flow_failed", subject, wrong=wrong, now=now, text="it failed")


def test_an_episode_is_told_once_however_long_it_lasts(tmp_path: Path, posts: Posts) -> None:
    for now in (1.0, 2.0, 3.0):
        observe(tmp_path, True, now)
        alerts.tell(tmp_path, URL, now, posts)
    assert posts.taken == ["flow_failed.train.1000"]


def test_the_next_episode_is_told_again(tmp_path: Path, posts: Posts) -> None:
    for now, wrong in enumerate((True, True, False, False, True, False, True), 1):
        observe(tmp_path, wrong, float(now))
        alerts.tell(tmp_path, URL, float(now), posts)
    assert posts.taken == [f"flow_failed.train.{n}000" for n in (1, 5, 7)]


def test_all_is_well_tells_nothing_and_leaves_nothing(tmp_path: Path, posts: Posts) -> None:
    observe(tmp_path, False, 1.0)
    assert alerts.tell(tmp_path, URL, 1.0, posts) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_webhook_did_not_take_is_told_later_and_in_order(
    tmp_path: Path, posts: Posts
) -> None:
    posts.down = True
    for now, subject, wrong in ((1.0, "train", True), (2.0, "train", False), (3.0, "drift", True)):
        observe(tmp_path, wrong, now, subject)
        assert alerts.tell(tmp_path, URL, now, posts) == 0
    posts.down = False
    assert alerts.tell(tmp_path, URL, 4.0, posts) == 2
    assert posts.taken == ["flow_failed.train.1000", "flow_failed.drift.3000"]
    assert alerts.tell(tmp_path, URL, 5.0, posts) == 0
    (left,) = json.loads((tmp_path / alerts.EPISODES).read_text())
    assert left["subject"] == "drift"


def test_without_an_address_nobody_is_told_and_what_is_over_is_forgotten(
    tmp_path: Path, posts: Posts
) -> None:
    observe(tmp_path, True, 1.0)
    observe(tmp_path, True, 1.0, "drift")
    observe(tmp_path, False, 2.0)
    assert alerts.tell(tmp_path, "", 3.0, posts) == 0
    assert alerts.tell(tmp_path, URL, 4.0, posts) == 1
    assert posts.taken == ["flow_failed.drift.1000"]


def test_damaged_episodes_are_set_aside(tmp_path: Path, posts: Posts) -> None:
    (tmp_path / alerts.EPISODES).write_text("{")
    observe(tmp_path, True, 1.0)
    assert alerts.tell(tmp_path, URL, 1.0, posts) == 1
    assert (tmp_path / "episodes.damaged").read_text() == "{"


def test_the_end_of_a_run_is_noted_and_told(tmp_path: Path, hook: Webhook) -> None:
    def run_ends(succeeded: bool, now: float) -> None:
        ended(
            tmp_path,
            "train",
            succeeded=succeeded,
            message="boom\nin two lines",
            run="red-fox",
            duration_seconds=1.0,
            now=now,
        )

    run_ends(False, 1_775_304_000.0)
    run_ends(False, 1_775_304_001.0)
    (message,) = hook.messages
    assert message["kind"] == "flow_failed"
    assert message["subject"] == "train"
    assert message["since"] == "2026-04-04T12:00:00+00:00"
    assert message["text"] == "flow train failed: boom in two lines"
    assert message["details"] == {"run": "red-fox"}
    run_ends(True, 1_775_304_002.0)
    state = flow_state(tmp_path, "train")
    assert state is not None
    assert (state.state, state.last_failure) == ("completed", 1_775_304_001.0)


def test_a_webhook_that_answers_with_an_error_has_not_been_told(
    tmp_path: Path, hook: Webhook
) -> None:
    hook.status = 500
    observe(tmp_path, True, 1.0)
    assert alerts.tell(tmp_path, hook.url, 1.0) == 0
    hook.status = 200
    assert alerts.tell(tmp_path, hook.url, 2.0) == 1
    assert len(hook.messages) == 1


@pytest.mark.parametrize("status", [400, 404, 410])
def test_what_the_webhook_refuses_is_given_up_and_blocks_nothing(
    tmp_path: Path, hook: Webhook, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level("DEBUG")
    url = f"{hook.url}?token=SECRET"
    observe(tmp_path, True, 1.0)
    hook.status = status
    assert alerts.tell(tmp_path, url, 1.0) == 0
    hook.status = 200
    observe(tmp_path, True, 2.0, "drift")
    assert alerts.tell(tmp_path, url, 2.0) == 1
    assert [message["subject"] for message in hook.messages] == ["drift"]
    assert str(status) in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize("status", [429, 503])
def test_a_webhook_that_asks_for_patience_is_asked_again(
    tmp_path: Path, hook: Webhook, status: int
) -> None:
    hook.status = status
    observe(tmp_path, True, 1.0)
    assert alerts.tell(tmp_path, hook.url, 1.0) == 0
    hook.status = 200
    assert alerts.tell(tmp_path, hook.url, 2.0) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense", "http://[::bad/"])
def test_an_address_that_is_none_fails_no_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ALERT_WEBHOOK_URL", url)
    ended(
        tmp_path,
        "train",
        succeeded=False,
        message="boom",
        run="r",
        duration_seconds=None,
        now=1.0,
    )
    (waiting,) = json.loads((tmp_path / alerts.EPISODES).read_text())
    assert "told" not in waiting


def test_a_disk_that_refuses_fails_no_flow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "monitor").write_text("a file where the folder should be")
    ended(
        tmp_path / "monitor",
        "train",
        succeeded=True,
        message="",
        run="r",
        duration_seconds=1.0,
        now=1.0,
    )
    assert "cannot record the end" in caplog.text
