"""Make the first model where none is registered: ``python -m streaming.first_model``.

The compose stack runs it once: score and service have nothing to answer with before. It trains on
two days of the simulated market, in about a minute; the gate is the usual one, so often the best
baseline serves. Where that market is what the stack streams (``standing_market``), its past goes
into the lake. Where the stack streams a real one (``--aside``), simulated ticks stay out of the
lake and the model out of ``champion``: the best simple forecast serves until the train flow has
had real ticks to train on.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from streaming import standing_market
from volatility import registry, stages
from volatility.kernel_state import SECOND
from volatility.lake import LakeError
from volatility.model import TrainingError
from volatility.registry import RegistryError
from volatility.settings import Settings, SettingsError, Simulate, load

logger = logging.getLogger(__name__)

ASIDE = Path("data/first-model")


def make(settings: Settings, paths: stages.Paths, *, aside: bool, now_ns: int) -> str | None:
    """Simulate, train, register and, if it has earned it, promote; give the version.

    None where a version is registered: then nothing is done.

    Raises
    ------
    RegistryError
        When the registry cannot be reached.
    TrainingError
        When the placebo finds skill on noise.
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
    logger.info("%d simulated records from %s on", rows, begin.isoformat())
    stages.make_features(settings, paths, progress=False)
    registered = stages.train(settings, paths, progress=False)
    logger.info("%s version %s is registered", registered.name, registered.version)
    if not aside:
        _, verdict = stages.promote(settings, paths)
        logger.info("%s", "; ".join(verdict["reasons"]) or "it is champion")
    return registered.version


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 there is a model, 1 there is none and one line says why."""
    parser = argparse.ArgumentParser(
        prog="python -m streaming.first_model",
        description="Train the first model on a simulated market, where none is registered.",
        epilog="example: python -m streaming.first_model",
    )
    parser.add_argument("--aside", action="store_true", help=f"Keep its ticks in {ASIDE}.")
    aside: bool = parser.parse_args(arguments).aside
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
        logger.info("a model is registered already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
