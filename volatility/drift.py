"""Tell whether the market still looks like the rows that a model was trained on.

Drift is an effect size, the Wasserstein distance in standard deviations of the training rows.
Tests of significance are of no use here: market rows depend on each other, so p-values always
fire. Like is held against like: only model inputs are compared, and these are scale-free, so a
new price level, or a market twice as volatile, is no drift by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from volatility.feature_table import INDEX, MODEL_INPUTS
from volatility.features import FeatureFrame
from volatility.kernel_state import SECOND
from volatility.settings import Drift

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MINIMUM_ROWS = 300  # of a side; fewer are five independent minutes and show chance alone
MINIMUM_VALUES = 30  # of an input on a side, below which it counts as absent there
MOST_ROWS = 10_000  # of a side that are compared: chance moves a distance by 0.01 there
MISSING_SHIFT = 0.5  # change of an input's missing share that is drift, whatever its values
EVIDENTLY_FLOOR = 0.001  # Evidently divides by no smaller deviation than this
ROUNDING = 1e-9  # deviation over mean of a column that is constant but for rounding


class DriftError(ValueError):
    """Rows that cannot be compared; the text says which and what to do."""


@dataclass(frozen=True)
class Sample:
    """Hold one side of the comparison.

    Parameters
    ----------
    rows : int
        Rows that the side has.
    start, stop : int
        First and last step [ns].
    symbols : tuple of str
    inputs : float64[n, len(MODEL_INPUTS)]
        The rows themselves, or evenly likely ones of them; NaN is missing.
    """

    rows: int
    start: int
    stop: int
    symbols: tuple[str, ...]
    inputs: Floats


@dataclass(frozen=True)
class FeatureDrift:
    """Hold how far one input moved: None where a side has too few values to tell.

    ``distance`` is in deviations of the reference; the missing shares lie in 0 to 1.
    """

    feature: str
    distance: float | None
    drifted: bool
    missing_reference: float
    missing_current: float


@dataclass(frozen=True)
class DriftResult:
    """Hold a comparison; ``html`` is Evidently's own page of it.

    ``per_feature`` is sorted by distance, those without one first where they drifted and last
    where they did not. ``features`` counts the inputs that at least one side has.
    """

    reference: Sample
    current: Sample
    after_training: bool
    threshold: float
    drift_share_threshold: float
    per_feature: tuple[FeatureDrift, ...]
    html: str

    @property
    def features(self) -> int:
        """Number of inputs that at least one side has."""
        return sum(f.distance is not None or f.drifted for f in self.per_feature)

    @property
    def drifted_features(self) -> int:
        """Number of inputs that have drifted."""
        return sum(feature.drifted for feature in self.per_feature)

    @property
    def drift_share(self) -> float:
        """Share of the inputs that have drifted."""
        return self.drifted_features / self.features

    @property
    def alert(self) -> bool:
        """Whether so many inputs have drifted that someone should look."""
        return self.drift_share >= self.drift_share_threshold

    def summary(self) -> dict[str, Any]:
        """Give the content of ``drift.json``."""
        sides = {"reference": self.reference, "current": self.current}
        result: dict[str, Any] = {
            name: {
                "rows": side.rows,
                "compared_rows": len(side.inputs),
                "start": _iso(side.start),
                "stop": _iso(side.stop),
                "symbols": list(side.symbols),
            }
            for name, side in sides.items()
        }
        result["current"]["after_training"] = self.after_training
        return result | {
            "features": self.features,
            "drifted_features": self.drifted_features,
            "drift_share": self.drift_share,
            "drift_share_threshold": self.drift_share_threshold,
            "alert": self.alert,
            "threshold": self.threshold,
            "per_feature": [asdict(feature) for feature in self.per_feature],
        }


def compare(
    frames: Sequence[FeatureFrame], train_start_ns: int, train_stop_ns: int, settings: Drift
) -> DriftResult:
    """Hold the newest rows after a model's training against those in it: ``select``, measure.

    Takes and raises what ``select`` and ``drift_report`` do.
    """
    reference, current, after_training = select(frames, train_start_ns, train_stop_ns, settings)
    return drift_report(reference, current, settings, after_training=after_training)


def select(
    frames: Sequence[FeatureFrame], train_start_ns: int, train_stop_ns: int, settings: Drift
) -> tuple[Sample, Sample, bool]:
    """Choose the reference and the current rows.

    Rows count from the moment that the baseline volatility is warm, as they do in training.
    Those of the newest ``settings.hours`` are current, as far as they lie after the training
    window. Where these are fewer than ``MINIMUM_ROWS``, the newest ``settings.current_share`` of
    all rows are current, and the reference is what of the window lies before them.

    Parameters
    ----------
    frames : sequence of FeatureFrame
        All symbols; they are pooled, because one model serves them all.
    train_start_ns, train_stop_ns : int
        First and last step of the training rows, nanoseconds since the epoch.
    settings : Drift
        Hours, share and thresholds.

    Returns
    -------
    Sample, Sample, bool
        Reference, current, and whether the current rows lie after the training window.

    Raises
    ------
    DriftError
        When a side has fewer than ``MINIMUM_ROWS`` rows.
    """
    warm = [frame.column("realised_volatility_900s") > 0.0 for frame in frames]
    newest_ns = max(
        (int(f.time[w][-1]) for f, w in zip(frames, warm, strict=True) if w.any()), default=0
    )
    recent_ns = max(train_stop_ns, newest_ns - int(settings.hours * 3600) * SECOND)
    after = [w & (f.time > recent_ns) for f, w in zip(frames, warm, strict=True)]
    after_training = _count(after) >= MINIMUM_ROWS
    last_ns = train_stop_ns
    if not after_training:
        time = np.concatenate([f.time[w] for f, w in zip(frames, warm, strict=True)])
        if not len(time):
            raise DriftError("no row has a warm baseline; give more than 15 minutes of ticks")
        place = min(int(len(time) * (1.0 - settings.current_share)), len(time) - 1)
        first_ns = int(np.partition(time, place)[place])
        after = [w & (f.time >= first_ns) for f, w in zip(frames, warm, strict=True)]
        last_ns = min(train_stop_ns, first_ns - 1)
    within = [
        w & (f.time >= train_start_ns) & (f.time <= last_ns)
        for f, w in zip(frames, warm, strict=True)
    ]
    if _count(within) < MINIMUM_ROWS:
        raise DriftError(
            f"only {_count(within)} rows lie in the model's training window"
            f" ({_iso(train_start_ns)} to {_iso(last_ns)}) and {MINIMUM_ROWS} are needed;"
            " give the features that the model was trained on, and the newer ones with them"
        )
    if _count(after) < MINIMUM_ROWS:
        raise DriftError(
            f"only {_count(after)} rows are current and {MINIMUM_ROWS} are needed;"
            " capture more ticks or raise drift.current_share"
        )
    return _sample(frames, within), _sample(frames, after), after_training


def drift_report(
    reference: Sample, current: Sample, settings: Drift, *, after_training: bool = True
) -> DriftResult:
    """Measure the drift of every model input with Evidently.

    An input has drifted when its distance reaches ``settings.wasserstein``, when its missing
    share moved by ``MISSING_SHIFT``, or when one side alone has it.

    Raises
    ------
    DriftError
        When no input has enough values on both sides.
    """
    present = [np.sum(~np.isnan(side.inputs), axis=0) for side in (reference, current)]
    absent = np.array([count < MINIMUM_VALUES for count in present])
    compared = np.flatnonzero(~absent.any(axis=0))
    if not len(compared):
        raise DriftError("no model input has values on both sides; check the features")
    distances, html = _evidently(reference.inputs, current.inputs, compared, settings)
    missing = [np.mean(np.isnan(side.inputs), axis=0) for side in (reference, current)]
    shifted = np.abs(missing[1] - missing[0]) >= MISSING_SHIFT
    features = []
    for column, name in enumerate(MODEL_INPUTS):
        distance = distances.get(name)
        moved = distance is not None and distance >= settings.wasserstein
        one_sided = bool(absent[0, column] != absent[1, column])
        features.append(
            FeatureDrift(
                feature=name,
                distance=distance,
                drifted=bool(moved or one_sided or shifted[column]),
                missing_reference=float(missing[0][column]),
                missing_current=float(missing[1][column]),
            )
        )
    return DriftResult(
        reference=reference,
        current=current,
        after_training=after_training,
        threshold=settings.wasserstein,
        drift_share_threshold=settings.drift_share,
        per_feature=tuple(sorted(features, key=_rank)),
        html=html,
    )


def _evidently(
    reference: Floats, current: Floats, columns: npt.NDArray[np.int64], settings: Drift
) -> tuple[dict[str, float], str]:
    """Run Evidently on some of the inputs: their distances, by name, and its page."""
    import pandas as pd

    with warnings.catch_warnings():
        # Its own imports are deprecated in numpy and litestar; nothing of ours is imported here.
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

    names = [MODEL_INPUTS[column] for column in columns]
    scale = np.array([_scale(reference[:, column]) for column in columns])
    definition = DataDefinition(numerical_columns=names)
    sides = [
        Dataset.from_pandas(
            pd.DataFrame(inputs[:, columns] / scale, columns=names), data_definition=definition
        )
        for inputs in (current, reference)
    ]
    preset = DataDriftPreset(
        columns=names,
        num_method="wasserstein",
        num_threshold=settings.wasserstein,
        drift_share=settings.drift_share,
    )
    # The histogram of a constant column divides zero by zero; that is drawn as nothing.
    with np.errstate(invalid="ignore", divide="ignore"):
        snapshot = Report([preset]).run(*sides)
        html = snapshot.get_html_str(as_iframe=False)
    distances = {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric["config"]
    }
    return distances, html


def _scale(values: Floats) -> float:
    """Give the unit in which a reference column is compared.

    A distance over a deviation has no unit, but Evidently's floor under the deviation has: the
    spread of a deep market is 0.0015 basis points, and any change of it would vanish.
    """
    deviation = float(np.nanstd(values))
    constant = deviation <= ROUNDING * abs(float(np.nanmean(values)))
    return deviation if deviation < EVIDENTLY_FLOOR and not constant else 1.0


def _sample(frames: Sequence[FeatureFrame], chosen: Sequence[Bools]) -> Sample:
    """Gather the chosen rows of all frames, at most ``MOST_ROWS`` of them."""
    place = [np.flatnonzero(mask) for mask in chosen]
    rows = sum(len(p) for p in place)
    # By chance, with a fixed seed: an even stride could fall in step with the market.
    generator = np.random.default_rng(0)
    drawn = np.arange(rows)
    if rows > MOST_ROWS:
        drawn = np.sort(generator.choice(rows, MOST_ROWS, replace=False))
    edges = np.cumsum([0, *(len(p) for p in place)])
    columns = [INDEX[name] for name in MODEL_INPUTS]
    inputs = [
        frame.rows[np.ix_(p[drawn[(drawn >= low) & (drawn < high)] - low], columns)]
        for frame, p, low, high in zip(frames, place, edges, edges[1:], strict=False)
    ]
    held = [(f, p) for f, p in zip(frames, place, strict=True) if len(p)]
    return Sample(
        rows=rows,
        start=min(int(frame.time[p[0]]) for frame, p in held),
        stop=max(int(frame.time[p[-1]]) for frame, p in held),
        symbols=tuple(frame.symbol for frame, _ in held),
        inputs=np.concatenate(inputs),
    )


def _rank(feature: FeatureDrift) -> tuple[float, str]:
    if feature.distance is None:
        return (-np.inf if feature.drifted else np.inf), feature.feature
    return -feature.distance, feature.feature


def _count(masks: Sequence[Bools]) -> int:
    return int(sum(np.count_nonzero(mask) for mask in masks))


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / SECOND, UTC).isoformat(timespec="seconds")
