"""Start and stop a local Apache Kafka broker: ``python -m volatility.dev.broker start``.

Single node, KRaft, bound to 127.0.0.1. Maven downloads the jars listed in
``tools/kafka/pom.xml`` once; a JDK 17 runs them.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools" / "kafka"
DATA = ROOT / "data" / "kafka"
HOST = "127.0.0.1"
READY_SECONDS = 90.0  # takes 4 s on an idle machine, longer with two busy cores and a long log
STOP_SECONDS = 30.0
NOTICE_SECONDS = 0.2  # a process that was just killed looks alive for a moment
END_SECONDS = 10.0  # and keeps its ports for another 0.05 s, longer under load

# A cluster of one: every internal topic has one replica, groups do not wait for further members,
# and a killed broker's registration expires after 2.5 s instead of 9, so it can restart sooner.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2500
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
background.threads=2
"""


class BrokerError(Exception):
    """The broker cannot be started or stopped; the one-line message says what to do."""


class Broker(msgspec.Struct, frozen=True):
    """Represent a broker: its data folder, its two ports on 127.0.0.1, and further settings."""

    data: Path = DATA
    port: int = 9092
    controller_port: int = 9093
    properties: str = ""

    @property
    def servers(self) -> str:
        """Return the address for ``KAFKA_BOOTSTRAP_SERVERS``."""
        return f"{HOST}:{self.port}"

    @property
    def config(self) -> Path:
        """Return the configuration file; its path also identifies the process as ours."""
        return self.data.absolute() / "server.properties"

    @property
    def pid_file(self) -> Path:
        """Return the file with the process id of the running broker."""
        return self.data / "broker.pid"

    @property
    def output(self) -> Path:
        """Return the file with the broker's warnings and errors."""
        return self.data / "broker.log"


def start(broker: Broker, ready_seconds: float = READY_SECONDS) -> int:
    """Start the broker in the background and wait until it responds.

    Returns
    -------
    int
        Its process id.

    Raises
    ------
    BrokerError
        When Java or Maven is missing, the broker is already running, a port is in use, or the
        broker exits early.
    """
    command = prepare(broker)
    with broker.output.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C in the caller does not reach it
        )
    try:
        _write(broker.pid_file, f"{process.pid}\n")
        _wait_ready(broker, process, ready_seconds)
    except BaseException:
        process.kill()
        process.wait()
        broker.pid_file.unlink(missing_ok=True)
        raise
    process.returncode = 0  # the process outlives this object, which must not warn about that
    return process.pid


def stop(broker: Broker, stop_seconds: float = STOP_SECONDS) -> bool:
    """Stop the broker started by ``start`` or ``run``; return False when none is running.

    It gets a SIGTERM first, and is killed after ``stop_seconds``.
    """
    pid = running(broker)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    if not _wait_gone(broker, stop_seconds):
        kill(broker)
    broker.pid_file.unlink(missing_ok=True)
    return pid is not None


def kill(broker: Broker) -> None:
    """Kill the broker immediately (SIGKILL), as in a crash."""
    pid = running(broker)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    _wait_gone(broker, END_SECONDS)
    broker.pid_file.unlink(missing_ok=True)


def running(broker: Broker) -> int | None:
    """Return the process id of the running broker, or None.

    The id in the file may have been reused: only a process that was started with this broker's
    configuration file counts.
    """
    pid = _noted(broker)
    return pid if pid is not None and str(broker.config) in _arguments(pid) else None


def prepare(broker: Broker) -> list[str]:
    """Fetch the jars, write the configuration, format the storage; return the command to run."""
    _wait_gone(broker, NOTICE_SECONDS)
    pid = running(broker)
    if pid is not None:
        raise BrokerError(f"already running: process {pid}, {broker.servers}")
    _wait_gone(broker, END_SECONDS)
    java = _find("java", "install a JDK 17 (Debian: apt-get install openjdk-17-jre-headless)")
    for port in (broker.port, broker.controller_port):
        _require_free(port)
    jars = fetch()
    broker.data.mkdir(parents=True, exist_ok=True)
    logs = broker.data.absolute() / "log"
    _write(
        broker.config,
        PROPERTIES.format(
            host=HOST, port=broker.port, controller_port=broker.controller_port, logs=logs
        )
        + broker.properties,
    )
    base = [java, f"-Dlog4j2.configurationFile={TOOLS / 'log4j2.properties'}", "-cp", f"{jars}/*"]
    if not (logs / "meta.properties").exists():
        _format(base, broker)
    # The log is in the page cache and only requests are on the heap. One collector thread suits
    # few cores. Using only the first compiler tier halves the start-up (3.4 s of CPU time instead
    # of 6), with no measurable loss at 60,000 records a second.
    options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return [base[0], *options, *base[1:], "kafka.Kafka", str(broker.config)]


