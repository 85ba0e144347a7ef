"""Check what this machine is missing, and how to get it.

If a required check fails, some command will not work; an optional check only reports what
will be unavailable.

>>> print(report([Check("Disk", True, "79 GB free", "free some space")]))
ok       Disk  79 GB free
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import volatility
from volatility import settings

DISTRIBUTION = "volatility-service"
SERVICE_PORT = 3000
JAVA_AT_LEAST = 17
DISK_GIGABYTES = 2.0  # thirty days of one symbol's ticks, features and reports
CONNECT_TIMEOUT_SECONDS = 1.0
IMPORT_TIMEOUT_SECONDS = 180.0  # the first import on a cold disk compiles every module
REINSTALL = "rm -rf .venv && make install"

# Run in a separate process, so that this one imports no framework, and a package that crashes
# the interpreter still appears in the report.
_IMPORTER = """
import importlib, sys, warnings
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"\\0{name}: {type(error).__name__}: {error}".splitlines()[0])
print("\\0done")
"""


@dataclass(frozen=True)
class Check:
    """Represent one finding: what was checked, whether it passed, and the remedy if not."""

    name: str
    ok: bool
    detail: str
    remedy: str
    required: bool = True


def checks() -> list[Check]:
    """Check everything the commands need; takes a few seconds, as it imports every package.

    Returns
    -------
    list of Check
        Required checks first.
    """
    environment = settings.environment()
    return [
        check_python(),
        check_packages(requirements()),
        check_numba_cache(),
        check_disk(Path()),
        check_mlflow(environment.mlflow_tracking_uri),
        check_compiler(),
        check_lake(Path("data/ticks")),
        check_port(SERVICE_PORT),
        check_kafka(environment.kafka_bootstrap_servers),
        check_java(),
    ]


def failed(findings: Sequence[Check]) -> bool:
    """Return whether a required check failed."""
    return any(check.required and not check.ok for check in findings)


def report(findings: Sequence[Check]) -> str:
    """Format the findings as a table, with the remedy below each failed check."""
    width = max((len(check.name) for check in findings), default=0)
    lines = []
    for check in findings:
        mark = "ok" if check.ok else ("MISSING" if check.required else "optional")
        lines.append(f"{mark:<8} {check.name:<{width}}  {check.detail}")
        if not check.ok:
            lines.append(f"{'':<8} {'':<{width}}  how to get it: {check.remedy}")
    return "\n".join(lines)


def check_python(version: tuple[int, int] = (sys.version_info[0], sys.version_info[1])) -> Check:
    """Check the interpreter's version against the supported ones."""
    return Check(
        "Python 3.11 to 3.13",
        (3, 11) <= version <= (3, 13),
        f"{version[0]}.{version[1]}",
        "install Python 3.11, 3.12 or 3.13, then: rm -rf .venv && make install PYTHON=python3.11",
    )


def requirements() -> list[Requirement]:
    """Read the runtime requirements, caps included, from the installed package's metadata.

    Returns
    -------
    list of Requirement
        Empty when the project itself is not installed.
    """
    try:
        declared = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    parsed = [Requirement(line) for line in declared]
    return [r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]


def check_packages(needed: Sequence[Requirement]) -> Check:
    """Check that every required package is installed, within its caps, and importable."""
    name = "packages"
    if not needed:
        return Check(name, False, f"{DISTRIBUTION} is not installed here", REINSTALL)
    wrong = []
    for requirement in needed:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    wrong = wrong or _import_failures(_import_names(r.name for r in needed))
    detail = "; ".join(wrong) or f"{len(needed)} installed, within their caps, importable"
    return Check(name, not wrong, detail, REINSTALL)


def check_compiler() -> Check:
    """Check for a C compiler."""
    found = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    return Check(
        "C compiler",
        found is not None,
        found or "none; only needed where a pinned package has no wheel (Linux x86_64 has all)",
        "apt-get install gcc (macOS: xcode-select --install)",
        required=False,
    )


def check_numba_cache(folder: Path = Path(volatility.__file__).parent) -> Check:
    """Check that compiled kernels can be cached, beside the sources or in ``NUMBA_CACHE_DIR``."""
    target = Path(os.environ.get("NUMBA_CACHE_DIR") or folder / "__pycache__")
    return Check(
        "numba cache writable",
        _writable(target),
        f"{target.name}; without it, every start recompiles the kernels",
        f"export NUMBA_CACHE_DIR={Path(tempfile.gettempdir()) / 'numba'}",
    )


