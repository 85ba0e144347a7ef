"""Print a line when a spike becomes likely: ``python examples/alert_bot.py``.

The stream continues without a hole after a cut, so no alert is missed and none comes twice.
"""

from __future__ import annotations

import asyncio
import sys

from volatility.client import AsyncClient

LIKELY = 0.3  # probability of a spike over the next minute


async def main(url: str = "http://localhost:3000", likely: str = str(LIKELY)) -> None:
    """Follow every symbol until stopped."""
    alarmed: set[str] = set()
    async with AsyncClient(url) as client:
        async for forecast in client.stream():
            minute = forecast.horizons["60s"]
            probability = minute.spike_probability or 0.0
            if probability >= float(likely) and forecast.symbol not in alarmed:
                alarmed.add(forecast.symbol)
                print(
                    f"{forecast.as_of[:19]} {forecast.symbol}: {probability:.0%} for "
                    f"{minute.spike_level_bps:.1f} bps within a minute",
                    flush=True,
                )
            elif probability < float(likely):
                alarmed.discard(forecast.symbol)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