def fetch(folder: Path = DATA / "lib") -> Path:
    """Copy the broker's jars into a folder once, using Maven; return that folder."""
    pom = TOOLS / "pom.xml"
    jars = folder / hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    if jars.is_dir():
        return jars
    maven = _find("mvn", "install Maven (Debian: apt-get install maven)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="partial-") as partial:
        target = Path(partial) / "jars"
        goal = [
            "dependency:copy-dependencies",
            f"-DoutputDirectory={target}",
            "-DincludeScope=runtime",
        ]
        result = subprocess.run(
            [maven, "-q", "-B", "-f", str(pom), *goal], capture_output=True, text=True, check=False
        )
        if result.returncode:
            lines = [line for line in result.stdout.splitlines() if line.startswith("[ERROR]")]
            reason = lines[0].removeprefix("[ERROR]").strip() if lines else result.stderr.strip()
            raise BrokerError(
                f"Maven could not fetch the broker; is its repository reachable? {reason}"
            )
        with contextlib.suppress(OSError):  # another process may have been faster
            target.rename(jars)
    return jars


def cluster_id(broker: Broker) -> str:
    """Return the id of the cluster whose only node is this broker."""
    return _base64(hashlib.sha256(str(broker.config).encode()).digest()[:16])


def _format(base: list[str], broker: Broker) -> None:
    result = subprocess.run(
        [
            *(base[0], "-XX:TieredStopAtLevel=1", *base[1:]),
            "kafka.tools.StorageTool",
            # With `=`, because an id that begins with a dash would be parsed as an option.
            *("format", f"--cluster-id={cluster_id(broker)}", "--config", str(broker.config)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = (result.stdout + result.stderr).strip().splitlines()
        raise BrokerError(f"could not format the storage: {lines[-1] if lines else 'no output'}")


def _base64(data: bytes) -> str:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(data).decode().rstrip("=")


def _wait_ready(broker: Broker, process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BrokerError(f"the broker exited during start-up; see the end of {broker.output}")
        if _listens(broker.port) and _answers(broker.servers):
            return
        time.sleep(0.1)
    raise BrokerError(f"no response within {seconds:.0f} s; see the end of {broker.output}")


def _answers(servers: str) -> bool:
    """Check the metadata: a broker that knows itself and a controller can create topics."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        client = KafkaAdminClient(
            bootstrap_servers=servers, bootstrap_timeout_ms=2000, request_timeout_ms=5000
        )
    except KafkaError:
        return False
    try:
        cluster = client.describe_cluster()
        return bool(cluster["brokers"]) and cluster["controller_id"] >= 0
    except KafkaError:
        return False
    finally:
        client.close()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((HOST, port)) == 0


def _require_free(port: int) -> None:
    with socket.socket() as listener:
        # Like the broker itself, ignore connections in TIME_WAIT: they do not listen.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise BrokerError(
                f"port {port} is in use; stop the process using it, or choose another with --port"
            ) from error


def _find(program: str, remedy: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise BrokerError(f"`{program}` is missing; {remedy}")
    return path


def _arguments(pid: int) -> str:
    """Return the command line of a process; empty when it does not exist."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            return ""
    result = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return result.stdout


def _noted(broker: Broker) -> int | None:
    """Return the process id in the file, whichever process has it now."""
    try:
        pid = int(broker.pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    with contextlib.suppress(ChildProcessError):  # reap it if it is our own child
        os.waitpid(pid, os.WNOHANG)
    return pid


def _ending(pid: int) -> bool:
    """Return whether a killed process has yet to free its resources, such as its ports.

    It has already lost its command line, and its first thread may become a zombie before the
    others.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return False  # it has ended, or the system does not provide this information
    return not _arguments(pid) and (state not in "ZX" or threads > 1)


def _wait_gone(broker: Broker, seconds: float) -> bool:
    """Wait until the process in the file is neither our broker nor still being torn down."""
    deadline = time.monotonic() + seconds
    while (pid := _noted(broker)) is not None and (running(broker) == pid or _ending(pid)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 on success, 1 on failure."""
    parser = argparse.ArgumentParser(
        prog="python -m volatility.dev.broker",
        description="Run a single Apache Kafka broker on this machine.",
        epilog="example: python -m volatility.dev.broker start --port 9092",
    )
    parser.add_argument("action", choices=["start", "stop", "run", "status"])
    parser.add_argument("--data", type=Path, default=DATA, help="data folder")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--controller-port", type=int, help="default: the port plus one")
    options = parser.parse_args(arguments)
    broker = Broker(options.data, options.port, options.controller_port or options.port + 1)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # it logs every refused connection
    try:
        return _act(options.action, broker)
    except BrokerError as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1


def _act(action: str, broker: Broker) -> int:
    if action == "start":
        print(f"kafka: ready at {broker.servers}, process {start(broker)}, data in {broker.data}")
    elif action == "stop":
        print("kafka: stopped" if stop(broker) else "kafka: not running")
    elif action == "run":
        command = prepare(broker)
        _write(broker.pid_file, f"{os.getpid()}\n")
        os.execv(command[0], command)  # noqa: S606  the broker takes this process's place
    else:
        pid = running(broker)
        print(f"kafka: process {pid}, {broker.servers}" if pid else "kafka: not running")
        return 0 if pid else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
