"""Demote a champion refuted by its own live predictions, so that the best simple forecast serves.

The evidence accumulates over blocks of clock time in a tag of the registered model. Its error
stays bounded however often it is checked; see ``volatility.evaluation.evidence``.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from msgspec.structs import replace

from volatility.evaluation import (
    Demotion,
    Evidence,
    Gains,
    Judgement,
    LivePerformance,
    measure_captured,
    observe,
    refuted,
    restart,
)
from volatility.registry import champions
from volatility.registry.errors import RegistryError
from volatility.registry.serving import live_models
from volatility.settings import Settings

logger = logging.getLogger(__name__)


def measure_and_judge(settings: Settings, features: Path, predictions: Path) -> LivePerformance:
    """Measure captured predictions, and demote the champion if they refute it.

    Returns
    -------
    LivePerformance
        With the champion's ``live_evidence`` and the current ``demotion``, if there are any.

    Raises
    ------
    RegistryError, FeaturesError, LakeError
        As in ``performance.measure_captured``.
    """
    measured = measure_captured(settings, features, predictions, live_models)
    judgement = None if measured.gains is None else judge_live(measured.gains)
    demotion = champions.demotion()
    return replace(measured.report, live_evidence=judgement, demotion=demotion)


def judge_live(gains: Gains) -> Judgement | None:
    """Add the champion's new blocks to its evidence, and demote it if the evidence refutes it.

    A demotion resets the evidence for its recipe, which has to earn promotion again.

    Returns
    -------
    Judgement or None
        None if the version is no longer the champion.

    Raises
    ------
    RegistryError
        If the registry is unavailable.
    """
    if champions.champion() != gains.version:
        return None
    before = _decode(champions.read_live_evidence(gains.recipe))
    evidence = observe(before, gains.end_ns, gains.gain)
    if evidence != before:
        champions.write_live_evidence(gains.recipe, _encode(evidence))
    if refuted(evidence):
        _demote(gains, evidence)
    return Judgement(gains.version, evidence.blocks, evidence.mean, evidence.e_value_against)


def _demote(gains: Gains, evidence: Evidence) -> Demotion:
    now_ns = evidence.newest  # market time, which differs from clock time in a replay
    recipe = champions.read_evidence(gains.recipe)
    # First, so that after a crash in between, the next check demotes the remaining champion.
    if recipe is not None:
        champions.write_evidence(gains.recipe, _encode(restart(_decode(recipe), now_ns)))
    reason = (
        f"live predictions refute it: over {evidence.worst_blocks} blocks its QLIKE differed by "
        f"{-evidence.worst_mean:+.3f} from that of the best simple forecast, e-value "
        f"{evidence.e_value_against:.3g}"
    )
    demotion = champions.demote(gains.version, reason=reason, e_value=evidence.e_value_against)
    logger.warning("demoted version %s: %s", gains.version, reason)
    # If it is promoted again, only later predictions count.
    champions.write_live_evidence(gains.recipe, _encode(restart(evidence, now_ns)))
    return demotion


def _encode(evidence: Evidence) -> str:
    return msgspec.json.encode(evidence).decode()


def _decode(text: str | None) -> Evidence:
    if text is None:
        return Evidence()
    try:
        return msgspec.json.decode(text, type=Evidence)
    except msgspec.MsgspecError as error:
        raise RegistryError(f"stored evidence cannot be read ({error})") from error
