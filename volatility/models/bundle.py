"""Store a trained model as data: JSON and plain arrays, so that loading runs no code.

A bundle is a folder with two files, ``model.json`` and ``arrays.npz``. It contains the model, the
pooled prior that it started from and every simple forecast of its leaderboard, all fitted on the
same rows. Its digest covers everything that its forecasts depend on, so that the same model
stored twice is recognised.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from volatility.compiled import njit
from volatility.features import FEATURE_NAMES, MODEL_INPUTS, table_digest
from volatility.files import replacing, write_whole
from volatility.models.boosting import INPUT_COLUMNS
from volatility.models.forecaster import Forecaster, Forecasts
from volatility.models.storage import forecasters_from_arrays, forecasters_to_arrays
from volatility.settings import Features
from volatility.units import Bools, Floats, Integers

Variant = Literal["ml", "prior", "baseline"]

FORMAT = 3  # 3: forecasts of volatility; 1 and 2 scored a ratio and are no longer supported
MARGIN = 0.1  # share of the training range, on each side, that still counts as inside
LEVEL_QUANTILES = (0.8, 0.9, 0.95, 0.99)  # of forward volatility, at which skill is measured
SELF_TEST_TOLERANCE = 1e-12  # another platform's logarithm may differ in the last bit
MODEL_FILE, ARRAYS_FILE = "model.json", "arrays.npz"


class BundleError(ValueError):
    """Report why a bundle is unusable."""


class UnreadableError(BundleError):
    """Report a bundle that could not be read for now, such as for lack of memory."""


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Represent the origin of a model; not part of its digest."""

    created: str
    git_commit: str
    versions: dict[str, str]


