"""Write live performance as JSON, one file per run plus the latest, and as a page."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from msgspec.structs import replace

from volatility.evaluation import BASELINE, LivePerformance
from volatility.files import write_json, write_whole
from volatility.reports.evaluation import Verdict
from volatility.reports.pages import number, render, signed, span, stamp
from volatility.reports.plots import inline, live, ranked

FOLDER, PAGE = "performance", "performance.html"


def write_performance(performance: LivePerformance, folder: Path, now: datetime) -> list[Path]:
    """Write ``performance/<time>.json``, ``performance/latest.json`` and ``performance.html``.

    Parameters
    ----------
    performance : LivePerformance
    folder : Path
        Folder of the reports.
    now : datetime
        Time of the run.
    """
    content = replace(performance, checked=now.isoformat(timespec="seconds"))
    page = performance_page(content)
    return [
        write_json(folder / FOLDER / f"{stamp(now)}.json", content),
        write_whole(folder / PAGE, page),
        write_json(folder / FOLDER / "latest.json", content),
    ]


def performance_page(performance: LivePerformance) -> str:
    """Render the page: self-contained, without scripts or external resources."""
    return render(
        PAGE,
        performance=performance,
        verdict=verdict(performance),
        order=ranked(performance.models),
        image=inline(live(performance)) if performance.rolling else None,
    )


def verdict(performance: LivePerformance) -> Verdict:
    """Summarise live performance in a sentence; a parity failure takes precedence."""
    parity, demotion = performance.parity, performance.demotion
    if parity is not None and parity.differ:
        return Verdict(
            "worse",
            f"{parity.differ:,} of {parity.rows:,} live forecasts differ from those of the"
            " same feature rows: the stream and the lake disagree.",
        )
    if demotion is not None:
        return Verdict("worse", f"Version {demotion.version} was demoted: {demotion.reason}.")
    models, serving = performance.models, performance.serving
    if not models or serving is None or performance.reason:
        return Verdict("unknown", f"Nothing to evaluate yet: {performance.reason}.")
    base = number(performance.base_rate)
    mine = models[serving.model]
    if BASELINE not in models or serving.model == BASELINE:
        title = "The best simple forecast" if serving.model == BASELINE else f"The {serving.model}"
        return Verdict(
            "open",
            f"{title} serves: live QLIKE {number(mine.qlike)}, PR-AUC"
            f" {number(mine.pr_auc)}, base rate {base}.",
        )
    simple = models[BASELINE]
    evidence = (
        f"live QLIKE {number(mine.qlike)} against {number(simple.qlike)}, PR-AUC"
        f" {number(mine.pr_auc)} against {number(simple.pr_auc)}, base rate {base}"
    )
    found = performance.versus_baseline.get(serving.model)
    low, high = (None, None) if found is None else found.qlike.interval
    if found is None or low is None or high is None:
        return Verdict("unknown", f"Too few rows for a verdict: {evidence}.")
    evidence += (
        f", difference of QLIKE {signed(found.qlike.difference)}, 95 % interval"
        f" {span((low, high), sign=True)}"
    )
    if high < 0:
        return Verdict("better", f"The champion beats the best simple forecast: {evidence}.")
    if low > 0:
        return Verdict("worse", f"The champion is worse than the best simple forecast: {evidence}.")
    text = f"No significant difference between champion and best simple forecast: {evidence}."
    return Verdict("open", text)


def lines(performance: LivePerformance) -> str:
    """Format the figures for a terminal: the verdict, then one line per model."""
    result = [verdict(performance).sentence]
    for name in ranked(performance.models):
        found = performance.models[name]
        result.append(
            f"{name:<10} version {found.model_version}: QLIKE {number(found.qlike)},"
            f" PR-AUC {number(found.pr_auc)}, Brier {number(found.brier, 4)},"
            f" precision {number(found.precision)}, recall {number(found.recall)},"
            f" alerts/h {number(found.alerts_per_hour, 1)}"
        )
    return "\n".join(result)
