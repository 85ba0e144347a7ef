"""Load the shipped prior, with which a fresh installation can forecast.

The prior is the pooled part, fitted on many venues. It is pure data: a bundle in ``shipped/``,
written by ``python -m benchmarks.prediction.prior`` from recordings that are not shipped.
``MODEL_CARD.md`` in that folder lists them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from volatility.models.bundle import Bundle, load
from volatility.models.forecaster import Forecaster, Pooled
from volatility.models.law import Law
from volatility.models.pooled import pooled_forecaster
from volatility.models.storage import PRIOR, forecasters_to_arrays

FOLDER = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class Prior:
    """Represent a pooled part with its residual law, from which training starts.

    ``forecaster`` treats every symbol as unknown; ``bundle`` can serve the prior by itself.
    """

    bundle: Bundle

    @property
    def forecaster(self) -> Forecaster:
        """Forecaster of only the pooled part."""
        return self.bundle.forecasters[PRIOR]

    def at(self, horizons: tuple[int, ...]) -> Forecaster:
        """Return the pooled part at other horizons, each using the nearest fitted horizon.

        The linear fit of each symbol corrects the remaining error.
        """
        mine = self.bundle.specification.horizons
        if horizons == mine:
            return self.forecaster
        places = [int(np.argmin(np.abs(np.log(np.array(mine) / h)))) for h in horizons]
        whole = self.forecaster
        pooled = Pooled(
            whole.pooled.columns,
            whole.pooled.coefficients[places],
            tuple(whole.pooled.trees[place] for place in places),
        )
        law = Law(whole.law.coordinates[:, places], whole.law.table[:, places])
        return pooled_forecaster(pooled, law, float(whole.linear.level[-1]))

    @property
    def digest(self) -> str:
        """SHA-256 of the prior's numbers."""
        content = hashlib.sha256()
        for name, array in sorted(forecasters_to_arrays({PRIOR: self.forecaster}).items()):
            content.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


@cache
def shipped() -> Prior:
    """Read the shipped prior.

    Raises
    ------
    BundleError
        If it is damaged, or was made for another feature table.
    """
    return Prior(load(FOLDER))
