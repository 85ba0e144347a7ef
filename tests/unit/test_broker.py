"""Every way in which the broker cannot start is one line that says what to do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from volatility.dev import broker
from volatility.dev.broker import Broker, BrokerError, fetch, main, prepare, running, start, stop


def test_java_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="`java` is missing; install a JDK 17"):
        start(Broker(tmp_path, 19092, 19093))


def test_maven_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match="`mvn` is missing; install Maven"):
        fetch(tmp_path)


def test_maven_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[INFO] no'\necho '[ERROR] no route to host'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BrokerError, match=r"could not fetch the broker.* no route to host"):
        fetch(tmp_path / "lib")
    assert list((tmp_path / "lib").iterdir()) == []


def test_a_port_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(broker, "_find", lambda program, _: program)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["start", "--data", str(tmp_path), "--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"kafka: port {port} ")
    assert "--port" in error
    assert error.count("\n") == 1


def test_connections_that_wait_for_their_time_take_no_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as former:
        port = former.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            former.accept()[0].close()  # who closes first is left in TIME_WAIT
    with socket.socket() as strict, pytest.raises(OSError, match="in use"):
        strict.bind(("127.0.0.1", port))
    assert prepare(Broker(tmp_path, port, free_port()))


# The memory is freed first and the ports after it: their owner is there for some time yet.
LISTENER = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
memory = b"1" * 400_000_000
print(flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("looks_alive", [True, False])
def test_a_broker_that_was_killed_a_moment_ago_may_end_first(
    looks_alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    own = Broker(tmp_path, free_port(), free_port())
    command = [sys.executable, "-c", LISTENER, str(own.config), str(own.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as former:
        assert former.stdout is not None
        former.stdout.readline()
        own.pid_file.write_text(f"{former.pid}\n")
        with pytest.raises(BrokerError, match=f"already running: process {former.pid}"):
            prepare(own)
        former.send_signal(signal.SIGKILL)
        if not looks_alive:
            monkeypatch.setattr(broker, "NOTICE_SECONDS", 0.0)
            while running(own):
                pass
        assert prepare(own)


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Prepare without Java and Maven."""
    patch.setattr(broker, "_find", lambda program, _: program)
    patch.setattr(broker, "fetch", lambda: Path("jars"))
    patch.setattr(broker, "_format", lambda *_: None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_another_process_with_the_noted_id_is_left_alone(tmp_path: Path) -> None:
    own = Broker(tmp_path, 19092, 19093)
    own.pid_file.write_text(f"{os.getpid()}\n")  # as if the id had been given away anew
    assert running(own) is None
    assert stop(own) is False
    assert not own.pid_file.exists()


def test_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop", "--data", str(tmp_path)]) == 0
    assert main(["status", "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "kafka: not running\n" * 2
