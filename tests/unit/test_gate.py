"""The gate promotes a proven recipe, accepts a refit that is not worse, and gives its reasons."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import msgspec
import numpy as np
import pytest

from tests.bundles import START_NS, random_rows, small_bundle
from volatility.dataset import Dataset
from volatility.evaluation.evidence import LEAST_BLOCKS, Evidence, observe
from volatility.evaluation.gate import MARGIN, Champion, Verdict, judge
from volatility.evaluation.predictions import BASELINE, Predictions, Said, predict
from volatility.evaluation.resampled import block_gains
from volatility.features.table import LONGEST_WINDOW_SECONDS
from volatility.models.bundle import Bundle
from volatility.settings import Settings
from volatility.units import SECOND

Floats = np.ndarray
SETTINGS = Settings()
BLOCK_NS = SETTINGS.evaluate.block_seconds * SECOND
FIRST = (START_NS // BLOCK_NS + 1_000) * BLOCK_NS  # long after the small bundles' training
BLOCKS = 144
A_BLOCK = 20  # rows
OTHER = "another recipe"


@cache
def rows() -> Predictions:
    """Return rows of two days that no bundle has seen, with what a bundle says of them."""
    count = BLOCKS * A_BLOCK
    data = Dataset(
        symbols=("BTC-USD",),
        horizons=(60, 300, 900),
        symbol=np.zeros(count, dtype=np.int64),
        time=FIRST + np.arange(count) * (BLOCK_NS // A_BLOCK),
        rows=random_rows(count, 2),
        variance=np.ones((count, 3)),
    )
    return predict(small_bundle(0), data)


def made(ml: Floats, baseline: Floats, truth: Floats) -> Predictions:
    """Return predictions of float64[n] forecasts, with outcomes around the true one."""
    found = rows()
    noise = np.random.default_rng(3).gamma(8.0, 1.0 / 8.0, (len(truth), 1))
    variance = np.square(truth / 1e4)[:, None] / np.array(found.data.horizons) * noise

    def said(forecast: Floats) -> Said:
        return replace(found.said["ml"], volatility_bps=np.repeat(forecast[:, None], 3, axis=1))

    return replace(
        found,
        data=replace(found.data, variance=variance),
        said={"ml": said(ml), BASELINE: said(baseline)},
        simple=("har", "ewma", "har"),
    )


def truth() -> Floats:
    return 3.0 * np.exp(0.5 * np.sin(np.arange(BLOCKS * A_BLOCK)))


def bundle(seed: int, recipe: str = "this recipe", stop: int | None = None) -> Bundle:
    found = small_bundle(seed)
    changes = {"recipe": recipe} | ({} if stop is None else {"train_stop": stop})
    return replace(found, specification=msgspec.structs.replace(found.specification, **changes))


def champion(seed: int = 1, recipe: str = OTHER, stop: int | None = None) -> Champion:
    return Champion("3", bundle(seed, recipe, stop))


def says(one: Champion) -> Floats:
    """Return the champion's forecast of the rows, in basis points."""
    place = one.bundle.places(rows().data.symbols)[rows().data.symbol]
    result: Floats = one.bundle.forecast(rows().data.rows, place).volatility_bps[:, 0]
    return result


def first_look(predictions: Predictions, evidence: Evidence | None = None) -> Verdict:
    return judge(bundle(0), predictions, SETTINGS, evidence or Evidence())


def test_a_better_recipe_is_promoted() -> None:
    found = first_look(made(truth(), 2.0 * truth(), truth()))
    assert (found.earned, found.kind, found.reasons) == (True, "promotion", ())
    assert (found.champion, found.refresh, found.against_champion) == (None, None, None)
    assert found.recipe == "this recipe"
    assert found.best_simple == "har, ewma"  # as the folds chose
    assert found.evidence.blocks == BLOCKS
    assert len(msgspec.json.encode(found)) < 1_500


def test_an_equal_recipe_is_not() -> None:
    found = first_look(made(truth(), truth(), truth()))
    assert not found.earned
    (reason,) = found.reasons
    assert "no significant improvement over" in reason
    assert f"after {BLOCKS} blocks" in reason


def test_a_worse_recipe_is_not() -> None:
    found = first_look(made(2.0 * truth(), truth(), truth()))
    assert not found.earned
    assert found.evidence.mean < 0.0
    assert found.evidence.e_value == 1.0


def test_few_blocks_prove_nothing() -> None:
    few = made(truth(), 2.0 * truth(), truth()).take(np.arange((LEAST_BLOCKS - 1) * A_BLOCK))
    found = first_look(few)
    assert not found.earned
    assert "too few" in found.reasons[0]
    assert str(LEAST_BLOCKS) in found.reasons[0]


def test_looking_again_counts_nothing_twice() -> None:
    some = made(truth(), 1.5 * truth(), truth()).take(np.arange(60 * A_BLOCK))
    once = first_look(some)
    again = first_look(some, once.evidence)
    assert again.evidence == once.evidence
    assert again == once