def check_disk(folder: Path) -> Check:
    """Check the free space [gigabytes] where data and reports are written."""
    free = shutil.disk_usage(folder).free / 1e9
    return Check(
        "disk space",
        free >= DISK_GIGABYTES,
        f"{free:.1f} GB free, {DISK_GIGABYTES:.0f} GB recommended",
        "free some space, or work in a folder on a larger disk",
    )


def check_lake(folder: Path) -> Check:
    """Check that the lake contains at least one part."""
    parts = sum(1 for _ in folder.glob("symbol=*/date=*/*.parquet"))
    return Check(
        "tick lake",
        parts > 0,
        f"{parts} parts in {folder}",
        "volatility simulate, volatility import FILE... or volatility capture",
        required=False,
    )


def check_mlflow(uri: str) -> Check:
    """Check that the MLflow store at ``uri`` can be opened; a SQLite file need not exist yet."""
    name = "MLflow store"
    parts = urlsplit(uri)
    if parts.scheme.startswith("sqlite"):
        file = Path(uri.partition(":///")[2].partition("?")[0] or ":memory:")
        ok, detail = _sqlite_usable(file)
        return Check(name, ok, detail, "set MLFLOW_TRACKING_URI=sqlite:///mlflow.db")
    remedy = "start it (mlflow server --port 5000), or unset MLFLOW_TRACKING_URI for a local file"
    if parts.scheme in {"http", "https"} and parts.hostname:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        ok = _connects(parts.hostname, port)
        state = "answers" if ok else "does not answer"
        return Check(name, ok, f"{parts.hostname}:{port} {state}", remedy)
    if parts.scheme in {"", "file"}:
        return Check(name, False, "MLflow 3 does not support plain folders", remedy)
    return Check(name, True, f"a {parts.scheme} store; not tested", remedy)


def check_kafka(servers: str) -> Check:
    """Check that one of the brokers, ``host:port`` separated by commas, accepts connections."""
    reached = [server for server in servers.split(",") if _connects(*_host_port(server.strip()))]
    return Check(
        "Kafka broker",
        bool(reached),
        f"{', '.join(reached) or servers} {'answers' if reached else 'does not answer'}",
        "make kafka (Java) or docker compose up; demo, train, evaluate and serve need none",
        required=False,
    )


def check_port(port: int) -> Check:
    """Check that ``port`` on this machine is free for the service."""
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            free, detail = False, (error.strerror or "taken").lower()
        else:
            free, detail = True, "free"
    remedy = f"stop the process using it (ss -ltnp 'sport = :{port}'), or serve with --port"
    return Check(f"port {port}", free, detail, remedy, required=False)


def check_java() -> Check:
    """Check for a Java runtime that can run the broker of ``make kafka``."""
    output = _output(["java", "-version"])
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    version = int(match[1]) if match else 0
    return Check(
        f"Java {JAVA_AT_LEAST}+",
        version >= JAVA_AT_LEAST,
        f"Java {version}" if version else "none; only `make kafka` needs it",
        "apt-get install openjdk-17-jre-headless",
        required=False,
    )


def _import_names(distributions: Iterable[str]) -> list[str]:
    """Return a package to import for each distribution, as the installed files say."""
    owned: dict[str, list[str]] = {}
    for package, owners in importlib.metadata.packages_distributions().items():
        if package.isidentifier() and not package.startswith("_"):
            for owner in owners:
                owned.setdefault(canonicalize_name(owner), []).append(package)
    wanted = [canonicalize_name(name) for name in distributions]
    return [min(owned[name]) for name in wanted if name in owned]


def _import_failures(names: Sequence[str]) -> list[str]:
    output = _output([sys.executable, "-c", _IMPORTER, *names], timeout=IMPORT_TIMEOUT_SECONDS)
    lines = [line.partition("\0")[2] for line in output.splitlines() if "\0" in line]
    if "done" not in lines:
        lines.append("an import crashed the interpreter or took too long")
    return [line for line in lines if line != "done"]


def _output(command: list[str], timeout: float = 20.0) -> str:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _sqlite_usable(file: Path) -> tuple[bool, str]:
    if not file.exists():
        parent = file.parent
        ok = parent.is_dir() and os.access(parent, os.W_OK)
        return ok, f"{file} {'will be created' if ok else 'cannot be created: no such folder'}"
    try:
        with closing(sqlite3.connect(file, timeout=CONNECT_TIMEOUT_SECONDS)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        return False, f"{file}: {error}"
    return os.access(file, os.W_OK), f"{file}"


def _host_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (server, 9092)


def _connects(host: str, port: int) -> bool:
    try:
        with closing(socket.create_connection((host, port), CONNECT_TIMEOUT_SECONDS)):
            return True
    except (OSError, ValueError, OverflowError):
        return False
