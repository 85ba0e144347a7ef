"""Serve scores over HTTP: a thin BentoML service around ``volatility``."""
