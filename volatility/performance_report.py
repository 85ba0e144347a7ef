"""Write live performance as JSON, newest and one file a run, and as a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from volatility.pages import number, plain, render, signed, span, stamp, write_json, write_whole
from volatility.plots import inline, live, ranked
from volatility.report import Verdict

FOLDER, PAGE = "performance", "performance.html"


def write_performance(performance: Mapping[str, Any], folder: Path, now: datetime) -> list[Path]:
    """Write ``performance/<time>.json``, ``performance/latest.json`` and ``performance.html``.

    Parameters
    ----------
    performance : mapping
        What ``performance.measure`` gives.
    folder : Path
        Of the reports.
    now : datetime
        Time of the run.
    """
    content = plain(performance) | {"checked": now.isoformat(timespec="seconds")}
    page = performance_page(content)
    return [
        write_json(folder / FOLDER / f"{stamp(now)}.json", content),
        write_whole(folder / PAGE, page),
        write_json(folder / FOLDER / "latest.json", content),
    ]


def performance_page(performance: Mapping[str, Any]) -> str:
    """Render the page: self-contained, no script, nothing loaded from elsewhere."""
    return render(
        PAGE,
        performance=performance,
        verdict=verdict(performance),
        order=ranked(performance["models"]),
        image=inline(live(performance)) if performance["rolling"] else None,
    )


def verdict(performance: Mapping[str, Any]) -> Verdict:
    """Say in a sentence what live predictions were worth; scores that differ come first."""
    parity = performance.get("parity")
    if parity and parity["differ"]:
        return Verdict(
            "worse",
            f"{parity['differ']:,} of {parity['rows']:,} live scores are not those of the same"
            " feature rows: the stream and the lake disagree.",
        )
    models = performance["models"]
    if not models or performance["reason"]:
        return Verdict("unknown", f"Nothing to judge yet: {performance['reason']}.")
    serving = performance["serving"]["model"]
    base = number(performance["base_rate"])
    if serving == "baseline":
        area = number(models["baseline"]["pr_auc"])
        return Verdict("open", f"The baseline serves: live PR-AUC {area}, base rate {base}.")
    evidence = (
        f"live PR-AUC {number(models[serving]['pr_auc'])} against"
        f" {number(models['baseline']['pr_auc'])}, base rate {base}"
    )
    found = performance["versus_baseline"].get(serving)
    if found is None or None in found["interval"]:
        return Verdict("unknown", f"Too few rows to judge: {evidence}.")
    low, high = found["interval"]
    evidence += (
        f", difference {signed(found['difference'])}, 95 % interval {span((low, high), sign=True)}"
    )
    if low > 0:
        return Verdict("better", f"The champion beats the baseline: {evidence}.")
    if high < 0:
        return Verdict("worse", f"The champion is worse than the baseline: {evidence}.")
    return Verdict("open", f"The champion is not told from the baseline: {evidence}.")


def lines(performance: Mapping[str, Any]) -> str:
    """Lay the figures out for a terminal: the verdict, then a line a model."""
    result = [verdict(performance).sentence]
    for name in ranked(performance["models"]):
        found = performance["models"][name]
        result.append(
            f"{name:<10} version {found['model_version']}: PR-AUC {number(found['pr_auc'])},"
            f" Brier {number(found['brier'], 4)}, precision {number(found['precision'])},"
            f" recall {number(found['recall'])}, alerts/h {number(found['alerts_per_hour'], 1)}"
        )
    return "\n".join(result)
