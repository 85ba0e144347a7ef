"""Provide the content of an evaluation, as tests of pages and figures need it."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from volatility.evaluation import Evaluation
from volatility.evaluation.evidence import Evidence
from volatility.files import plain

Json = dict[str, Any]

LOSSES = {"prior": 2.61, "ml": 2.67, "har": 2.74, "garch": 2.80, "baseline": 2.86, "constant": 3.39}
SCORES = {"prior": 0.5, "ml": 0.49, "har": 0.48, "garch": 0.46, "baseline": 0.47, "constant": 0.13}
FEATURES = [f"feature_{k}" for k in range(18)]


def _model(name: str) -> Json:
    loss, area = LOSSES[name], SCORES[name]
    score = np.linspace(0.02, 0.45, 10)
    return {
        "qlike": loss,
        "qlike_interval": [loss - 0.2, loss + 0.25],
        "crps_bps": 0.3 * loss,
        "pr_auc": area,
        "pr_auc_interval": [area - 0.04, area + 0.05],
        "roc_auc": 0.5 + area,
        "pinball_bps": {"0.5": 0.4},
        "levels": {},
        "horizons": {},
        "brier": 0.09,
        "log_score": 0.3,
        "calibration_error": 0.021,
        "pit_error": 0.034,
        "reliability": {"score": score, "share": score * 1.1, "weight": np.full(10, 0.1)},
        "threshold": 0.31,
        "precision": 0.42,
        "recall": 0.18,
        "alerts_per_hour": 4.1,
        "event_recall": 0.84,
        "lead_seconds": 60.0,
        "events": 174,
    }


def _difference(value: float, error: float) -> Json:
    return {
        "difference": value,
        "interval": [value - 2 * error, value + 2 * error],
        "standard_error": error,
    }


def _part() -> Json:
    return {
        "rows": 5_000,
        "effective_windows": 833,
        "base_rate": 0.167,
        "models": {
            name: {"qlike": loss, "crps_bps": 0.3 * loss, "pr_auc": SCORES[name], "brier": 0.09}
            for name, loss in LOSSES.items()
        },
    }


def _day(title: str, date: str) -> Json:
    count = 60
    forecast = 2.0 + np.sin(np.arange(count) / 7.0)
    return {
        "title": title,
        "symbol": "BTC-USD",
        "date": date,
        "gain": 0.2,
        # An hour is missing in the middle.
        "time": [
            f"{date}T{9 + (k >= 30) + k // 30:02d}:{2 * (k % 30):02d}:00+00:00"
            for k in range(count)
        ],
        "forecast_bps": forecast,
        "low_bps": 0.1 * forecast,
        "high_bps": 2.2 * forecast,
        "realised_bps": forecast[::-1],
    }


def placebo_skill(skill: float = -0.01, area: float = -0.02) -> Json:
    passed = skill <= 0.012 and area <= 0.03
    return {
        "skill": skill,
        "standard_error": 0.004,
        "pr_auc_skill": area,
        "pr_auc_standard_error": 0.01,
        "passed": passed,
    }


def _gate() -> Json:
    evidence = msgspec.to_builtins(Evidence(blocks=119, mean=0.031, best=math.log(8.2)))
    return {
        "recipe": "ab" * 32,
        "earned": False,
        "kind": "promotion",
        "reasons": ["no improvement over <har> yet"],
        "champion": "3",
        "best_simple": "har, garch",
        "evidence": evidence,
        "against_champion": evidence | {"blocks": 57},
        "refresh": None,
    }


def evaluation_of_five_days() -> Json:
    """Return what an evaluation of five days looks like, numpy values included."""
    dates = ["2025-12-01", "2025-12-05", "2025-12-06", "2026-04-03", "2026-04-04"]
    return {
        "source": "walk-forward",
        "rows": 27_431,
        "effective_windows": 4_571,
        "blocks": 119,
        "base_rate": 0.167,
        "symbols": ["BTC-USD", "ETH-USD"],
        "start": "2025-12-01T14:03:11+00:00",
        "stop": "2026-04-04T21:13:43+00:00",
        "horizon_seconds": 60,
        "horizons_seconds": [60, 300],
        "level_quantiles": [0.9, 0.99],
        "spike_levels_bps": {"BTC-USD": 3.842, "ETH-USD": 5.5},
        "block_seconds": 1200,
        "resamples": 1000,
        "models": {name: _model(name) for name in sorted(LOSSES)},
        "ml_vs_best_simple": {
            "baseline": "har, garch",
            "qlike": _difference(-0.19, 0.05),
            "crps_bps": _difference(-0.014, 0.012),
            "pr_auc": _difference(0.02, 0.005),
            "brier": _difference(0.009, 0.004),
            "diebold_mariano": {"statistic": -1.92, "p_value": np.float64(0.054)},
            "horizons": {
                "60s": {"qlike": _difference(-0.19, 0.05)},
                "300s": {"qlike": _difference(-0.35, 0.1)},
            },
            "levels": {
                "0.9": {"pr_auc": _difference(0.02, 0.005)},
                "0.99": {"pr_auc": _difference(-0.05, 0.01)},
            },
        },
        "per_symbol": [{"name": name, **_part()} for name in ("BTC-USD", "ETH-USD")],
        "per_day": [{"date": date, **_part()} for date in dates],
        "folds": [
            {
                "fold": k,
                "train_rows": 6_000 * k,
                "train_stop": "2025-12-05T10:00:00+00:00",
                "best_simple": "har",
                **_part(),
            }
            for k in range(1, 5)
        ],
        "confidence_set": {
            "included": ["ml", "prior"],
            "p_values": dict.fromkeys(LOSSES, 0.5),
            "size": 0.1,
        },
        "days": [
            _day(title, date)
            for title, date in zip(("best", "median", "worst"), dates, strict=False)
        ],
        "importances": [
            {"feature": name, "importance": 0.4 / (k + 1), "standard_deviation": 0.003}
            for k, name in enumerate(FEATURES)
        ],
        "model": {
            "digest": "9f2c" * 16,
            "recipe": "bd87" * 16,
            "train_start": "2025-12-01T14:03:11+00:00",
            "train_stop": "2026-04-03T23:00:00+00:00",
            "train_rows": 21_329,
            "best_simple": "garch",
            "threshold": 0.3127,
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
        },
        "placebo": {
            "constant": {name: placebo_skill() for name in LOSSES},
            "har": {name: placebo_skill(area=0.005) for name in LOSSES},
        },
        "gate": _gate(),
    }


def evaluation_of_little() -> Json:
    """Return an evaluation of few rows without one spike, by one model, with no gate."""
    result = evaluation_of_five_days()
    nan = float("nan")
    nothing = {"difference": nan, "interval": [nan, nan], "standard_error": nan}
    unmeasured = dict.fromkeys(("pr_auc", "calibration_error", "event_recall", "lead_seconds"))
    unmeasured["reliability"] = {"score": [None], "share": [None], "weight": [0.0]}
    for model in result["models"].values():
        model.update(unmeasured | {"qlike_interval": [nan, nan]})
    versus = result["ml_vs_best_simple"]
    versus |= dict.fromkeys(("qlike", "crps_bps", "pr_auc", "brier"), nothing)
    versus["horizons"]["300s"]["qlike"] = nothing
    versus["diebold_mariano"] = {"statistic": nan, "p_value": nan}
    result["placebo"]["har"]["ml"] |= {"pr_auc_skill": nan, "pr_auc_standard_error": math.inf}
    return result | {
        "base_rate": 0.0,
        "source": "model",
        "per_day": [],
        "folds": [],
        "days": [],
        "importances": [],
        "gate": None,
    }


def typed(content: Json) -> Evaluation:
    return msgspec.convert(plain(content), Evaluation)
