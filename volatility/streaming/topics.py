"""Define the topics that capture stores: schema, decoder and lake of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from volatility.lake import Lake
from volatility.records import LAKE_SCHEMA, PREDICTION_SCHEMA
from volatility.streaming.decoding import Decode, decode_predictions, decode_ticks
from volatility.streaming.log import PREDICTIONS, TICKS, EventLog


@dataclass(frozen=True)
class CapturedTopic:
    """Represent how a topic is stored.

    ``repeats`` says whether the topic may contain a record twice, which the lake must not.
    """

    name: str
    schema: pa.Schema
    decode: Decode
    repeats: bool = False

    def lake(self, data: Path) -> Lake:
        """Return the topic's lake in the data folder."""
        return Lake(data / self.name, self.schema)

    def source(self, log: EventLog) -> str:
        """Return the name of the current generation of the topic in the lake."""
        return f"{self.name}.{log.generation(self.name)}"


CAPTURED = {
    topic.name: topic
    for topic in (
        CapturedTopic(TICKS, LAKE_SCHEMA, decode_ticks),
        CapturedTopic(PREDICTIONS, PREDICTION_SCHEMA, decode_predictions, repeats=True),
    )
}
