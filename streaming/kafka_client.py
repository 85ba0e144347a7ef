"""Ask a Kafka broker single questions: one connection, kept alive, on a thread of its own.

kafka-python's own admin client and producer block in their constructor while the broker is
away, and leave a thread and two sockets behind when they give up. This uses the layer below
them, so that opening costs nothing, asking fails in time, and closing frees everything.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from typing import Any

from kafka import errors
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.metadata import MetadataRequest

from streaming.log import LogError

RECONNECT_MAX_MS = 1000  # the client's default, 30 s, would add that to every outage
REQUEST_TIMEOUT_MS = 30_000


# For every connection of kafka-python: see ``_ClosingSocket``.
DIRECT = "direct://"


class _ClosingSocket(KafkaNetSocket):
    """Close a socket that could not connect.

    kafka-python 3.0.12 leaves it open until the garbage collector comes by: two a second while
    the broker is away. A scheme of ``proxy_url`` is its way to choose the kind of socket.
    """

    SCHEMES = ("direct",)

    async def sock_connect(
        self, net: Any, sock: socket.socket, sockaddr: Any, timeout_at: float | None = None
    ) -> socket.socket:
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:
            sock.close()
            raise


class Topic:
    """Hold what the broker says of one topic: its id and the leaders of its partitions."""

    def __init__(self, answer: Any) -> None:
        self.id: str = answer.topic_id.hex
        self.leaders: dict[int, int] = {
            partition.partition_index: partition.leader_id for partition in answer.partitions
        }


class Client:
    """Send requests to the brokers of a cluster, from any thread.

    Parameters
    ----------
    servers
        Where to ask first: ``host:port``, several separated by commas.
    name
        What the broker's log calls this client.
    """

    def __init__(self, servers: str, name: str = "volatility") -> None:
        self.servers = servers
        self._options = {
            "bootstrap_servers": servers.split(","),
            "client_id": name,
            "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "receive_message_max_bytes": 100_000_000,
            "proxy_url": DIRECT,
        }
        self._lock = threading.Lock()
        self._net: Any = None
        self._manager: Any = None
        self._closed = False

    def connect(self, timeout_seconds: float) -> None:
        """Wait until a broker answers, unless one has before.

        Raises
        ------
        LogError
            When none does in time.
        """
        with self._lock:
            if self._closed:
                raise LogError("the log is closed")
            if self._net is None:
                self._net = NetworkSelector(**self._options)
                self._manager = KafkaConnectionManager(self._net, **self._options)
                self._net.start()
            manager = self._manager
        if manager.bootstrapped:
            return
        try:
            manager.bootstrap(timeout_seconds * 1000)
        except errors.KafkaError as error:
            raise LogError(
                f"no Kafka broker answers at {self.servers}: start one with `make kafka`, or set "
                "KAFKA_BOOTSTRAP_SERVERS"
            ) from error

    def ask(self, request: Any, node: int | None = None) -> Any:
        """Send a request to a broker (None: any) and wait for the answer.

        Raises
        ------
        kafka.errors.KafkaError
            When the connection breaks, or the answer takes longer than 30 s.
        """
        if self._closed:
            raise errors.KafkaConnectionError("closed")
        try:
            return self._manager.run(self._manager.send, request, node)
        except RuntimeError as error:  # it was closed meanwhile, on another thread
            raise errors.KafkaConnectionError(str(error)) from error

    def topic(self, name: str) -> Topic | None:
        """Describe a topic; None when there is none of that name."""
        return self.topics([name]).get(name)

    def topics(self, names: Sequence[str]) -> dict[str, Topic]:
        """Describe those of the named topics that exist."""
        wanted = [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
        answer = self.ask(
            MetadataRequest(
                topics=wanted,
                allow_auto_topic_creation=False,
                include_cluster_authorized_operations=False,
                include_topic_authorized_operations=False,
                min_version=10,  # the first that tells the topic's id
            )
        )
        found = {}
        for topic in answer.topics:
            error = errors.for_code(topic.error_code)
            if error is errors.NoError:
                found[topic.name] = Topic(topic)
            elif error is not errors.UnknownTopicOrPartitionError:
                raise error(topic.name)
        return found

    @property
    def version(self) -> tuple[int, ...]:
        """Version of the broker that answered first."""
        return tuple(self._manager.broker_version)

    def close(self) -> None:
        """Free the thread and the sockets; whoever waits for an answer gets an error."""
        with self._lock:
            self._closed = True
            net, self._net = self._net, None
        if net is not None:
            net.run(_close, self._manager)
            net.close()


async def _close(manager: Any) -> None:
    manager.close()
