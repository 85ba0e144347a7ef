"""Write an evaluation as JSON and as a page that a desk and an engineer can both read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from volatility.pages import number, plain, render, signed, span, write_json, write_whole
from volatility.plots import figures, inline, ranked, write_plots

__all__ = ["Verdict", "evaluation_page", "verdict", "write_evaluation", "write_plots"]

CAPTIONS = {
    "precision_recall": "Of the rows above a score, the share that spiked, against the share of all"
    " spikes found. A score without information lies on the dashed line.",
    "reliability": "What was forecast against what happened. On the diagonal a score of 0.2 means"
    " a spike one time in five; below it the score promises too much.",
    "per_day": "Each day on its own: an average must not live on one lively day.",
    "importances": "PR-AUC lost when one input is shuffled, on rows not trained on; the line is one"
    " standard deviation. Inputs that say the same share their importance.",
}
SOURCES = {
    "walk-forward": "Walk-forward: every row is scored by a model trained on earlier rows only,"
    " with a gap in between so that no label overlaps.",
    "model": "One trained model, on rows it has not trained on.",
}


@dataclass(frozen=True)
class Verdict:
    """Say whether the model beats the best baseline: a state, and one plain sentence."""

    state: Literal["better", "open", "worse", "unknown"]
    sentence: str


def verdict(evaluation: Mapping[str, Any]) -> Verdict:
    """Judge ``ml_vs_best_baseline``: only an interval clear of zero decides.

    A failed placebo comes first: it takes the ground from under every figure.
    """
    found = _comparison(evaluation)
    placebo = evaluation["placebo"]
    if placebo and not placebo["passed"]:
        return Verdict("worse", f"The placebo failed, so believe nothing here. {found.sentence}")
    return found


def _comparison(evaluation: Mapping[str, Any]) -> Verdict:
    versus = evaluation["ml_vs_best_baseline"]
    models, name = evaluation["models"], versus["baseline"]
    low, high = versus["interval"]
    if low is None or high is None or versus["difference"] is None:
        return Verdict("unknown", "Too few spikes to compare the model with its baselines.")
    evidence = (
        f"PR-AUC {number(models['ml']['pr_auc'])} against {number(models[name]['pr_auc'])},"
        f" difference {signed(versus['difference'])},"
        f" 95 % interval {span((low, high), sign=True)}"
    )
    if low > 0:
        return Verdict(
            "better", f"The model beats the best baseline ({name}): {evidence}, clear of zero."
        )
    if high < 0:
        return Verdict(
            "worse", f"The model is worse than the best baseline ({name}): {evidence}, below zero."
        )
    return Verdict(
        "open",
        f"The model is not shown to beat the best baseline ({name}): {evidence}, contains zero.",
    )


def write_evaluation(evaluation: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``evaluation.json`` and ``evaluation.html``.

    Parameters
    ----------
    evaluation : mapping
        The result of an evaluation; numpy values are welcome, NaN becomes null.
    folder : Path
        Made where it does not exist.

    Returns
    -------
    list of Path
        What was written. The page is drawn before either file is touched.
    """
    page = evaluation_page(evaluation)
    return [
        write_json(folder / "evaluation.json", evaluation),
        write_whole(folder / "evaluation.html", page),
    ]


def evaluation_page(evaluation: Mapping[str, Any]) -> str:
    """Render the page: self-contained, no script, nothing loaded from elsewhere."""
    content = plain(evaluation)
    return render(
        "evaluation.html",
        evaluation=content,
        verdict=verdict(content),
        order=ranked(content["models"]),
        source=SOURCES.get(content["source"], content["source"]),
        plots=[
            {"name": name, "image": inline(figure), "caption": CAPTIONS[name]}
            for name, figure in figures(content).items()
        ],
    )
