"""Compare every model with the true forecast of simulated markets, over many seeds.

``python -m benchmarks.placebo`` trains on six markets whose true forecast is known, for each of 20
seeds, and writes ``benchmarks/results/placebo.json``: the greatest gain over the truth that any
model shows on any of them, in standard errors. It takes four minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from benchmarks.results import Row, compare, table, write
from volatility.evaluation import STANDARD_ERRORS, Placebo, run_placebo
from volatility.models import shipped
from volatility.settings import Settings

RESULTS = Path(__file__).parent / "results" / "placebo.json"
SEEDS = 20


def gains(found: list[Placebo]) -> dict[str, list[float]]:
    """Return the gains over the truth [standard errors] by measure, of every market and model."""
    skills = [skill for one in found for models in one.skills.values() for skill in models.values()]
    return {
        "QLIKE": [skill.skill / skill.standard_error for skill in skills],
        "PR-AUC": [skill.pr_auc_skill / skill.pr_auc_standard_error for skill in skills],
    }


def rows(found: list[Placebo]) -> list[Row]:
    """Return one row per measure; above the target, the truth would be beaten."""
    return [
        compare(
            f"{measure} gained over the truth, greatest of {len(gained):,}: "
            f"{len(found[0].skills)} markets, every model, {len(found)} seeds",
            "standard errors",
            max(gained),
            target=STANDARD_ERRORS,
        )
        for measure, gained in gains(found).items()
    ]


def main() -> None:
    """Run all seeds and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds: int = parser.parse_args().seeds
    settings, prior = Settings(), shipped()
    found = [
        run_placebo(settings, prior, seed=seed)
        for seed in tqdm(range(seeds), unit=" seed", disable=None)
    ]
    measured = rows(found)
    write(measured, RESULTS)
    print(table(measured))


if __name__ == "__main__":
    main()
