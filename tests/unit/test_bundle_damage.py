from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundles import Arrays, arrays_of, random_rows, small_bundle
from volatility.features import table as feature_table
from volatility.models.bundle import (
    ARRAYS_FILE,
    FORMAT,
    MODEL_FILE,
    BundleError,
    UnreadableError,
    load,
)
from volatility.models.storage import forecasters_from_arrays

ARRAYS = arrays_of(small_bundle())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_bundle().save(tmp_path / "bundle")
    return tmp_path / "bundle"


def refused(folder: Path) -> str:
    with pytest.raises(BundleError) as error:
        load(folder)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) > 20
    return text


def test_a_missing_file_is_refused(tmp_path: Path, folder: Path) -> None:
    assert MODEL_FILE in refused(tmp_path / "nowhere")
    (folder / ARRAYS_FILE).unlink()
    assert ARRAYS_FILE in refused(folder)


@pytest.mark.parametrize("name", [MODEL_FILE, ARRAYS_FILE])
def test_a_truncated_file_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        (folder / name).write_bytes(whole[: int(share * len(whole))])
        refused(folder)


@pytest.mark.slow
def test_damaged_arrays_are_refused_or_whole(folder: Path) -> None:
    """One byte changed anywhere: the archive's checksums tell, or nothing that counts changed."""
    whole, digest = (folder / ARRAYS_FILE).read_bytes(), load(folder).digest
    generator = random.Random(0)
    directory = whole.index(b"PK\x01\x02")
    places = [generator.randrange(len(whole)) for _ in range(60)]
    places += [generator.randrange(directory, len(whole)) for _ in range(60)]
    refusals = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] = generator.randrange(256)
        (folder / ARRAYS_FILE).write_bytes(bytes(damaged))
        try:
            found = load(folder).digest
        except BundleError as error:
            refusals.append(str(error))
        else:
            assert found == digest
    assert len(refusals) > 40
    assert not any("\n" in text for text in refusals)


def damages(array: np.ndarray) -> dict[str, np.ndarray]:
    """Return an array damaged in every way that a file can be, and pass for an array."""
    found: dict[str, Any] = {
        "one more dimension": array[None],
        "objects": np.array([None, 1], dtype=object),
        "text": np.array(["a"]),
        "float32": np.zeros(array.shape, np.float32),
        "complex": np.zeros(array.shape, complex),
        "a scalar that is NaN": np.array(np.nan),
    }
    if array.ndim and len(array):
        found["one short"] = array[:-1]
        found["nothing"] = array[:0]
    if array.dtype.kind == "f" and array.size:
        for value in (np.nan, np.inf, -np.inf):
            changed = array.copy()
            changed.flat[-1] = value
            found[f"a value that is {value}"] = changed
    if array.dtype.kind == "i" and array.size:
        for number in (-1, 2**31 - 1, np.iinfo(array.dtype).min):
            changed = array.copy()
            changed.flat[-1] = number
            found[f"a value that is {number}"] = changed
    return found


def is_another_model(name: str, kind: str, array: np.ndarray) -> bool:
    """Detect damage that leaves a whole, other model: fewer trees, or none that use a table."""
    return kind in ("one short", "nothing") and (name.endswith(".roots") or not array.size)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_every_array_damaged_in_every_way_is_refused(name: str) -> None:
    spec = small_bundle().specification
    others = {key: array for key, array in ARRAYS.items() if key != name}
    with pytest.raises(ValueError, match="is missing"):
        forecasters_from_arrays(others, spec.models, 1, 3)
    for kind, damaged in damages(ARRAYS[name]).items():
        if is_another_model(name, kind, ARRAYS[name]):
            continue
        with pytest.raises(ValueError, match=r"array|tree|pooled"):
            forecasters_from_arrays({**others, name: damaged}, spec.models, 1, 3)


@pytest.mark.slow
def test_damage_in_a_file_is_a_bundle_error_whatever_it_is(folder: Path) -> None:
    """The same through the file: never another exception, one array of each kind."""
    names = ["ml.linear.kinds", "ml.linear.level", "har.law.table", "pooled.columns", "ml.own"]
    names += ["own.trees.0.roots", "pooled.trees.1.nodes", "pooled.trees.2.start"]
    for name in names:
        for kind, damaged in damages(ARRAYS[name]).items():
            write_arrays(folder, {**ARRAYS, name: damaged})
            if is_another_model(name, kind, ARRAYS[name]):
                continue
            refused(folder)