def test_evidence_accumulates_over_looks() -> None:
    whole = made(truth(), 1.5 * truth(), truth())
    early = first_look(whole.take(np.arange(60 * A_BLOCK)))
    # A later training's folds begin later: what was counted is not there any more.
    late = first_look(whole.take(np.arange(40 * A_BLOCK, BLOCKS * A_BLOCK)), early.evidence)
    assert late.evidence.blocks == BLOCKS
    at_once = observe(Evidence(), *block_gains(whole, SETTINGS))
    assert late.evidence == at_once


def test_it_must_beat_a_champion_of_another_recipe_too() -> None:
    both = made(truth(), 2.0 * truth(), truth())
    found = judge(bundle(0), both, SETTINGS, Evidence(), champion())
    assert found.earned  # the champion knows nothing of these rows
    assert (found.champion, found.kind, found.refresh) == ("3", "promotion", None)
    assert found.against_champion is not None
    assert found.against_champion.blocks == BLOCKS


def test_the_champion_s_equal_does_not_replace_it() -> None:
    serving = champion()
    good = says(serving)
    found = judge(bundle(0), made(good, 2.0 * good, good), SETTINGS, Evidence(), serving)
    assert not found.earned
    (reason,) = found.reasons
    assert "no significant improvement over champion 3" in reason
    assert found.against_champion is not None
    assert found.against_champion.mean == pytest.approx(0.0, abs=1e-12)


def test_a_champion_whose_baseline_serves_is_judged_as_ml() -> None:
    serving = champion()
    good = says(serving)
    quiet = Champion("3", serving.bundle.as_variant("baseline"))
    found = judge(bundle(0), made(good, 2.0 * good, good), SETTINGS, Evidence(), quiet)
    assert found.against_champion is not None
    assert found.against_champion.mean == pytest.approx(0.0, abs=1e-12)


def test_evidence_against_a_champion_is_kept_too() -> None:
    both = made(truth(), 2.0 * truth(), truth())
    first = judge(bundle(0), both, SETTINGS, Evidence(), champion())
    again = judge(bundle(0), both, SETTINGS, first.evidence, champion(), first.against_champion)
    assert again.against_champion == first.against_champion


def test_blocks_that_a_champion_was_trained_on_are_left_out() -> None:
    both = made(truth(), 2.0 * truth(), truth())
    margin = (900 + LONGEST_WINDOW_SECONDS) * SECOND
    stop = FIRST + 100 * BLOCK_NS - margin - 1
    found = judge(bundle(0), both, SETTINGS, Evidence(), champion(stop=stop))
    assert found.evidence.blocks == BLOCKS
    assert found.against_champion is not None
    assert found.against_champion.blocks == BLOCKS - 100
    everything = champion(stop=FIRST + BLOCKS * BLOCK_NS)
    found = judge(bundle(0), both, SETTINGS, Evidence(), everything)
    assert not found.earned
    assert "0 blocks of evidence against champion 3 are too few" in found.reasons[0]


def refreshed(factor: float, **given: int) -> Verdict:
    """Judge a new fit of the serving recipe that is off the old one's truth by a factor."""
    serving = champion(recipe="this recipe", **given)
    good = says(serving)
    return judge(bundle(0), made(factor * good, good, good), SETTINGS, Evidence(), serving)


def test_a_new_fit_that_is_no_worse_replaces_the_old_one() -> None:
    found = refreshed(1.001)
    assert (found.earned, found.kind, found.reasons) == (True, "refresh", ())
    assert found.refresh is not None
    assert found.refresh.blocks == BLOCKS
    assert 0.0 <= abs(found.refresh.difference) < found.refresh.bound < MARGIN
    assert found.against_champion is None
    assert found.evidence.blocks == BLOCKS  # its skill is still watched


def test_a_new_fit_that_is_worse_by_the_margin_does_not() -> None:
    found = refreshed(1.25)
    assert (found.earned, found.kind) == (False, "refresh")
    assert "may be worse than version 3" in found.reasons[0]
    assert found.refresh is not None
    assert found.refresh.difference > MARGIN
    assert not found.refresh.passed


def test_a_fit_that_has_seen_too_much_cannot_be_compared_and_stays() -> None:
    found = refreshed(1.001, stop=FIRST + (BLOCKS - LEAST_BLOCKS) * BLOCK_NS)
    assert (found.earned, found.kind, found.refresh) == (False, "refresh", None)
    assert "its fit is kept" in found.reasons[0]


def test_the_champion_itself_is_judged_again_and_stays() -> None:
    serving = Champion("3", bundle(0))
    found = judge(bundle(0), made(truth(), truth(), truth()), SETTINGS, Evidence(), serving)
    assert (found.earned, found.kind, found.refresh) == (True, "refresh", None)
