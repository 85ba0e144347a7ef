"""Notify ``ALERT_WEBHOOK_URL`` of failed flows and drift alerts, once per incident.

An incident starts with the first failure or alert and ends with the next success or all-clear.
Incidents are kept in ``data/monitor/episodes.json`` until they have ended and been posted: an
unavailable webhook delays notifications but loses none, and never makes a flow fail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from volatility.files import locked, make_folder, write_whole

logger = logging.getLogger(__name__)

EPISODES = "episodes.json"
TIMEOUT_SECONDS = 5.0
LATER = frozenset({408, 425, 429})  # refusals that ask for another attempt
# httpx logs every address that it asks, and this one may contain a secret.
logging.getLogger("httpx").setLevel(logging.WARNING)

Kind = Literal["flow_failed", "drift"]
Post = Callable[[str, Mapping[str, Any]], None]


class Episode(msgspec.Struct, omit_defaults=True):
    """Represent one incident of a flow or of drift; times are seconds since the epoch."""

    kind: Kind
    subject: str
    since: float
    text: str
    details: dict[str, Any] = {}
    told: float | None = None
    ended: float | None = None

    @property
    def identity(self) -> str:
        """Identifier by which a receiver can detect a notification repeated after a crash."""
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
    """Open or close an incident; repeating the same observation changes nothing.

    Parameters
    ----------
    folder : Path
        ``data/monitor``.
    kind, subject : str
        What is observed; each pair has at most one open incident.
    wrong : bool
    now : float
        Seconds since the epoch.
    text : str
        One line for humans.
    details : mapping, optional
        Values that JSON can represent.
    """
    make_folder(folder)
    with locked(folder):
        episodes = _read(folder)
        active = [e for e in episodes if (e.kind, e.subject) == (kind, subject) and e.ended is None]
        if wrong and not active:
            episodes.append(Episode(kind, subject, now, text, dict(details or {})))
        elif not wrong and active:
            for episode in active:
                episode.ended = now
        else:
            return
        _write(folder, episodes)


def tell(folder: Path, url: str, now: float, post: Post | None = None) -> int:
    """Post pending incidents, oldest first, and return the number posted.

    Without an address nothing is posted, and closed incidents are discarded. If the webhook is
    unavailable, the remaining incidents wait for the next call; one that it refuses is given up.
    No log line contains the address, because it may contain a secret.
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
                told += 1
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status in LATER or status >= 500:
                    logger.warning("the webhook answers %d; %s waits", status, episode.identity)
                    break
                logger.error(
                    "the webhook refuses %s with %d; it is not posted again",
                    episode.identity,
                    status,
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                logger.warning("cannot post %s: %s", episode.identity, type(error).__name__)
                break
            episode.told = now
            _write(folder, episodes)  # immediately, so that a crash does not repeat it
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
        "text": episode.text,  # the field that chat clients display
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
        logger.error("%s is damaged (%s); moved it to %s", path, error, aside.name)
        return []


def _write(folder: Path, episodes: list[Episode]) -> None:
    write_whole(folder / EPISODES, msgspec.json.encode(episodes))
