"""Check whether the market still looks like a model's training rows.

Drift is measured as an effect size: the Wasserstein distance in standard deviations of the
training rows. Significance tests are useless here: market rows are not independent, so p-values
always fire. Only inputs that the model uses are compared: an input that is missing or constant in
the training rows cannot change a forecast. The inputs are scale-free, so a new price level or a
market twice as volatile is not in itself drift.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from volatility.features import INDEX, MODEL_INPUTS, FeatureFrame, day_frames, is_warm
from volatility.settings import Drift
from volatility.units import SECOND, Bools, Floats

# Per side. At the usual stride of 15 s they span a quarter of an hour; fewer show only noise.
MINIMUM_ROWS = 60
MINIMUM_VALUES = 30  # values per side below which an input counts as absent
MOST_ROWS = 10_000  # rows compared per side: noise then changes a distance by 0.01
MISSING_SHIFT = 0.5  # change of an input's missing share that is drift, whatever its values
EVIDENTLY_FLOOR = 0.001  # smallest standard deviation that Evidently divides by
ROUNDING = 1e-9  # deviation over mean of a column that is constant up to rounding


class DriftError(ValueError):
    """Report which rows cannot be compared and how to fix it."""


class TooFewRowsError(DriftError):
    """Too few rows on one side: so it is until the first training on this market's rows."""


@dataclass(frozen=True)
class Sample:
    """Represent one side of the comparison.

    Parameters
    ----------
    rows : int
        Number of rows on this side.
    start, stop : int
        First and last step [ns].
    symbols : tuple of str
    names : tuple of str
        The I inputs that are compared.
    inputs : float64[n, I]
        The rows, or a uniform random sample of them; NaN is missing.
    """

    rows: int
    start: int
    stop: int
    symbols: tuple[str, ...]
    names: tuple[str, ...]
    inputs: Floats


@dataclass(frozen=True)
class FeatureDrift:
    """Represent how far one input moved; None if a side has too few values.

    ``distance`` is in standard deviations of the reference; missing shares are from 0 to 1.
    """

    feature: str
    distance: float | None
    drifted: bool
    missing_reference: float
    missing_current: float


