"""Implement the event log within one process, kept on disk: no broker is needed.

It behaves like ``MemoryLog``, and a new process finds what the last one left. Nothing is deleted
by age: ``trim`` drops what nobody needs any more.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import msgspec

from volatility.files import locked, make_folder, write_whole
from volatility.streaming.log.interface import LogError, Message
from volatility.streaming.log.journal import Journal
from volatility.streaming.log.memory_log import MemoryLog, _Topic

logger = logging.getLogger(__name__)

TOPICS = "topics.json"
FOREVER = "forever"  # folder of the records that are never dropped: they would keep a whole file


class _Stored(msgspec.Struct, frozen=True):
    """Represent a topic: its id, and from which offset on each partition is retained."""

    id: str
    starts: list[int]
    forever: bool = False


class LocalLog(MemoryLog):
    """Store topics in memory and in a folder; safe to use from several threads of one process.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.

    Raises
    ------
    LogError
        When another process uses the folder, or a file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        make_folder(folder)
        self._folder = folder
        self._open = ExitStack()
        busy = LogError(f"another process uses {folder}: stop it, or choose another folder")
        self._open.enter_context(locked(folder, busy=busy))
        self._forever: set[str] = set()
        self._failing = False
        make_folder(folder / FOREVER)
        self._journal, self._lasting = Journal(folder), Journal(folder / FOREVER)
        for journal in (self._journal, self._lasting):
            self._open.callback(journal.close)
        try:
            self._read()
        except BaseException:
            self._open.close()
            raise

    def create(self, topic: str, partitions: int, *, forever: bool = False) -> None:
        """Create a topic if it does not exist."""
        with self._changed:
            known = topic in self._topics
            if not known:
                self._topics[topic] = _Topic(partitions)
                if forever:
                    self._forever.add(topic)
                self._note()
        super().create(topic, partitions, forever=forever)

    def extend(self, topic: str, partitions: int) -> None:
        """Add partitions to a topic that has fewer."""
        super().extend(topic, partitions)
        with self._changed:
            self._note()

    def trim(self, topic: str, starts: Mapping[int, int]) -> None:
        """Drop the records of each partition before an offset."""
        with self._changed:
            if topic in self._forever:
                return
            for partition, offset in starts.items():
                part = self._topic(topic).records[partition]
                part.trim(min(offset, part.end))
            self._note()
            self._journal.drop(
                {
                    (name, number): part.start
                    for name, found in self._topics.items()
                    for number, part in enumerate(found.records)
                }
            )

    def close(self) -> None:
        """Close the writers and the files."""
        super().close()
        self._open.close()

    def _store(self, topic: str, message: Message) -> bool:
        journal = self._lasting if topic in self._forever else self._journal
        try:
            journal.append(topic, message)
        except OSError as error:
            if not self._failing:
                logger.error("cannot write to %s (%s): records wait", self._folder, error)
            self._failing = True
            return False
        if self._failing:
            logger.warning("writing to %s again", self._folder)
        self._failing = False
        return True

    def _note(self) -> None:
        """Write down the topics; the caller holds the lock."""
        stored = {
            name: _Stored(
                topic.id, [part.start for part in topic.records], forever=name in self._forever
            )
            for name, topic in self._topics.items()
        }
        write_whole(self._folder / TOPICS, msgspec.json.encode(stored))

    def _read(self) -> None:
        path = self._folder / TOPICS
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=dict[str, _Stored])
        except FileNotFoundError:
            stored = {}
        except msgspec.MsgspecError as error:
            raise LogError(
                f"{path} is damaged ({error}): delete the folder {self._folder}; the lake keeps "
                "what was captured"
            ) from error
        for name, one in stored.items():
            topic = self._topics[name] = _Topic(len(one.starts), one.id)
            if one.forever:
                self._forever.add(name)
            for part, start in zip(topic.records, one.starts, strict=True):
                part.start = start
        for name, message in chain(self._lasting.read(), self._journal.read()):
            part = self._topics[name].records[message.partition]
            if message.offset < part.start:
                continue
            if message.offset != part.end:
                raise LogError(
                    f"{self._folder} lacks records of topic {name} from offset {part.end} on: "
                    "delete the folder; the lake keeps what was captured"
                )
            part.append(message)
