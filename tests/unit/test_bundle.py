from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from tests import bundles
from tests.bundles import random_rows
from volatility import feature_table
from volatility.bundle import (
    MARGIN,
    MODEL_FILE,
    TREES_FILE,
    Bundle,
    BundleError,
    Specification,
    load,
)
from volatility.feature_table import INDEX, MODEL_INPUTS

small_bundle = cache(bundles.small_bundle)


@pytest.fixture
def folder(tmp_path):
    small_bundle().save(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_saved_bundle_loads_as_the_same(folder) -> None:
    before, after = small_bundle(), load(folder)
    assert after.digest == before.digest
    assert after.specification == before.specification
    rows = random_rows(500, 3)
    assert after.score(rows).tobytes() == before.score(rows).tobytes()
    assert sorted(path.name for path in folder.iterdir()) == [MODEL_FILE, TREES_FILE]


def test_saving_again_replaces(folder) -> None:
    small_bundle(1).save(folder)
    assert load(folder).digest == small_bundle(1).digest != small_bundle(0).digest


def test_a_row_scores_the_same_alone_and_among_others() -> None:
    rows = random_rows(200, 5, missing=0.4)
    for variant in ("ml", "baseline"):
        model = small_bundle().as_variant(variant)
        together = model.score(rows)
        assert together.tobytes() == np.array([model.score(r[None])[0] for r in rows]).tobytes()
        assert together[::-1].tobytes() == model.score(rows[::-1]).tobytes()
    assert not np.array_equal(
        small_bundle().score(rows), small_bundle().as_variant("baseline").score(rows)
    )


def other(value: Any) -> Any:
    """Give another value of the same type."""
    if isinstance(value, str):
        return "absolute" if value == "relative" else value + "x"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, dict):
        return {**value, "more": 1}
    if isinstance(value, tuple):
        return (other(value[0]), *value[1:])
    if value is None:
        return 0.5
    field = value.__struct_fields__[0]  # a baseline
    return msgspec.structs.replace(value, **{field: other(getattr(value, field))})


def with_field(bundle: Bundle, field: str, value: Any) -> Bundle:
    return replace(
        bundle, specification=msgspec.structs.replace(bundle.specification, **{field: value})
    )


@pytest.mark.parametrize("field", Specification.__struct_fields__)
def test_the_digest_covers_every_field_but_provenance(field: str) -> None:
    bundle = small_bundle()
    changed = with_field(bundle, field, other(getattr(bundle.specification, field)))
    assert changed.specification != bundle.specification
    assert (changed.digest == bundle.digest) == (field == "provenance")


@pytest.mark.parametrize("name", sorted(small_bundle().trees.arrays()))
def test_the_digest_covers_every_tree_array(name: str) -> None:
    bundle = small_bundle()
    array: Any = bundle.trees.arrays()[name].copy()
    if name == "start":
        array = float(array) + 1.0
    else:
        array[-1] = not array[-1] if array.dtype == bool else array[-1] + 1
    changed = replace(bundle.trees, **{name: array})
    assert replace(bundle, trees=changed).digest != bundle.digest


def test_the_variant_is_no_part_of_the_digest() -> None:
    bundle = small_bundle()
    assert bundle.as_variant("baseline").digest == bundle.digest
    assert bundle.as_variant("baseline").threshold == bundle.specification.baseline_threshold
    assert bundle.threshold == bundle.specification.threshold


def refused(folder) -> str:
    with pytest.raises(BundleError) as error:
        load(folder)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) > 20
    return text


def test_a_missing_file_is_refused(tmp_path, folder) -> None:
    assert MODEL_FILE in refused(tmp_path / "nowhere")
    (folder / TREES_FILE).unlink()
    assert TREES_FILE in refused(folder)


@pytest.mark.parametrize("name", [MODEL_FILE, TREES_FILE])
def test_a_truncated_file_is_refused(folder, name: str) -> None:
    whole = (folder / name).read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        (folder / name).write_bytes(whole[: int(share * len(whole))])
        refused(folder)


