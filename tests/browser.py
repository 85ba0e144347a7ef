"""Open a page of another site in a headless Chromium that sends what a page can send anywhere."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.prefects import process
from tests.waiting import until

EVIL = "evil.example"  # resolves to this machine, as a site's own name may (DNS rebinding)
PAGE = (Path(__file__).parent / "foreign_page.html").read_text()
PLACEHOLDER = "/*TARGETS*/[]"


@dataclass(frozen=True)
class Target:
    """Represent what the page tries on one server.

    Parameters
    ----------
    url : str
        For example ``http://127.0.0.1:4200``.
    posts : dict of str to object
        Path to body, as JSON; each is sent in every way in which a page can send one.
    gets, sockets : tuple of str
        Paths.
    """

    url: str
    posts: dict[str, object] = field(default_factory=dict)
    gets: tuple[str, ...] = ("/",)
    sockets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """Represent an attempt of the page, and whether it could read the answer."""

    way: str
    url: str
    readable: bool


def chromium() -> str:
    """Return the path of Chromium."""
    found = shutil.which("chromium")
    if found is None:
        # .ci/run installs it: there, nothing may be left out for lack of a program.
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("chromium is missing: apt-get install chromium")
    assert found is not None
    return found


def visit(folder: Path, host: str, *targets: Target) -> list[Attempt]:
    """Open a page at a host name of this machine; return what it tried on the targets."""
    reports: list[list[dict[str, Any]]] = []
    told = json.dumps([asdict(target) for target in targets]).replace("<", "\\u003c")
    page = PAGE.replace(PLACEHOLDER, told).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page)

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            reports.append(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as port:
        command = [
            chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-dev-shm-usage", "--no-proxy-server",
            f"--host-resolver-rules=MAP {EVIL} 127.0.0.1", f"--user-data-dir={folder / 'profile'}",
            f"http://{host}:{port}/",
        ]  # fmt: skip
        with process(command, folder / "chromium.log", folder) as browser:
            until(lambda: reports, "the page has tried everything", details=browser.text)
    return [Attempt(**attempt) for attempt in reports[0]]


@dataclass(frozen=True)
class Request:
    """Represent a request that reached the recorder."""

    method: str
    path: str
    content_type: str
    origin: str | None
    body: bytes
    socket: bool


@contextmanager
def recorder() -> Iterator[tuple[str, list[Request]]]:
    """Run a server that notes what reaches it; give its address and the notes."""
    notes: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def note(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kind = (self.headers.get("content-type") or "").partition(";")[0]
            socket = self.headers.get("upgrade") == "websocket"
            origin = self.headers.get("origin")
            notes.append(Request(self.command, self.path, kind, origin, body, socket))
            self.send_response(400 if socket else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST = do_OPTIONS = do_PUT = do_DELETE = do_PATCH = note  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with _serving(Handler) as port:
        yield f"http://127.0.0.1:{port}", notes


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
