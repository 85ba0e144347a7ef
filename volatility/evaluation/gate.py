"""Decide whether a recipe has earned promotion, and whether a new fit may replace the old one.

A recipe earns promotion by evidence that accumulates over blocks of clock time and stays valid
however often it is checked. A new fit of the serving recipe needs no new evidence of skill: it
replaces the older fit if the recipe is not worse by more than a margin on rows that the older fit
has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from volatility.evaluation.evidence import (
    LEAST_BLOCKS,
    LEVEL,
    Evidence,
    NotWorse,
    earned,
    not_worse,
    observe,
)
from volatility.evaluation.predictions import Predictions, Said, unseen
from volatility.evaluation.resampled import block_gains
from volatility.models import Bundle
from volatility.settings import Settings
from volatility.units import Floats

MARGIN = 0.01  # QLIKE: a fit that may be worse by more does not replace the older fit
CHAMPION = "champion"


@dataclass(frozen=True)
class Champion:
    """Represent the serving version and its bundle."""

    version: str
    bundle: Bundle


class Verdict(msgspec.Struct, frozen=True):
    """Represent the gate's decision and its reasons.

    ``evidence`` is that of the recipe against the best simple forecast, ``against_champion``
    that against a champion of another recipe, ``refresh`` the comparison of two fits of one
    recipe.
    """

    recipe: str
    earned: bool
    kind: Literal["promotion", "refresh"]
    reasons: tuple[str, ...]
    champion: str | None
    best_simple: str
    evidence: Evidence
    against_champion: Evidence | None = None
    refresh: NotWorse | None = None


def judge(
    challenger: Bundle,
    predictions: Predictions,
    settings: Settings,
    evidence: Evidence,
    champion: Champion | None = None,
    against_champion: Evidence | None = None,
) -> Verdict:
    """Judge a recipe on the out-of-sample predictions of its walk-forward fits.

    Parameters
    ----------
    predictions : Predictions
        Walk-forward predictions; blocks already counted in ``evidence`` are ignored.
    evidence, against_champion : Evidence
        Evidence from earlier looks at this recipe.
    champion : Champion, optional
        Serving version.
    """
    spec = challenger.specification
    seen = observe(evidence, *block_gains(predictions, settings))
    kind: Literal["promotion", "refresh"] = "promotion"
    reasons: list[str] = []
    refresh, against = None, None
    if champion is not None and champion.bundle.specification.recipe == spec.recipe:
        kind = "refresh"
        if champion.bundle.digest != challenger.digest:
            refresh = _refresh(predictions, settings, champion)
            if refresh is None:
                reasons.append(
                    f"fewer than {LEAST_BLOCKS} blocks that version {champion.version} has not "
                    "seen: its fit is kept"
                )
            elif not refresh.passed:
                reasons.append(
                    f"the new fit may be worse than version {champion.version} by more than "
                    f"{MARGIN:g} of QLIKE (bound {refresh.bound:+.4f})"
                )
    else:
        if not earned(seen):
            reasons.append(_why_not(seen, spec.best_simple))
        if champion is not None:
            against = observe(
                against_champion or Evidence(), *_gains_over(predictions, settings, champion)
            )
            if not earned(against):
                reasons.append(_why_not(against, f"champion {champion.version}"))
    return Verdict(
        recipe=spec.recipe,
        earned=not reasons,
        kind=kind,
        reasons=tuple(reasons),
        champion=None if champion is None else champion.version,
        best_simple=", ".join(dict.fromkeys(predictions.simple)),
        evidence=seen,
        against_champion=against,
        refresh=refresh,
    )


def _why_not(evidence: Evidence, opponent: str) -> str:
    if evidence.blocks < LEAST_BLOCKS:
        return (
            f"{evidence.blocks} blocks of evidence against {opponent} are too few "
            f"({LEAST_BLOCKS} are needed)"
        )
    return (
        f"no significant improvement over {opponent} yet: e-value {evidence.e_value:.3g} after "
        f"{evidence.blocks} blocks, {1.0 / LEVEL:.0f} is needed"
    )


def _against(predictions: Predictions, champion: Champion) -> Predictions:
    """Return the rows that a champion has not seen, with its own predictions for them."""
    bundle = champion.bundle
    kept = predictions.take(unseen(bundle, predictions.data.time))
    if not len(kept.data):
        return kept
    place = bundle.places(kept.data.symbols)[kept.data.symbol]
    made = bundle.as_variant("ml").forecast(kept.data.rows, place)
    like = kept.said["ml"]
    said = Said(
        made.volatility_bps, made.exceedance, like.crps_bps, made.quantiles_bps[:, 0],
        like.exceedance, like.pit, like.threshold,
    )  # fmt: skip
    return replace(kept, said={**kept.said, CHAMPION: said})


def _gains_over(
    predictions: Predictions, settings: Settings, champion: Champion
) -> tuple[npt.NDArray[np.int64], Floats]:
    kept = _against(predictions, champion)
    if not len(kept.data):
        return np.empty(0, np.int64), np.empty(0)
    return block_gains(kept, settings, "ml", CHAMPION)


def _refresh(predictions: Predictions, settings: Settings, champion: Champion) -> NotWorse | None:
    _, gains = _gains_over(predictions, settings, champion)
    if len(gains) < LEAST_BLOCKS:
        return None
    return not_worse(-gains, MARGIN)
