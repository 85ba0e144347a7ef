"""Fetch the public recordings of vendors, a day at a time, straight into a lake."""

from volatility.fetch.days import VENDORS, FetchReport, Request, fetch
from volatility.fetch.download import FetchError, Pace

__all__ = ["VENDORS", "FetchError", "FetchReport", "Pace", "Request", "fetch"]
