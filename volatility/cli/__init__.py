"""The ``volatility`` command."""