@dataclass(frozen=True)
class DriftResult:
    """Represent a comparison; ``html`` is Evidently's own report.

    ``per_feature`` is sorted by distance; inputs without a distance come first if they drifted,
    last if not. ``features`` counts the inputs that at least one side has.
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
    def unused(self) -> tuple[str, ...]:
        """Inputs of the feature table that are not compared because the model does not use them."""
        return tuple(name for name in MODEL_INPUTS if name not in self.reference.names)

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
        """Whether enough inputs have drifted to raise the alert."""
        return self.drift_share >= self.drift_share_threshold

    def summary(self) -> dict[str, Any]:
        """Return the content of ``drift.json``."""
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
            "unused": list(self.unused),
        }


def read_thinned(folder: Path, start_ns: int, stride_seconds: int) -> list[FeatureFrame]:
    """Read one row per stride from a time [ns] on: the rows that training would read.

    Read one day at a time, so that memory depends on the rows kept, not on those stored.

    Raises
    ------
    FeaturesError
        If there are no features, or they were built with another feature table.
    """
    result = []
    for symbol, days in day_frames(folder)[0].items():
        times, rows = [], []
        for frame in days(start_ns):
            chosen = frame.time // SECOND % stride_seconds == 0
            times.append(frame.time[chosen])
            rows.append(frame.rows[chosen])
        if times:
            result.append(FeatureFrame(symbol, np.concatenate(times), np.concatenate(rows)))
    return result


def compare(
    frames: Sequence[FeatureFrame],
    train_start_ns: int,
    train_stop_ns: int,
    settings: Drift,
    inputs: Sequence[str] = MODEL_INPUTS,
) -> DriftResult:
    """Compare the newest rows after a model's training window with the rows in it.

    Call ``select``, then ``drift_report``; see both for parameters and errors.
    """
    reference, current, after_training = select(
        frames, train_start_ns, train_stop_ns, settings, inputs
    )
    return drift_report(reference, current, settings, after_training=after_training)


def select(
    frames: Sequence[FeatureFrame],
    train_start_ns: int,
    train_stop_ns: int,
    settings: Drift,
    inputs: Sequence[str] = MODEL_INPUTS,
) -> tuple[Sample, Sample, bool]:
    """Choose the reference and the current rows.

    Rows count once the baseline volatility is warm, as in training. The rows of the newest
    ``settings.hours`` after the training window are current. If there are fewer than
    ``MINIMUM_ROWS``, the newest ``settings.current_share`` of all rows are current, and the
    reference is the part of the training window before them.

    Parameters
    ----------
    frames : sequence of FeatureFrame
        All symbols, which are pooled because one model serves them all.
    train_start_ns, train_stop_ns : int
        First and last step of the training rows, nanoseconds since the epoch.
    settings : Drift
        Hours, share and thresholds.
    inputs : sequence of str
        Inputs that the model uses.

    Returns
    -------
    Sample, Sample, bool
        Reference, current, and whether the current rows are after the training window.

    Raises
    ------
    DriftError
        If a side has fewer than ``MINIMUM_ROWS`` rows.
    """
    warm = [is_warm(frame.rows) for frame in frames]
    newest_ns = max(
        (int(f.time[w][-1]) for f, w in zip(frames, warm, strict=True) if w.any()), default=0
    )
    recent_ns = max(train_stop_ns, newest_ns - int(settings.hours * 3600) * SECOND)
    after = [w & (f.time > recent_ns) for f, w in zip(frames, warm, strict=True)]
    after_training = _count(after) >= MINIMUM_ROWS
    last_ns = train_stop_ns
    if not after_training:
        time = np.concatenate(
            [np.empty(0, np.int64), *(f.time[w] for f, w in zip(frames, warm, strict=True))]
        )
        if not len(time):
            raise TooFewRowsError(
                "no row has a warm baseline; more than 15 minutes of ticks are needed"
            )
        place = min(int(len(time) * (1.0 - settings.current_share)), len(time) - 1)
        first_ns = int(np.partition(time, place)[place])
        after = [w & (f.time >= first_ns) for f, w in zip(frames, warm, strict=True)]
        last_ns = min(train_stop_ns, first_ns - 1)
    within = [
        w & (f.time >= train_start_ns) & (f.time <= last_ns)
        for f, w in zip(frames, warm, strict=True)
    ]
    if _count(within) < MINIMUM_ROWS:
        raise TooFewRowsError(
            f"only {_count(within)} rows lie in the model's training window"
            f" ({_iso(train_start_ns)} to {_iso(last_ns)}) and {MINIMUM_ROWS} are needed;"
            " include the features that the model was trained on as well as newer ones"
        )
    if _count(after) < MINIMUM_ROWS:
        raise TooFewRowsError(
            f"only {_count(after)} rows are current and {MINIMUM_ROWS} are needed;"
            " capture more ticks or raise drift.current_share"
        )
    names = tuple(inputs)
    return _sample(frames, within, names), _sample(frames, after, names), after_training


def drift_report(
    reference: Sample, current: Sample, settings: Drift, *, after_training: bool = True
) -> DriftResult:
    """Measure the drift of every input of the samples with Evidently.

    An input has drifted if its distance reaches ``settings.wasserstein``, if its missing share
    changed by ``MISSING_SHIFT``, or if only one side has it.

    Raises
    ------
    DriftError
        If no input has enough values on both sides.
    """
    present = [np.sum(~np.isnan(side.inputs), axis=0) for side in (reference, current)]
    absent = np.array([count < MINIMUM_VALUES for count in present])
    compared = np.flatnonzero(~absent.any(axis=0))
    if not len(compared):
        raise DriftError("no model input has values on both sides; check the features")
    distances, html = _evidently(reference, current, compared, settings)
    missing = [np.mean(np.isnan(side.inputs), axis=0) for side in (reference, current)]
    shifted = np.abs(missing[1] - missing[0]) >= MISSING_SHIFT
    features = []
    for column, name in enumerate(reference.names):
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
    reference: Sample, current: Sample, columns: npt.NDArray[np.int64], settings: Drift
) -> tuple[dict[str, float], str]:
    """Run Evidently on some of the inputs; return their distances by name, and its page."""
    import pandas as pd

    with warnings.catch_warnings():
        # Evidently's imports trigger deprecation warnings of numpy and litestar.
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

    names = [reference.names[column] for column in columns]
    scale = np.array([_scale(reference.inputs[:, column]) for column in columns])
    definition = DataDefinition(numerical_columns=names)
    sides = [
        Dataset.from_pandas(
            pd.DataFrame(side.inputs[:, columns] / scale, columns=names),
            data_definition=definition,
        )
        for side in (current, reference)
    ]
    preset = DataDriftPreset(
        columns=names,
        num_method="wasserstein",
        num_threshold=settings.wasserstein,
        drift_share=settings.drift_share,
    )
    # The histogram of a constant column divides zero by zero, and is drawn empty.
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
    """Return the unit in which a reference column is compared.

    A distance over a deviation is dimensionless, but Evidently's lower bound on the deviation is
    not: the spread of a deep market is 0.0015 basis points, and any change of it would vanish.
    """
    deviation = float(np.nanstd(values))
    constant = deviation <= ROUNDING * abs(float(np.nanmean(values)))
    return deviation if deviation < EVIDENTLY_FLOOR and not constant else 1.0


def _sample(
    frames: Sequence[FeatureFrame], chosen: Sequence[Bools], names: tuple[str, ...]
) -> Sample:
    """Gather the chosen rows of all frames, sampled down to ``MOST_ROWS``."""
    place = [np.flatnonzero(mask) for mask in chosen]
    rows = sum(len(p) for p in place)
    # Random, with a fixed seed: an even stride could coincide with a cycle of the market.
    generator = np.random.default_rng(0)
    drawn = np.arange(rows)
    if rows > MOST_ROWS:
        drawn = np.sort(generator.choice(rows, MOST_ROWS, replace=False))
    edges = np.cumsum([0, *(len(p) for p in place)])
    columns = [INDEX[name] for name in names]
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
        names=names,
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
