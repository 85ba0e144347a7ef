"""Simulate a market that a model can learn from, and a noise market that it cannot."""

from volatility.simulation.simulator import START_PRICES, noise, simulate

__all__ = [
    "START_PRICES",
    "noise",
    "simulate",
]
