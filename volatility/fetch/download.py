"""Download files politely: resumed where they broke off, checked, and within the disk's room.

A file grows as ``NAME.part`` and gets its name once it is whole. What is whole is told by its
checksum where the vendor publishes one, and else by its own format.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import math
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx

T = TypeVar("T")

BLOCK = 1 << 20
COME_BACK = {408, 418, 425, 429, 500, 502, 503, 504}
KEY_NEEDED = {401, 403}
MISSING = {404, 410}


class FetchError(Exception):
    """Something cannot be fetched; the one-line message says why and what to do."""


class _BrokenError(Exception):
    """An attempt failed; another one may succeed, after so many seconds where that was asked."""

    def __init__(self, why: str, after_seconds: float | None = None) -> None:
        super().__init__(why)
        self.after_seconds = after_seconds


@dataclass(frozen=True)
class Pace:
    """Configure how politely and how patiently to ask; tests shorten the waits.

    Parameters
    ----------
    between_seconds : float
        Between two requests.
    attempts : int
        At one file without progress.
    first_seconds, longest_seconds : float
        The wait after the first failure, which doubles, and the longest one; a vendor that asks
        for more is not waited for.
    spare_bytes : int
        Room that stays free on the disk.
    """

    between_seconds: float = 0.35
    attempts: int = 5
    first_seconds: float = 1.0
    longest_seconds: float = 300.0
    spare_bytes: int = 1 << 30


class Downloader:
    """Ask one vendor, one request after the other.

    Parameters
    ----------
    pace : Pace
    wait : callable
        Sleeps so many seconds.
    """

    def __init__(
        self, pace: Pace | None = None, wait: Callable[[float], None] | None = None
    ) -> None:
        self.pace, self._wait = pace or Pace(), time.sleep if wait is None else wait
        self._asked = -math.inf
        self._client = httpx.Client(
            timeout=httpx.Timeout(30.0), follow_redirects=True, headers={"User-Agent": "volatility"}
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, url: str) -> httpx.Response | None:
        """Return a small answer; None where there is none.

        Raises
        ------
        FetchError
            When the vendor refuses, fails again and again, or cannot be reached.
        """

        def attempt() -> tuple[httpx.Response | None, bool]:
            self._pause()
            response = self._client.get(url)
            return (response if _is_there(response, url) else None), True

        return self._patiently(url, attempt)

    def file(self, url: str, path: Path, checksum: str | None = None) -> Path | None:
        """Download a file; None where the vendor has none.

        Parameters
        ----------
        checksum : str, optional
            SHA-256 of the whole file. Without one, gzip and ZIP files are checked by themselves.

        Raises
        ------
        FetchError
            As ``get``, and when the file stays damaged or the disk has no room for it.
        """
        part = path.with_name(f"{path.name}.part")

        def attempt() -> tuple[Path | None, bool]:
            held = part.stat().st_size if part.exists() else 0
            try:
                if not self._continue(url, part, held):
                    return None, True
            except (httpx.TransportError, _BrokenError) as error:
                more = part.exists() and part.stat().st_size > held
                if more and isinstance(error, httpx.TransportError):
                    return None, False  # it has come further: go on from there
                raise
            why = _damage(part, path.name, checksum)
            if why is not None:
                part.unlink()
                raise _BrokenError(why)
            part.replace(path)
            return path, True

        return self._patiently(url, attempt)

    def _continue(self, url: str, part: Path, held: int) -> bool:
        self._pause()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
        with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code == 416:  # it is whole already, or another file
                return True
            if not _is_there(response, url):
                part.unlink(missing_ok=True)
                return False
            resumed = response.status_code == 206
            length = int(response.headers.get("Content-Length", 0))
            free = shutil.disk_usage(part.parent).free
            if length > free - self.pace.spare_bytes:
                raise FetchError(
                    f"{part.parent} has no room for {url} ({length / 1e6:,.0f} MB, of "
                    f"{free / 1e6:,.0f} MB of which {self.pace.spare_bytes / 1e6:,.0f} MB stay "
                    "free); make room and start again"
                )
            try:
                with _opened(part, resumed) as file:
                    for block in response.iter_raw():
                        file.write(block)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                    part.unlink(missing_ok=True)
                raise FetchError(f"cannot write {part}: {error.strerror}") from error
        return True

    def _patiently(self, url: str, attempt: Callable[[], tuple[T, bool]]) -> T:
        """Try until it is done, however often it comes further, or gives up with one line."""
        failures = 0
        while True:
            try:
                result, done = attempt()
            except (httpx.TransportError, _BrokenError) as error:
                failures += 1
                self._endure(url, error, failures)
            else:
                if done:
                    return result
                failures = 0

    def _endure(self, url: str, error: Exception, failures: int) -> None:
        host = httpx.URL(url).host
        why = " ".join(str(error).split()) or type(error).__name__
        asked = error.after_seconds if isinstance(error, _BrokenError) else None
        pace = self.pace
        if asked is not None and asked > pace.longest_seconds:
            raise FetchError(f"{host} asks to wait {asked:,.0f} s ({why}); start again after that")
        if failures >= pace.attempts:
            if isinstance(error, httpx.ConnectError):
                raise FetchError(
                    f"cannot reach {host} ({why}); check the network, or HTTPS_PROXY, and start "
                    "again: what has been fetched stays"
                ) from error
            raise FetchError(f"{url}: {why}, {failures} times; try again later") from error
        doubled = pace.first_seconds * 2 ** (failures - 1)
        self._wait(max(min(doubled, pace.longest_seconds), asked or 0.0))

    def _pause(self) -> None:
        left = self._asked + self.pace.between_seconds - time.monotonic()
        if left > 0:
            self._wait(left)
        self._asked = time.monotonic()


def _opened(part: Path, resumed: bool) -> BinaryIO:
    return part.open("ab" if resumed else "wb")


def _is_there(response: httpx.Response, url: str) -> bool:
    status = response.status_code
    if status in MISSING:
        return False
    if status in KEY_NEEDED:
        raise FetchError(f"{url}: the vendor refuses it without a key (HTTP {status})")
    if status in COME_BACK:
        raise _BrokenError(f"HTTP {status}", _seconds(response.headers.get("Retry-After", "")))
    if status not in {200, 206}:
        raise FetchError(f"{url}: HTTP {status}")
    return True


def _seconds(text: str) -> float | None:
    """Return how long a ``Retry-After`` asks to wait: seconds, or a date."""
    if text.strip().isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment.tzinfo else None


def _damage(part: Path, name: str, checksum: str | None) -> str | None:
    """Return what is wrong with a file that was downloaded to its end; None if it is whole."""
    if checksum is not None:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return None if found == checksum else "its checksum is not the one published"
    try:
        if name.endswith(".gz"):
            with gzip.open(part) as unpacked:
                while unpacked.read(BLOCK):
                    pass
        elif name.endswith(".zip"):
            with zipfile.ZipFile(part) as archive:
                bad = archive.testzip()
                return f"{bad} in it is damaged" if bad else None
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        return f"it is damaged ({' '.join(str(error).split())[:80]})"
    return None
