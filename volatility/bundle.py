"""Keep a trained model as data: JSON and plain arrays, nothing that loading could run.

A bundle is a folder of two files, ``model.json`` and ``trees.npz``. Its digest covers all that
its scores depend on, so that the same model stored twice is known to be the same.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from volatility import trees
from volatility.baselines import Baseline
from volatility.compiled import njit
from volatility.feature_table import FEATURE_NAMES, INDEX, MODEL_INPUTS, table_digest

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FORMAT = 2  # 2: a tree's splits carry the mean of their leaves
MARGIN = 0.1  # of a training range, on each side, that still counts as inside it
MODEL_FILE, TREES_FILE = "model.json", "trees.npz"


class BundleError(ValueError):
    """A bundle that cannot be used; the text says why."""


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say where a model comes from; not part of its digest."""

    created: str
    git_commit: str
    versions: dict[str, str]


class Specification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold everything of a bundle but the trees.

    ``tau`` is the label's threshold, ``threshold`` the score at which the alert budget is met
    (``baseline_threshold`` for the baseline); ``lowest``, ``highest`` and ``may_be_missing``
    describe each model input on the training rows; times are nanoseconds.
    """

    format: int
    feature_digest: str
    inputs: tuple[str, ...]
    label_kind: Literal["relative", "absolute"]
    horizon_seconds: int
    tau: float
    slope: float
    intercept: float
    threshold: float
    baselines: tuple[Baseline, ...]
    best_baseline: str
    baseline_threshold: float
    base_rate: float
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    may_be_missing: tuple[bool, ...]
    train_start: int
    train_stop: int
    train_rows: int
    symbols: tuple[str, ...]
    data_digest: str
    parameters: dict[str, Any]
    example_rows: tuple[tuple[float | None, ...], ...]
    example_scores: tuple[float, ...]
    provenance: Provenance


@dataclass(frozen=True)
class Bundle:
    """Score feature rows with one trained model, or with the best baseline it was held against."""

    specification: Specification
    trees: trees.Trees
    variant: Literal["ml", "baseline"] = "ml"

    @property
    def threshold(self) -> float:
        """Score at and above which a row is an alert."""
        spec = self.specification
        return spec.threshold if self.variant == "ml" else spec.baseline_threshold

    def as_variant(self, variant: Literal["ml", "baseline"]) -> Bundle:
        """Give the same bundle scoring as ``ml`` or as its best ``baseline``."""
        return replace(self, variant=variant)

    def score(self, rows: Floats) -> Floats:
        """Give float64[n] calibrated probabilities of float64[n, features] rows.

        The columns are those of the feature table; NaN is missing. A row's score does not
        depend on the other rows of the call.
        """
        if self.variant == "baseline":
            return self.baseline(self.specification.best_baseline).score(rows)
        spec = self.specification
        raw = self.trees.raw(rows[:, INPUT_COLUMNS])
        scores: Floats = trees.sigmoid(raw, spec.slope, spec.intercept)
        return scores

    def baseline(self, name: str) -> Baseline:
        """Find one of the baselines that were fitted on the same training rows."""
        return next(b for b in self.specification.baselines if b.name == name)

    def out_of_distribution(self, rows: Floats) -> Bools:
        """Tell which rows lie outside what the model was trained on: bool[n].

        A row does when an input lies more than ``MARGIN`` beyond the training rows' range, or
        is missing although it never was missing there.
        """
        result: Bools = _outside(rows, INPUT_COLUMNS, *self._known)
        return result

    @cached_property
    def _known(self) -> tuple[Floats, Floats, Bools]:
        """Give least and greatest value of each input, and whether it may be missing."""
        spec = self.specification
        lowest, highest = np.array(spec.lowest), np.array(spec.highest)
        margin = MARGIN * (highest - lowest)
        return lowest - margin, highest + margin, np.array(spec.may_be_missing, dtype=np.bool_)

    def contributions(self, rows: Floats) -> tuple[tuple[str, ...], Floats]:
        """Give what each input adds to the log odds of a score, and the inputs' names.

        float64[n, inputs]: with the model's own log odds (``expected``) they add up to the log
        odds of ``score``, but for rounding. See ``Trees.contributions``; a baseline's are those
        of a linear model, each input against its mean.
        """
        if self.variant == "baseline":
            baseline = self.baseline(self.specification.best_baseline)
            return baseline.inputs, baseline.contributions(rows)
        raw = self.trees.contributions(rows[:, INPUT_COLUMNS])
        return self.specification.inputs, raw * self.specification.slope

    @property
    def expected(self) -> float:
        """Log odds of a spike where nothing is known of a row."""
        if self.variant == "baseline":
            return self.baseline(self.specification.best_baseline).expected
        spec = self.specification
        return spec.slope * self.trees.expected + spec.intercept

    @property
    def digest(self) -> str:
        """SHA-256 of all that scores depend on, and of the training data and parameters."""
        content = hashlib.sha256()
        text = msgspec.to_builtins(self.specification)
        del text["provenance"]
        content.update(msgspec.json.encode(text, order="sorted"))
        for name, array in sorted(self.trees.arrays().items()):
            content.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()

    def verify(self) -> None:
        """Check the feature table, and that the stored example rows score as stored.

        Raises
        ------
        BundleError
            When the model was trained on another table, is not described in full or scores
            differently here.
        """
        spec = self.specification
        if spec.feature_digest != table_digest() or spec.inputs != MODEL_INPUTS:
            raise BundleError(
                "the model was trained with another feature table; train it again, or run the "
                "version of this service that trained it"
            )
        described = {len(spec.lowest), len(spec.highest), len(spec.may_be_missing)}
        names = [baseline.name for baseline in spec.baselines]
        if described != {len(MODEL_INPUTS)} or spec.best_baseline not in names:
            raise BundleError("the model's description is not complete; train it again")
        rows = np.array(
            [[np.nan if v is None else v for v in row] for row in spec.example_rows]
        ).reshape(-1, len(FEATURE_NAMES))
        scores = self.as_variant("ml").score(rows)
        if scores.tolist() != list(spec.example_scores):
            raise BundleError("the model's self-test failed: example rows score differently")

    def save(self, folder: Path) -> None:
        """Write the bundle to a folder, each file atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = folder / (TREES_FILE + ".tmp")
        with arrays.open("wb") as file:
            np.savez(file, **self.trees.arrays())  # type: ignore[arg-type]
        os.replace(arrays, folder / TREES_FILE)
        text = msgspec.json.format(msgspec.json.encode(self.specification), indent=1)
        written = folder / (MODEL_FILE + ".tmp")
        written.write_bytes(text)
        os.replace(written, folder / MODEL_FILE)


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


INPUT_COLUMNS = np.array([INDEX[name] for name in MODEL_INPUTS])

# What a damaged file makes the readers of JSON, zip and npy raise.
DAMAGE = (
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
    msgspec.MsgspecError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def load(folder: Path) -> Bundle:
    """Read and verify a bundle; nothing in it is executed.

    Raises
    ------
    BundleError
        When a file is missing, damaged, or of another format or feature table.
    """
    try:
        specification = msgspec.json.decode((folder / MODEL_FILE).read_bytes(), type=Specification)
        with (folder / TREES_FILE).open("rb") as file:
            if not zipfile.is_zipfile(file):  # numpy would take it for a pickle
                raise ValueError(f"{TREES_FILE} is damaged")
            with np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        if specification.format != FORMAT:
            raise BundleError(f"bundle format {specification.format} is not {FORMAT}")
        bundle = Bundle(specification, trees.from_arrays(arrays, len(specification.inputs)))
        bundle.verify()
    except BundleError:
        raise
    except DAMAGE as error:
        text = f"{folder} holds no usable model ({error}); run `volatility train`"
        raise BundleError(text) from error
    return bundle
