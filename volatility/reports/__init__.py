"""Write the pages and figures under ``reports/``."""

from volatility.reports.imports import import_lines, preview_lines
from volatility.reports.index import write_index
from volatility.reports.pages import render
from volatility.reports.performance import lines, verdict, write_performance
from volatility.reports.plots import GREY, by_qlike, inline
from volatility.reports.terminal import drift_line, leaderboard

__all__ = [
    "GREY",
    "by_qlike",
    "drift_line",
    "import_lines",
    "inline",
    "leaderboard",
    "lines",
    "preview_lines",
    "render",
    "verdict",
    "write_index",
    "write_performance",
]
