"""Send single requests to a Kafka broker, over one kept-alive connection on its own thread.

kafka-python's own admin client and producer block in their constructor while the broker is
unavailable, and leak a thread and two sockets when they give up. This module uses the layer below
them, so that opening costs nothing, requests time out, and closing frees everything.
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

from volatility.streaming.log.interface import DeniedError, LogError

RECONNECT_MAX_MS = 1000  # the client's default of 30 s would be added to every outage
REQUEST_TIMEOUT_MS = 30_000


# For every connection of kafka-python: see ``_ClosingSocket``.
DIRECT = "direct://"


# The broker knows who asks, or cannot, and says no: it will say the same next time.
DENIED = (
    errors.AuthorizationError,
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.SecurityDisabledError,
)
_ALLOW = {
    errors.TopicAuthorizationFailedError: "allow this user Describe, Read and Write on the topic",
    errors.GroupAuthorizationFailedError: "allow this user Read on the group",
    errors.ClusterAuthorizationFailedError: (
        "allow this user IdempotentWrite on the cluster, and Create if it is to create topics"
    ),
}


def denied(servers: str, error: Exception, what: str = "") -> DeniedError:
    """Return the error that says what to do about a refusal of access."""
    help_with = _ALLOW.get(type(error))
    advice = f"{help_with} (kafka-acls.sh --add)" if help_with else "check its security settings"
    return DeniedError(
        f"the Kafka broker at {servers} denies access: {str(error) or type(error).__name__}{what}; "
        f"{advice}, then start again"
    )


class _ClosingSocket(KafkaNetSocket):
    """Close a socket whose connection attempt failed.

    kafka-python 3.0.12 leaves it open until garbage collection: two sockets a second while the
    broker is unavailable. The scheme of ``proxy_url`` is how it selects the socket class.
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
    """Represent the broker's description of a topic: its id and the leaders of its partitions."""

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
        Bootstrap servers: ``host:port``, several separated by commas.
    name
        Name of this client in the broker's log.
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
        """Wait until a broker responds, unless one already has.

        Raises
        ------
        LogError
            When none responds in time.
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
                f"no Kafka broker responds at {self.servers}: start one with `make kafka`, or set "
                "KAFKA_BOOTSTRAP_SERVERS"
            ) from error

    def ask(self, request: Any, node: int | None = None) -> Any:
        """Send a request to a broker (None: any) and wait for the response.

        Raises
        ------
        kafka.errors.KafkaError
            When the connection breaks, or the response takes longer than 30 s.
        """
        if self._closed:
            raise errors.KafkaConnectionError("closed")
        try:
            return self._manager.run(self._manager.send, request, node)
        except RuntimeError as error:  # closed meanwhile, by another thread
            raise errors.KafkaConnectionError(str(error)) from error

    def topic(self, name: str) -> Topic | None:
        """Describe a topic; None when it does not exist."""
        return self.topics([name]).get(name)

    def topics(self, names: Sequence[str]) -> dict[str, Topic]:
        """Describe the named topics that exist."""
        wanted = [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
        answer = self.ask(
            MetadataRequest(
                topics=wanted,
                allow_auto_topic_creation=False,
                include_cluster_authorized_operations=False,
                include_topic_authorized_operations=False,
                min_version=10,  # the first with topic ids
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
        """Return the version of the broker that responded first."""
        return tuple(self._manager.broker_version)

    def close(self) -> None:
        """Free the thread and the sockets; requests in flight fail."""
        with self._lock:
            self._closed = True
            net, self._net = self._net, None
        if net is not None:
            net.run(_close, self._manager)
            net.close()


async def _close(manager: Any) -> None:
    manager.close()
