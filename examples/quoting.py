"""Quote around the midprice, wider when the market is: ``python examples/quoting.py BTC-USD``."""

from __future__ import annotations

import sys

from volatility.client import Client, Forecast

TIGHTEST_BPS = 1.0
SHARE = 0.5  # of the move that is expected over a minute


def quotes(forecast: Forecast) -> tuple[float, float] | None:
    """Return bid and ask; None where the forecast is not to be trusted."""
    if forecast.state != "ok" or forecast.out_of_distribution or forecast.midprice is None:
        return None
    move = forecast.horizons["60s"].expected_move_bps or 0.0
    half = max(TIGHTEST_BPS, SHARE * move) / 1e4
    return forecast.midprice * (1.0 - half), forecast.midprice * (1.0 + half)


def main(symbol: str, url: str = "http://localhost:3000", steps: str = "0") -> None:
    """Print quotes every second, forever or for some steps."""
    with Client(url) as client:
        for step, forecast in enumerate(client.stream([symbol]), 1):
            found = quotes(forecast)
            shown = "no quotes" if found is None else f"{found[0]:.2f} / {found[1]:.2f}"
            print(forecast.as_of[:19], symbol, shown, flush=True)
            if step == int(steps):
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
