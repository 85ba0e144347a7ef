"""Train a first model if none is registered: ``python -m volatility.dev.first_model``.

The compose stack runs it once; until then, the shipped prior serves. It trains on two days of the
simulated market in about a minute. The gate is the usual one, so often the best simple forecast
serves. If the stack streams that market (``standing_market``), its past is written to the lake.
If the stack streams a real market (``--aside``), the simulated ticks are kept out of the lake and
the model is not promoted: the best simple forecast serves until the train flow has real ticks to
train on.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from volatility import registry, stages
from volatility.dev import standing_market
from volatility.lake import LakeError
from volatility.models import TrainingError
from volatility.registry import RegistryError
from volatility.settings import Settings, SettingsError, Simulate, disable_telemetry, load
from volatility.units import SECOND

logger = logging.getLogger(__name__)

ASIDE = Path("data/first-model")


def make(settings: Settings, paths: stages.Paths, *, aside: bool, now_ns: int) -> str | None:
    """Simulate, train, register and, if it passes the gate, promote; return the version.

    None if a version was already registered; then nothing is done.

    Raises
    ------
    RegistryError
        When the registry cannot be reached.
    TrainingError
        When the placebo test finds skill on noise.
    """
    if registry.latest() is not None:
        return None
    market = standing_market.standing(paths.ticks, now_ns)
    begin = datetime.fromtimestamp(market.start_ns // SECOND, UTC)
    past = Simulate(
        symbols=standing_market.SYMBOLS,
        hours=standing_market.PAST_HOURS,
        start=begin.strftime("%Y%m%dT%H%M%S"),
        seed=settings.simulate.seed,
    )
    settings = msgspec.structs.replace(settings, simulate=past)
    rows = stages.simulate_ticks(settings, paths, progress=False)
    logger.info("simulated %d records, starting at %s", rows, begin.isoformat())
    stages.make_features(settings, paths, progress=False)
    done = stages.train(settings, paths, progress=False)
    logger.info("registered %s version %s", done.version.name, done.version.version)
    if not aside:
        _, verdict = stages.promote(settings, paths, done.trained)
        logger.info("%s", "; ".join(verdict.reasons) or "promoted to champion")
    return done.version.version


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return 0 if a model is registered, else 1 after one line that says why."""
    parser = argparse.ArgumentParser(
        prog="python -m volatility.dev.first_model",
        description="Train a first model on a simulated market if none is registered.",
        epilog="example: python -m volatility.dev.first_model",
    )
    parser.add_argument(
        "--aside",
        action="store_true",
        help=f"Write the simulated ticks to {ASIDE} and do not promote the model.",
    )
    aside: bool = parser.parse_args(arguments).aside
    disable_telemetry()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    paths = stages.Paths()
    if aside:
        paths = stages.Paths(ticks=ASIDE / "ticks", features=ASIDE / "features")
    try:
        version = make(load(), paths, aside=aside, now_ns=time.time_ns())
    except (RegistryError, TrainingError, SettingsError, LakeError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if version is None:
        logger.info("a model is already registered")
    return 0


if __name__ == "__main__":
    sys.exit(main())
