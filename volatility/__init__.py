"""Forecast the short-horizon volatility of crypto pairs, and the probability of spikes."""

__version__ = "0.1.0"

__all__ = ["__version__"]
