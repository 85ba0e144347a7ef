"""Summarise a symbol's last hour: ``python examples/pandas_history.py BTC-USD``."""

from __future__ import annotations

import sys

from volatility.client import Client


def main(symbol: str, url: str = "http://localhost:3000") -> None:
    """Print, for each horizon, what was forecast and how far it ranged."""
    with Client(url) as client:
        frame = client.history(symbol).to_pandas()
    if frame.empty:
        print(f"no forecasts of {symbol} in the last hour")
        return
    by_horizon = frame.groupby("horizon_seconds")["volatility_bps"]
    print(by_horizon.describe()[["count", "min", "50%", "max"]].round(2))


if __name__ == "__main__":
    main(*sys.argv[1:])