def test_quantiles_out_of_order_are_refused() -> None:
    spec = small_bundle().specification
    table = ARRAYS["ml.law.table"].copy()
    table[0, 0, 1, 1] = table[0, 0, 1, 1, ::-1]
    with pytest.raises(ValueError, match="not sorted"):
        forecasters_from_arrays({**ARRAYS, "ml.law.table": table}, spec.models, 1, 3)
    coordinates = ARRAYS["ml.law.coordinates"].copy()
    coordinates[0, 0, 1] = 0.0
    with pytest.raises(ValueError, match="spread"):
        forecasters_from_arrays({**ARRAYS, "ml.law.coordinates": coordinates}, spec.models, 1, 3)
    level = np.zeros_like(ARRAYS["har.linear.level"])
    with pytest.raises(ValueError, match="not positive"):
        forecasters_from_arrays({**ARRAYS, "har.linear.level": level}, spec.models, 1, 3)


@pytest.mark.slow
def test_random_numbers_in_the_arrays_are_refused_or_forecast() -> None:
    """Whatever is accepted forecasts: no walk leaves its tree, no number is not finite."""
    spec, generator = small_bundle().specification, np.random.default_rng(0)
    rows, place = random_rows(20, 1), np.arange(20) % 3 - 1
    accepted = 0
    for _ in range(200):
        arrays = {name: array.copy() for name, array in ARRAYS.items()}
        name = str(generator.choice(sorted(arrays)))
        array = arrays[name]
        if not array.size:
            continue
        if array.dtype.names:
            field = str(generator.choice(["feature", "left", "right"]))
            array[field][generator.integers(len(array))] = generator.integers(-3, len(array) + 3)
        elif array.dtype.kind == "f":
            array.flat[generator.integers(array.size)] = generator.choice([1e300, -1e300, 0.0, 5.0])
        else:
            array.flat[generator.integers(array.size)] = generator.integers(-3, 60)
        try:
            found = forecasters_from_arrays(arrays, spec.models, 1, 3)
        except ValueError:
            continue
        accepted += 1
        for forecaster in found.values():
            for h in range(3):
                assert not np.isnan(forecaster.log_variance(rows, place, h)).any()
    assert accepted > 20


def write_arrays(folder: Path, arrays: Arrays) -> None:
    np.savez(folder / ARRAYS_FILE, **arrays)  # type: ignore[arg-type]


def edit(folder: Path, change: Any) -> None:
    content = json.loads((folder / MODEL_FILE).read_bytes())
    change(content)
    (folder / MODEL_FILE).write_text(json.dumps(content))


def test_another_feature_table_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = (replace(feature_table.FEATURES[0], meaning="other"), *feature_table.FEATURES[1:])
    monkeypatch.setattr(feature_table, "FEATURES", changed)
    assert "another feature table" in refused(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(format=2), "format 2 is not 3; run `volatility train`"),
        (lambda c: [c.clear(), c.update(format=2, tau=1.5)], "format 2 is not 3"),
        (lambda c: c.update(inputs=["tau"]), "another feature table"),
        (lambda c: c["example_scores"].__setitem__(0, 0.123), "self-test failed"),
        (lambda c: c["example_rows"].pop(), "not complete"),
        (lambda c: c["example_symbols"].pop(), "not complete"),
        (lambda c: c["example_scores"].pop(), "not complete"),
        (lambda c: c["example_rows"][0].pop(), "no usable model"),
        (lambda c: c["spike_levels_bps"][0].__setitem__(0, 1e-9), "self-test failed"),
        (lambda c: c["spike_levels_bps"].pop(), "not complete"),
        (lambda c: c["quantile_levels_bps"].pop(), "not complete"),
        (lambda c: c["thresholds"].pop("ml"), "not complete"),
        (lambda c: c["lowest"].pop(), "not complete"),
        (lambda c: c.update(best_simple="nobody"), "not complete"),
        (lambda c: c.update(models=[*c["models"], "other"]), "no usable model"),
        (lambda c: c.update(symbols=["A", "B"]), "no usable model"),
        (lambda c: c.update(horizons=[60]), "no usable model"),
        (lambda c: c.pop("recipe"), "recipe"),
        (lambda c: c.update(base_rate="high"), "base_rate"),
        (lambda c: c.update(surprise=1), "surprise"),
    ],
)
def test_a_changed_description_is_refused(folder: Path, change: Any, says: str) -> None:
    edit(folder, change)
    assert says in refused(folder)
    assert FORMAT == 3


def test_changed_numbers_fail_the_self_test(folder: Path) -> None:
    coefficients = ARRAYS["ml.linear.coefficients"].copy()
    coefficients[..., -1] += 1e-6
    write_arrays(folder, {**ARRAYS, "ml.linear.coefficients": coefficients})
    assert "self-test failed" in refused(folder)


# --- rows unlike the training rows --------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_what_cannot_be_read_for_a_moment_is_not_called_damaged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(np, "load", fail)
        with pytest.raises(UnreadableError, match="cannot be read at present"):
            load(folder)
    load(folder)


def test_a_missing_file_is_damage(folder: Path) -> None:
    (folder / ARRAYS_FILE).unlink()
    with pytest.raises(BundleError) as caught:
        load(folder)
    assert not isinstance(caught.value, UnreadableError)
