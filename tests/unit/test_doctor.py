"""Check what ``volatility doctor`` reports about a machine."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from volatility.cli import doctor


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine on which something listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_python_version(version: tuple[int, int], ok: bool) -> None:
    assert doctor.check_python(version).ok is ok


@pytest.mark.slow
def test_packages_within_their_caps() -> None:
    check = doctor.check_packages([Requirement("msgspec>=0.1"), Requirement("pyyaml>=1,<99")])
    assert check.ok, check.detail


def test_a_package_above_its_cap_is_named_with_the_cap() -> None:
    check = doctor.check_packages([Requirement("msgspec<0.1")])
    assert not check.ok
    assert "msgspec" in check.detail
    assert "<0.1" in check.detail


def test_a_missing_package_is_named() -> None:
    check = doctor.check_packages([Requirement("no-such-package>=1")])
    assert not check.ok
    assert check.detail == "no-such-package is missing"


def test_a_package_that_does_not_import_is_named(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "msgspec").mkdir()
    (tmp_path / "msgspec" / "__init__.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = doctor.check_packages([Requirement("msgspec")])
    assert not check.ok
    assert "msgspec: ImportError: broken on purpose" in check.detail


def test_an_import_that_kills_the_interpreter_is_reported(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "msgspec").mkdir()
    (tmp_path / "msgspec" / "__init__.py").write_text("import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = doctor.check_packages([Requirement("msgspec")])
    assert not check.ok
    assert "crashed" in check.detail


@pytest.mark.slow
def test_the_packages_of_a_correct_installation_pass() -> None:
    check = doctor.check_packages(doctor.requirements())
    assert check.ok, check.detail


def test_a_project_that_is_not_installed_fails(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-distribution")
    check = doctor.check_packages(doctor.requirements())
    assert not check.ok
    assert "not installed" in check.detail


def test_the_caps_come_from_the_metadata_without_the_dev_extra() -> None:
    caps = {requirement.name: str(requirement.specifier) for requirement in doctor.requirements()}
    assert "<3.1" in caps["pandas"]
    assert "<0.151" in caps["fastapi"]
    assert "ruff" not in caps


def test_mlflow_file_that_is_not_there_yet(tmp_path: Path) -> None:
    assert doctor.check_mlflow(f"sqlite:///{tmp_path}/mlflow.db").ok
    assert not doctor.check_mlflow(f"sqlite:///{tmp_path}/no/such/folder/mlflow.db").ok


def test_mlflow_file_is_opened_and_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE runs (id INTEGER)")
    before = file.read_bytes()
    assert doctor.check_mlflow(f"sqlite:///{file}").ok
    assert file.read_bytes() == before
    file.write_bytes(b"this is no database, whatever its name says" * 100)
    assert not doctor.check_mlflow(f"sqlite:///{file}").ok


def test_mlflow_server(listener: int) -> None:
    assert doctor.check_mlflow(f"http://127.0.0.1:{listener}").ok


def test_mlflow_server_that_is_down(free_port: int) -> None:
    assert not doctor.check_mlflow(f"http://127.0.0.1:{free_port}").ok


def test_mlflow_folder_is_refused() -> None:
    assert not doctor.check_mlflow("./mlruns").ok


def test_kafka_needs_one_broker_of_those_named(listener: int, free_port: int) -> None:
    check = doctor.check_kafka(f"127.0.0.1:{free_port}, 127.0.0.1:{listener}")
    assert check.ok
    assert str(listener) in check.detail
    assert str(free_port) not in check.detail


@pytest.mark.parametrize("servers", ["127.0.0.1:{port}", "127.0.0.1:99999", "no.such.host.invalid"])
def test_kafka_that_is_down_is_no_failure(servers: str, free_port: int) -> None:
    check = doctor.check_kafka(servers.format(port=free_port))
    assert not check.ok
    assert not doctor.failed([check])


def test_a_taken_port(listener: int) -> None:
    assert not doctor.check_port(listener).ok


def test_a_free_port(free_port: int) -> None:
    assert doctor.check_port(free_port).ok


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ('openjdk version "17.0.2" 2022-01-18', True),
        ('java version "1.8.0_372"', False),
        ('openjdk version "21" 2023-09-19', True),
        ("", False),
    ],
)
def test_java(text: str, ok: bool, monkeypatch) -> None:
    done = subprocess.CompletedProcess([], 0, stdout=text)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert doctor.check_java().ok is ok


def test_java_that_is_not_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not doctor.check_java().ok
    assert not doctor.check_compiler().ok


def test_lake(tmp_path: Path) -> None:
    assert not doctor.check_lake(tmp_path).ok
    folder = tmp_path / "symbol=BTC-USD" / "date=2026-04-04"
    folder.mkdir(parents=True)
    (folder / "part-import-0-0.parquet").touch()
    assert doctor.check_lake(tmp_path).ok


def test_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "DISK_GIGABYTES", 0.0)
    assert doctor.check_disk(tmp_path).ok
    monkeypatch.setattr(doctor, "DISK_GIGABYTES", 1e9)
    assert not doctor.check_disk(tmp_path).ok


def test_numba_cache(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert doctor.check_numba_cache(tmp_path).ok
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert not doctor.check_numba_cache(tmp_path).ok


def test_report_gives_the_remedy_of_what_is_wrong_and_of_nothing_else() -> None:
    text = doctor.report(
        [
            doctor.Check("one", True, "fine", "remedy of one"),
            doctor.Check("two", False, "gone", "remedy of two"),
            doctor.Check("three", False, "absent", "remedy of three", required=False),
        ]
    )
    assert "remedy of one" not in text
    assert text.index("MISSING  two") < text.index("remedy of two") < text.index("optional three")
    assert "remedy of three" in text


def test_only_a_required_check_fails() -> None:
    assert doctor.failed([doctor.Check("a", False, "", "")])
    assert not doctor.failed([doctor.Check("a", False, "", "", required=False)])
    assert not doctor.failed([doctor.Check("a", True, "", "")])


@pytest.mark.slow
def test_checks_name_each_thing_once_and_each_has_a_remedy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "requirements", lambda: [Requirement("msgspec")])
    findings = doctor.checks()
    names = [check.name for check in findings]
    assert len(names) == len(set(names)) >= 10
    assert all(check.remedy for check in findings)
    required = [check.required for check in findings]
    assert required == sorted(required, reverse=True)


def test_the_domain_imports_no_framework_for_it() -> None:
    code = "import sys; import volatility.cli.doctor; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"kafka", "prefect", "bentoml", "mlflow"} & set(run.stdout.split())