def test_damaged_trees_are_refused_or_whole(folder) -> None:
    """One byte changed anywhere: the archive's checksums tell, or nothing that counts changed."""
    whole, digest = (folder / TREES_FILE).read_bytes(), load(folder).digest
    generator = random.Random(0)
    directory = whole.index(b"PK\x01\x02")
    places = [generator.randrange(len(whole)) for _ in range(300)]
    places += [generator.randrange(directory, len(whole)) for _ in range(300)]
    refusals = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] = generator.randrange(256)
        (folder / TREES_FILE).write_bytes(bytes(damaged))
        try:
            found = load(folder).digest
        except BundleError as error:
            refusals.append(str(error))
        else:
            assert found == digest
    assert len(refusals) > 200
    assert not any("\n" in text for text in refusals)


def edit(folder, change) -> None:
    content = json.loads((folder / MODEL_FILE).read_bytes())
    change(content)
    (folder / MODEL_FILE).write_text(json.dumps(content))


def test_another_feature_table_is_refused(folder, monkeypatch) -> None:
    changed = (replace(feature_table.FEATURES[0], meaning="other"), *feature_table.FEATURES[1:])
    monkeypatch.setattr(feature_table, "FEATURES", changed)
    assert "another feature table" in refused(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(format=3), "format 3 is not 2"),
        (lambda c: c.update(inputs=c["inputs"][::-1]), "another feature table"),
        (lambda c: c.update(slope=c["slope"] * 1.01), "self-test failed"),
        (lambda c: c["example_scores"].__setitem__(0, 0.5), "self-test failed"),
        (lambda c: c["example_rows"].pop(), "self-test failed"),
        (lambda c: c["example_rows"][0].pop(), "no usable model"),
        (lambda c: c.pop("tau"), "tau"),
        (lambda c: c.update(tau="high"), "tau"),
        (lambda c: c.update(label_kind="other"), "label_kind"),
        (lambda c: c.update(surprise=1), "surprise"),
        (lambda c: c["lowest"].pop(), "not complete"),
        (lambda c: c.update(best_baseline="garch"), "not complete"),
    ],
)
def test_a_changed_description_is_refused(folder, change, says: str) -> None:
    edit(folder, change)
    assert says in refused(folder)


def test_changed_trees_fail_the_self_test(folder) -> None:
    with np.load(folder / TREES_FILE) as stored:
        arrays = dict(stored)
    arrays["start"] = np.array(float(arrays["start"]) + 1e-9)
    np.savez(folder / TREES_FILE, **arrays)
    assert "self-test failed" in refused(folder)
    arrays["feature"][0] = len(MODEL_INPUTS)
    np.savez(folder / TREES_FILE, **arrays)
    assert "input that the model does not have" in refused(folder)


def test_out_of_distribution_tells_range_and_absence() -> None:
    rows = random_rows(600, 0)
    bundle = small_bundle()
    assert not bundle.out_of_distribution(rows).any()  # what it was trained on
    spec = bundle.specification
    row = np.nan_to_num(rows[:1], nan=1.0)
    for place, name in enumerate(MODEL_INPUTS):
        margin = MARGIN * (spec.highest[place] - spec.lowest[place])
        for value, outside in (
            (spec.lowest[place] - 0.99 * margin, False),
            (spec.lowest[place] - 1.01 * margin, True),
            (spec.highest[place] + 0.99 * margin, False),
            (spec.highest[place] + 1.01 * margin, True),
            (np.nan, False),
        ):
            changed = row.copy()
            changed[0, INDEX[name]] = value
            assert bundle.out_of_distribution(changed).tolist() == [outside], (name, value)
    strict = with_field(bundle, "may_be_missing", (False, *spec.may_be_missing[1:]))
    changed = row.copy()
    changed[0, INDEX[MODEL_INPUTS[0]]] = np.nan
    assert strict.out_of_distribution(changed).all()
    # A price level is no input: whatever it is, it is not out of anything.
    changed = row.copy()
    changed[0, INDEX["midprice"]] = 1e300
    assert not strict.out_of_distribution(changed).any()


@pytest.mark.parametrize("variant", ["ml", "baseline"])
def test_contributions_add_up_to_the_score(variant) -> None:
    bundle = small_bundle().as_variant(variant)
    rows = random_rows(50, 3)
    names, parts = bundle.contributions(rows)
    scores = bundle.score(rows)
    assert parts.shape == (50, len(names))
    np.testing.assert_allclose(
        bundle.expected + parts.sum(axis=1), np.log(scores / (1.0 - scores)), atol=1e-9
    )
