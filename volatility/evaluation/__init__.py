"""Evaluate models: scores, intervals, placebo markets, drift and the promotion gate."""

from volatility.evaluation.blocks import clock_blocks, symbol_weights
from volatility.evaluation.bootstrap import Difference, difference, draw_blocks, mean_draws
from volatility.evaluation.drift import DriftError, DriftResult, TooFewRowsError, compare
from volatility.evaluation.evaluate import EvaluationError, evaluate, evaluate_bundle
from volatility.evaluation.evidence import (
    LEAST_BLOCKS,
    LEVEL,
    Accounts,
    Evidence,
    earned,
    not_worse,
    observe,
    refuted,
    restart,
)
from volatility.evaluation.gate import Champion, Verdict, judge
from volatility.evaluation.live_results import Demotion, Judgement, LiveModel, LivePerformance
from volatility.evaluation.live_rows import Live
from volatility.evaluation.markets import PlaceboMarket, placebo_markets
from volatility.evaluation.performance import Gains, measure_captured
from volatility.evaluation.placebo import STANDARD_ERRORS, Placebo, run_placebo
from volatility.evaluation.predictions import (
    BASELINE,
    FoldSummary,
    Predictions,
    Said,
    WalkForward,
    predict,
    read_predictions,
    realised_bps,
    require_rows,
    unseen,
    walk_forward_predictions,
    write_predictions,
)
from volatility.evaluation.resampled import block_gains, precision, resample, spikes_of
from volatility.evaluation.results import Evaluation, ModelFigures, PairedDifference, Placebos
from volatility.evaluation.scores import average_precision, brier, log_score, pit_error, qlike_bps
from volatility.evaluation.versus import versus

__all__ = [
    "BASELINE",
    "LEAST_BLOCKS",
    "LEVEL",
    "STANDARD_ERRORS",
    "Accounts",
    "Champion",
    "Demotion",
    "Difference",
    "DriftError",
    "DriftResult",
    "Evaluation",
    "EvaluationError",
    "Evidence",
    "FoldSummary",
    "Gains",
    "Judgement",
    "Live",
    "LiveModel",
    "LivePerformance",
    "ModelFigures",
    "PairedDifference",
    "Placebo",
    "PlaceboMarket",
    "Placebos",
    "Predictions",
    "Said",
    "TooFewRowsError",
    "Verdict",
    "WalkForward",
    "average_precision",
    "block_gains",
    "brier",
    "clock_blocks",
    "compare",
    "difference",
    "draw_blocks",
    "earned",
    "evaluate",
    "evaluate_bundle",
    "judge",
    "log_score",
    "mean_draws",
    "measure_captured",
    "not_worse",
    "observe",
    "pit_error",
    "placebo_markets",
    "precision",
    "predict",
    "qlike_bps",
    "read_predictions",
    "realised_bps",
    "refuted",
    "require_rows",
    "resample",
    "restart",
    "run_placebo",
    "spikes_of",
    "symbol_weights",
    "unseen",
    "versus",
    "walk_forward_predictions",
    "write_predictions",
]
