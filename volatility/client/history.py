"""Hold a part of the history as the service sent it, and convert it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class History:
    """Represent forecasts of the past: a row for each step and horizon.

    Parameters
    ----------
    content : bytes
        An Arrow stream.
    """

    content: bytes

    def to_arrow(self) -> pa.Table:
        """Return a table; needs pyarrow."""
        import pyarrow as pa

        with pa.ipc.open_stream(self.content) as stream:
            return stream.read_all()

    def to_pandas(self) -> pd.DataFrame:
        """Return a frame; needs pandas and pyarrow."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame
