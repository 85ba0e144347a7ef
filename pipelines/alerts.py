"""Tell ``ALERT_WEBHOOK_URL`` of a failed flow or a drift alert, once an episode.

An episode begins with the first failure or alert, and ends with the next success or all-clear.
Episodes are kept in ``data/monitor/episodes.json`` until they have ended and have been told: a
webhook that is down delays the news and loses none, and no flow fails because of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from volatility.pages import write_whole
from volatility.parts import locked, make_folder

logger = logging.getLogger(__name__)

EPISODES = "episodes.json"
TIMEOUT_SECONDS = 5.0

Kind = Literal["flow_failed", "drift"]
Post = Callable[[str, Mapping[str, Any]], None]


class Episode(msgspec.Struct, omit_defaults=True):
    """Describe something that is wrong since a time [s since the epoch]: of a flow, or drift."""

    kind: Kind
    subject: str
    since: float
    text: str
    details: dict[str, Any] = {}
    told: float | None = None
    ended: float | None = None

    @property
    def identity(self) -> str:
        """Name the episode: should it be told twice, after a crash, the two can be told apart."""
        return f"{self.kind}.{self.subject}.{int(self.since * 1000)}"


_decoder = msgspec.json.Decoder(list[Episode])


def observe(
    folder: Path,
    kind: Kind,
    subject: str,
    *,
    wrong: bool,
    now: float,
    text: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Begin or end an episode; the same observation again changes nothing.

    Parameters
    ----------
    folder : Path
        ``data/monitor``.
    kind, subject : str
        What is observed: one episode of both at a time.
    wrong : bool
    now : float
        Seconds since the epoch.
    text : str
        One line for a person.
    details : mapping, optional
        What JSON can hold.
    """
    make_folder(folder)
    with locked(folder):
        episodes = _read(folder)
        going_on = [
            e for e in episodes if (e.kind, e.subject) == (kind, subject) and e.ended is None
        ]
        if wrong and not going_on:
            episodes.append(Episode(kind, subject, now, text, dict(details or {})))
        elif not wrong and going_on:
            for episode in going_on:
                episode.ended = now
        else:
            return
        _write(folder, episodes)


def tell(folder: Path, url: str, now: float, post: Post | None = None) -> int:
    """Post what has not been told yet, oldest first; give the number of episodes told.

    Without an address nobody is told, and what is over is forgotten. At the first failure the
    rest waits for the next call.
    """
    post = post or _post
    told = 0
    if not (folder / EPISODES).exists():
        return told
    with locked(folder):
        episodes = _read(folder)
        for episode in episodes:
            if not url or episode.told is not None:
                continue
            try:
                post(url, _message(episode))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                logger.warning("the webhook did not take %s: %s", episode.identity, error)
                break
            episode.told = now
            told += 1
            _write(folder, episodes)  # at once: a crash must not tell it again
        kept = [e for e in episodes if e.ended is None or (url and e.told is None)]
        if len(kept) < len(episodes):
            _write(folder, kept)
    return told


def _message(episode: Episode) -> dict[str, Any]:
    return {
        "episode": episode.identity,
        "kind": episode.kind,
        "subject": episode.subject,
        "since": datetime.fromtimestamp(episode.since, UTC).isoformat(timespec="seconds"),
        "text": episode.text,  # the field that chat programs show
        "details": episode.details,
    }


def _post(url: str, message: Mapping[str, Any]) -> None:
    httpx.post(url, json=message, timeout=TIMEOUT_SECONDS).raise_for_status()


def _read(folder: Path) -> list[Episode]:
    path = folder / EPISODES
    if not path.exists():
        return []
    try:
        return _decoder.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        logger.error("%s is damaged (%s); it is kept as %s", path, error, aside.name)
        return []


def _write(folder: Path, episodes: list[Episode]) -> None:
    write_whole(folder / EPISODES, msgspec.json.encode(episodes))
