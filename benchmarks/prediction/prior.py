"""Build the shipped prior: ``python -m benchmarks.prediction.prior``.

It writes the bundle and the model card to ``volatility/models/shipped``. The recordings that it is
fitted on are read from ``../shared/data`` and are not shipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.prediction.recordings import DATA, read_venues
from volatility.dataset import Dataset, assemble
from volatility.models import ARRAYS_FILE, FOLDER, MODEL_FILE, Prior, fit_prior
from volatility.settings import Settings

CARD = "MODEL_CARD.md"


def main() -> None:
    """Fit, write, and report the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    folder: Path = parser.parse_args().data
    data = assemble(read_venues(folder), Settings())
    prior = fit_prior(data, Settings())
    prior.bundle.save(FOLDER)
    (FOLDER / CARD).write_text(card(prior, data))
    size = sum((FOLDER / name).stat().st_size for name in (MODEL_FILE, ARRAYS_FILE))
    print(f"{FOLDER}: {size / 1024:.0f} KiB, digest {prior.digest[:12]}")


def card(prior: Prior, data: Dataset) -> str:
    """Write the model card."""
    spec = prior.bundle.specification
    levels = ", ".join(
        f"{level:.1f} bps over {horizon} s"
        for level, horizon in zip(spec.spike_levels_bps[-1], spec.horizons, strict=True)
    )
    hours = np.bincount(data.symbol, minlength=len(data.symbols)) * 15.0 / 3600.0
    horizons = ", ".join(f"{horizon} s" for horizon in spec.horizons)
    venues = "\n".join(
        f"| {name} | {time:.0f} |" for name, time in zip(data.symbols, hours, strict=True)
    )
    return f"""# Model card: the shipped prior

Written by `python -m benchmarks.prediction.prior`; do not edit.

- **What it is.** The pooled part of `ml`: a HAR on log ratios to the 900-second volatility, and
  gradient-boosted trees that start at it, for horizons of {horizons}.
  All inputs are free of scale: no price, no size and no level of volatility enters. Its residual
  law comes from forecasts of each venue by a fit that had not seen that venue.
- **What it is for.** A fresh installation forecasts with it from the first warm second
  (`model_variant: prior`), and training on a user's own ticks starts from it.
- **What it is not for.** A promise about one symbol. Own data correct its level within hours.
  Venues without quotes (trades only) inflate volatility by the bid-ask bounce, and some of these
  recordings are such; stablecoin pairs are not among them.
- **Spike levels of an unknown symbol.** {levels}: the median over the venues. Name your own level.
- **Format.** `{MODEL_FILE}` and `{ARRAYS_FILE}`: numbers only, loading runs no code.
- **Digest.** `{prior.digest}`
- **How good it is.** See the study in the README: each venue there is judged with a prior that has
  not seen it.

| recording | hours of labelled rows |
|---|---|
{venues}

{len(data):,} rows, one each 15 s. The recordings are public but mostly carry no licence to
redistribute, so they are not part of this package.
"""


if __name__ == "__main__":
    main()
