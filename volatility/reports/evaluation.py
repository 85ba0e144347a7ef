"""Write an evaluation as JSON and as a page for both traders and engineers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from volatility.evaluation import (
    BASELINE,
    LEAST_BLOCKS,
    LEVEL,
    Evaluation,
    Evidence,
    PairedDifference,
    Placebos,
)
from volatility.evaluation import Verdict as GateVerdict
from volatility.files import write_json, write_whole
from volatility.reports.pages import number, render, signed, span
from volatility.reports.plots import by_qlike, figures, inline, write_plots

__all__ = ["Verdict", "evaluation_page", "verdict", "write_evaluation", "write_plots"]

ML = "ml"
CAPTIONS = {
    "forecast": "The model's volatility forecast with its 5 to 95 % band, and realised volatility,"
    " on the days with its best, median and worst QLIKE relative to the best simple forecast."
    " Nine in ten points should lie inside the band.",
    "qlike": "All models on the same rows, with 95 % intervals. The intervals overlap because a"
    " volatile day raises every model's loss; the paired difference decides.",
    "per_day": "Results by day, to show whether the average depends on a single volatile day.",
    "reliability": "Forecast probability of a spike against the share of spikes, in tenths of the"
    " rows. On the diagonal 0.2 means a spike one time in five; below it, the model is"
    " overconfident.",
    "importances": "Rise of QLIKE when one input is shuffled, on rows not used in training; the"
    " line is one standard deviation. Inputs with the same information share its importance.",
}
SOURCES = {
    "walk-forward": "Walk-forward: every row is forecast by a model trained only on earlier rows,"
    " separated by a gap so that outcomes do not overlap.",
    "model": "One trained model, on rows not used in its training.",
}


@dataclass(frozen=True)
class Verdict:
    """Represent a verdict: a state and one plain sentence."""

    state: Literal["better", "open", "worse", "unknown"]
    sentence: str


@dataclass(frozen=True)
class Line:
    """Represent one paired difference: ml minus the best simple forecast."""

    measure: str
    better: Literal["lower", "higher"]
    difference: float | None
    interval: tuple[float | None, float | None]
    standard_error: float | None

    @property
    def state(self) -> Literal["better", "open", "worse", "unknown"]:
        """Conclusion from the interval."""
        low, high = self.interval
        if low is None or high is None:
            return "unknown"
        if self.better == "higher":
            low, high = -high, -low
        return "better" if high < 0 else "worse" if low > 0 else "open"


@dataclass(frozen=True)
class Opponent:
    """Represent the gate's evidence against one opponent."""

    name: str
    evidence: Evidence


def verdict(evaluation: Evaluation) -> Verdict:
    """Summarise ``ml_vs_best_simple``: only a QLIKE interval that excludes zero is conclusive.

    A failed placebo takes precedence, because it invalidates every figure.
    """
    beaten = _beaten(evaluation.placebo)
    found = _comparison(evaluation)
    if beaten is None:
        return found
    market, model = beaten
    return Verdict(
        "worse",
        f"The placebo failed, so do not trust these figures: on the simulated market {market},"
        f" {_short(model)} beats the true forecast. {found.sentence}",
    )


def _comparison(evaluation: Evaluation) -> Verdict:
    models, versus = evaluation.models, evaluation.ml_vs_best_simple
    if versus is None:
        best = by_qlike(models)[0]
        return Verdict(
            "unknown",
            f"There is no ml model to compare with a simple forecast. {_short(best)} has the lowest"
            f" QLIKE: {number(models[best].qlike)}.",
        )
    low, high = versus.qlike.interval
    if low is None or high is None:
        return Verdict(
            "unknown", "Too few rows to compare the model with the best simple forecast."
        )
    simple = f"the best simple forecast ({versus.baseline})"
    evidence = (
        f"QLIKE {number(models[ML].qlike)} against {number(models[BASELINE].qlike)},"
        f" difference {signed(versus.qlike.difference)},"
        f" 95 % interval {span((low, high), sign=True)}"
    )
    if high < 0:
        return Verdict("better", f"The model is better than {simple}: {evidence}, below zero.")
    if low > 0:
        return Verdict("worse", f"The model is worse than {simple}: {evidence}, above zero.")
    return Verdict(
        "open", f"The model is not shown to be better than {simple}: {evidence}, contains zero."
    )


