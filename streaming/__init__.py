"""Run the long-lived processes around the event log; the domain itself is ``volatility``."""