class Specification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Represent everything in a bundle except its arrays.

    ``recipe`` is the digest of how it was built, ``features`` are the feature settings of its rows,
    ``models`` names its forecasters and ``best_simple`` the one that serves as baseline.
    ``spike_levels_bps`` has one row per symbol and a last one for unknown symbols, each with one
    level per horizon [basis points over the horizon]; ``quantile_levels_bps`` has the quantiles
    ``LEVEL_QUANTILES`` of the first horizon in the same rows. ``thresholds`` are the scores that
    meet the alert budget, by variant. ``lowest``, ``highest`` and
    ``may_be_missing`` describe ``MODEL_INPUTS`` on the training rows; times are nanoseconds.
    """

    format: int
    recipe: str
    feature_digest: str
    features: Features
    horizons: tuple[int, ...]
    symbols: tuple[str, ...]
    models: tuple[str, ...]
    best_simple: str
    inputs: tuple[str, ...]
    spike_levels_bps: tuple[tuple[float, ...], ...]
    quantile_levels_bps: tuple[tuple[float, ...], ...]
    thresholds: dict[str, float]
    base_rate: float
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    may_be_missing: tuple[bool, ...]
    train_start: int
    train_stop: int
    train_rows: int
    data_digest: str
    prior_digest: str
    parameters: dict[str, Any]
    example_rows: tuple[tuple[float | None, ...], ...]
    example_symbols: tuple[str, ...]
    example_scores: tuple[float, ...]
    provenance: Provenance


@dataclass(frozen=True)
class Bundle:
    """Forecast volatility from feature rows with a trained model or one of its alternatives.

    ``variant`` selects the forecaster: ``ml``, only the pooled ``prior``, or the ``baseline``, the
    best simple forecast. Rows are float64[n, features] in the order of the feature table, with NaN
    for missing values; a row's forecast does not depend on the other rows of a call.
    """

    specification: Specification
    forecasters: dict[str, Forecaster]
    variant: Variant = "ml"

    @property
    def model(self) -> str:
        """Name of the selected forecaster."""
        return self.specification.best_simple if self.variant == "baseline" else self.variant

    @property
    def forecaster(self) -> Forecaster:
        """The selected forecaster."""
        return self.forecasters[self.model]

    @property
    def threshold(self) -> float:
        """Score from which a row raises an alert."""
        return self.specification.thresholds[self.variant]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Variants available in this bundle."""
        return tuple(
            name for name in ("ml", "prior", "baseline") if name in self.specification.thresholds
        )

    def as_variant(self, variant: Variant) -> Bundle:
        """Return the same bundle with another variant selected."""
        return replace(self, variant=variant)

    def places(self, symbols: list[str] | tuple[str, ...]) -> Integers:
        """Return the index of each symbol, int64[n]; -1 for an unknown symbol."""
        known = {name: place for place, name in enumerate(self.specification.symbols)}
        return np.array([known.get(name, -1) for name in symbols], dtype=np.int64)

    def place(self, symbol: str | None) -> int:
        """Return a symbol's index; None selects the only symbol, if there is just one."""
        names = self.specification.symbols
        if symbol is None:
            return 0 if len(names) == 1 else -1
        return names.index(symbol) if symbol in names else -1

    @cached_property
    def bps(self) -> Floats:
        """Factor from one-second deviation to basis points over each horizon: float64[H]."""
        return 1e4 * np.sqrt(np.array(self.specification.horizons, dtype=np.float64))

    @cached_property
    def spike_levels(self) -> Floats:
        """Spike levels as volatility [one-second deviation]: float64[S + 1, H]."""
        return np.array(self.specification.spike_levels_bps) / self.bps

    def forecast(self, rows: Floats, symbol: Integers) -> Forecasts:
        """Forecast rows, with the exceedance probability of each symbol's spike level."""
        return self.forecaster.forecast(rows, symbol, self.spike_levels, self.bps)

    def score(self, rows: Floats, symbol: Integers) -> Floats:
        """Return the probability of a spike over the first horizon: float64[n]."""
        return self.forecast(rows, symbol).exceedance[:, 0]

    def out_of_distribution(self, rows: Floats) -> Bools:
        """Return bool[n]: whether each row lies outside the range of the training data.

        A row does if an input lies more than ``MARGIN`` beyond the range of the training rows, or
        is missing although it never was in training. An input that training never had is unused
        and ignored.
        """
        result: Bools = _outside(rows, *self._known)
        return result

    @cached_property
    def _known(self) -> tuple[Integers, Floats, Floats, Bools]:
        """Columns of the inputs in use, their bounds, and whether they may be missing."""
        spec = self.specification
        used = np.array([name in spec.inputs for name in MODEL_INPUTS], dtype=np.bool_)
        lowest, highest = np.array(spec.lowest)[used], np.array(spec.highest)[used]
        margin = MARGIN * (highest - lowest)
        missing = np.array(spec.may_be_missing, dtype=np.bool_)[used]
        return INPUT_COLUMNS[used], lowest - margin, highest + margin, missing

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything forecasts depend on, and of the training data and parameters."""
        content = hashlib.sha256()
        text = msgspec.to_builtins(self.specification)
        del text["provenance"]
        content.update(msgspec.json.encode(text, order="sorted"))
        for name, array in sorted(forecasters_to_arrays(self.forecasters).items()):
            content.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()

    def verify(self) -> None:
        """Check the feature table, and that the example rows reproduce their stored scores.

        Raises
        ------
        BundleError
            If the model was trained with another feature table, is not fully described, or scores
            differently here.
        """
        spec = self.specification
        if spec.feature_digest != table_digest() or not set(spec.inputs) <= set(MODEL_INPUTS):
            raise BundleError(
                "the model was trained with another feature table; train it again, or run the "
                "version of this service that trained it"
            )
        described = {len(spec.lowest), len(spec.highest), len(spec.may_be_missing)}
        levels = np.shape(spec.spike_levels_bps)
        examples = {len(spec.example_rows), len(spec.example_symbols), len(spec.example_scores)}
        complete = (
            described == {len(MODEL_INPUTS)}
            and len(examples) == 1
            and levels == (len(spec.symbols) + 1, len(spec.horizons))
            and np.shape(spec.quantile_levels_bps) == (levels[0], len(LEVEL_QUANTILES))
            and set(self.forecasters) == set(spec.models)
            and self.model in self.forecasters
            and (not spec.best_simple or spec.best_simple in self.forecasters)
            and self.variant in spec.thresholds
        )
        if not complete:
            raise BundleError("the model's description is not complete; train it again")
        if not self.reproduces():
            raise BundleError("the model's self-test failed: example rows score differently")

    def reproduces(self) -> bool:
        """Check that the example rows score as stored, up to ``SELF_TEST_TOLERANCE``."""
        scores, stored = self.score(*self.examples()), np.array(self.specification.example_scores)
        return bool(np.all(np.abs(scores - stored) <= SELF_TEST_TOLERANCE))

    def examples(self) -> tuple[Floats, Integers]:
        """Return the stored example rows, float64[n, features], and their symbol indices."""
        spec = self.specification
        rows = np.array([[np.nan if v is None else v for v in row] for row in spec.example_rows])
        return rows.reshape(-1, len(FEATURE_NAMES)), self.places(spec.example_symbols)

    def save(self, folder: Path) -> None:
        """Write the bundle to a folder, each file atomically."""
        with replacing(folder / ARRAYS_FILE) as arrays, arrays.open("wb") as file:
            np.savez_compressed(file, **forecasters_to_arrays(self.forecasters))  # type: ignore[arg-type]
        text = msgspec.json.format(msgspec.json.encode(self.specification), indent=1)
        write_whole(folder / MODEL_FILE, text)


@njit(nogil=True)
def _outside(rows, columns, lowest, highest, may_be_missing):  # type: ignore[no-untyped-def]
    result = np.zeros(len(rows), np.bool_)
    for i in range(len(rows)):
        for k in range(len(columns)):
            x = rows[i, columns[k]]
            if x != x:
                result[i] |= not may_be_missing[k]
            else:
                result[i] |= x < lowest[k] or x > highest[k]
    return result


# Errors raised by the readers of JSON, zip and npy for damaged files.
DAMAGE = (
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    msgspec.MsgspecError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def load(folder: Path) -> Bundle:
    """Read and verify a bundle without executing anything in it.

    Raises
    ------
    BundleError
        If a file is missing, damaged, or has another format or feature table;
        ``UnreadableError`` if reading failed for a reason that may pass.
    """
    try:
        text = (folder / MODEL_FILE).read_bytes()
        found = msgspec.json.decode(text, type=_Format).format
        if found != FORMAT:
            raise BundleError(
                f"bundle format {found} is not {FORMAT}; run `volatility train` for a new model"
            )
        specification = msgspec.json.decode(text, type=Specification)
        with (folder / ARRAYS_FILE).open("rb") as file:
            if not zipfile.is_zipfile(file):  # numpy would take it for a pickle
                raise ValueError(f"{ARRAYS_FILE} is damaged")
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        forecasters = forecasters_from_arrays(
            arrays, specification.models, len(specification.symbols), len(specification.horizons)
        )
        first: Variant = "ml" if "ml" in forecasters else "prior"
        bundle = Bundle(specification, forecasters, first)
        bundle.verify()
    except BundleError:
        raise
    except (OSError, MemoryError) as error:
        # A file that is not there, or content that a reader rejects, stays so; the rest may pass.
        lasting = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if lasting or (isinstance(error, OSError) and error.errno is None):
            raise BundleError(_unusable(folder, error)) from error
        raise UnreadableError(
            f"{folder} cannot be read at present ({str(error) or 'out of memory'}); check disk and "
            "memory"
        ) from error
    except DAMAGE as error:
        raise BundleError(_unusable(folder, error)) from error
    return bundle


def _unusable(folder: Path, error: BaseException) -> str:
    return f"{folder} has no usable model ({error}); run `volatility train`"


class _Format(msgspec.Struct, frozen=True):
    format: int