def _beaten(placebo: Placebos | None) -> tuple[str, str] | None:
    """Return the first market and model where the true forecast was beaten."""
    for market, models in (placebo or {}).items():
        for model, skill in models.items():
            if not skill.passed:
                return market, model
    return None


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.json`` and ``evaluation.html``.

    Parameters
    ----------
    evaluation : Evaluation
    folder : Path
        Created if it does not exist.

    Returns
    -------
    list of Path
        The files written. The page is rendered before either file is changed.
    """
    page = evaluation_page(evaluation)
    return [
        write_json(folder / "evaluation.json", evaluation),
        write_whole(folder / "evaluation.html", page),
    ]


def evaluation_page(evaluation: Evaluation) -> str:
    """Render the page: self-contained, without scripts or external resources."""
    return page_of(evaluation, {name: inline(one) for name, one in figures(evaluation).items()})


def page_of(evaluation: Evaluation, images: Mapping[str, str]) -> str:
    """Render the page of an evaluation, given the addresses of its figures."""
    placebo = evaluation.placebo
    order = by_qlike(evaluation.models)
    return render(
        "evaluation.html",
        evaluation=evaluation,
        verdict=verdict(evaluation),
        order=order,
        names={name: _name(name, evaluation) for name in order},
        parts=[name for name in (ML, BASELINE) if name in order] or order[:1],
        placebo={name: placebo_errors(placebo, name) for name in order},
        placebo_failed=_beaten(placebo) is not None,
        differences=differences(evaluation),
        opponents=_opponents(evaluation.gate),
        least_blocks=LEAST_BLOCKS,
        e_value_needed=1.0 / LEVEL,
        source=SOURCES.get(evaluation.source, evaluation.source),
        plots=[
            {"name": name, "image": image, "caption": CAPTIONS[name]}
            for name, image in images.items()
        ],
    )


def placebo_errors(placebo: Placebos | None, model: str) -> float | None:
    """Return a model's largest skill over all placebo markets, in standard errors."""
    found = [
        value / error
        for models in (placebo or {}).values()
        if (found := models.get(model)) is not None
        for value, error in (
            (found.skill, found.standard_error),
            (found.pr_auc_skill, found.pr_auc_standard_error),
        )
        if value is not None and error
    ]
    return max(found, default=None)


def differences(evaluation: Evaluation) -> list[Line]:
    """Return the paired differences: every measure, then QLIKE by horizon, PR-AUC by level."""
    versus = evaluation.ml_vs_best_simple
    if versus is None:
        return []
    return [
        _line("QLIKE", "lower", versus.qlike),
        _line("CRPS [bps]", "lower", versus.crps_bps),
        _line("PR-AUC", "higher", versus.pr_auc),
        _line("Brier score", "lower", versus.brier),
        *(
            _line(f"QLIKE over {name.removesuffix('s')} s", "lower", found.qlike)
            for name, found in versus.horizons.items()
            if name != f"{evaluation.horizon_seconds}s"
        ),
        *(
            _line(f"PR-AUC, level at quantile {level}", "higher", found.pr_auc)
            for level, found in versus.levels.items()
        ),
    ]


def _line(measure: str, better: Literal["lower", "higher"], found: PairedDifference) -> Line:
    return Line(measure, better, found.difference, found.interval, found.standard_error)


def _opponents(gate: GateVerdict | None) -> list[Opponent]:
    if gate is None:
        return []
    against = [
        (f"best simple forecast ({gate.best_simple})", gate.evidence),
        (f"champion (version {gate.champion})", gate.against_champion),
    ]
    return [Opponent(name, evidence) for name, evidence in against if evidence is not None]


def _name(model: str, evaluation: Evaluation) -> str:
    if model != BASELINE:
        return model
    if evaluation.folds:
        return "best simple (as chosen per fold)"
    return f"best simple ({evaluation.model.best_simple})"


def _short(model: str) -> str:
    return "best simple" if model == BASELINE else model
