"""Compare the simulated market with the recordings and draw ``reports/simulator.png``.

Run ``python -m benchmarks.simulator_statistics``. It prints one row of statistics for each day
of recordings (if present) and for a simulated day, and draws the distribution of
one-second returns, the autocorrelation of their absolute values, and the volatility over time.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from volatility.files import replacing
from volatility.simulation import noise, simulate
from volatility.units import Floats

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = ROOT.parent / "shared" / "data" / "ticks" / "btc-usd.parquet"
START_NS = 1_767_571_200_000_000_000  # 2026-01-05
GAP_SECONDS = 15
BPS = 1e4
MIN_RECORDING_SECONDS = 600


class Segment(NamedTuple):
    """Represent an uninterrupted run of seconds.

    Parameters
    ----------
    start_seconds : int
        The first second, since the epoch.
    returns : float64[seconds - 1]
        One-second log returns of the last midprice of each second, carried forward.
    counts : int64[seconds]
        Ticks in each second.
    """

    start_seconds: int
    returns: Floats
    counts: npt.NDArray[np.int64]


def segments(table: pa.Table) -> list[Segment]:
    """Split time-ordered ticks at gaps of more than 15 s and at the ends of recordings."""
    seconds = table["time"].cast(pa.int64()).to_numpy() // 1_000_000_000
    middle = pc.fill_null_forward(pc.divide(pc.add(table["bid"], table["ask"]), 2.0)).to_numpy()
    ticks = pc.is_valid(table["bid"]).to_numpy()
    cut = np.diff(seconds) > GAP_SECONDS
    if "recording" in table.column_names:
        names = table["recording"].combine_chunks()
        cut |= pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
    edges = [0, *(np.flatnonzero(cut) + 1), len(seconds)]
    found = []
    for first, end in itertools.pairwise(edges):
        part = seconds[first:end]
        grid = np.arange(part[0], part[-1] + 1)
        last = np.searchsorted(part, grid, side="right") - 1
        values = np.log(middle[first:end][last])
        counts = np.bincount(part[ticks[first:end]] - part[0], minlength=len(grid))
        known = int(np.argmax(np.isfinite(values)))  # heartbeats may precede the first quote
        found.append(Segment(int(grid[known]), np.diff(values[known:]), counts[known:]))
    return found


def autocorrelation(parts: Iterable[Floats], lag: int) -> float:
    """Correlate values with themselves ``lag`` seconds later, within each part."""
    parts = list(parts)
    everything = np.concatenate(parts)
    mean, variance = everything.mean(), everything.var()
    products = [(x[lag:] - mean) * (x[:-lag] - mean) for x in parts if len(x) > lag]
    return float(np.concatenate(products).mean() / variance)


def volatility_60s(returns: Floats) -> Floats:
    """Return the root of the rolling sum of squared returns over 60 s [dimensionless]."""
    if len(returns) < 60:
        return np.empty(0)
    total = np.cumsum(np.concatenate([[0.0], returns**2]))
    return np.sqrt(np.maximum(total[60:] - total[:-60], 0.0))


def statistics(parts: list[Segment]) -> dict[str, float]:
    """Summarise one-second returns: zeros, tails, clustering, level and tick rate.

    Returns
    -------
    dict
        ``zeros`` (share), ``kurtosis`` (3 is Gaussian), ``acf1``, ``acf10``, ``acf60`` (of
        absolute returns), ``volatility_60s_bps`` (median) and ``ticks_per_second`` (mean).
    """
    returns = np.concatenate([part.returns for part in parts])
    centred = returns - returns.mean()
    absolute = [np.abs(part.returns) for part in parts]
    return {
        "zeros": float(np.mean(returns == 0.0)),
        "kurtosis": float(np.mean(centred**4) / np.mean(centred**2) ** 2),
        **{f"acf{lag}": autocorrelation(absolute, lag) for lag in (1, 10, 60)},
        "volatility_60s_bps": BPS
        * float(np.median(np.concatenate([volatility_60s(part.returns) for part in parts]))),
        "ticks_per_second": float(np.mean(np.concatenate([part.counts for part in parts]))),
    }


def read_recordings(path: Path = RECORDINGS) -> dict[str, dict[str, list[Segment]]]:
    """Return the segments of the recordings, by day and by recording of 10 minutes or more."""
    table = pq.read_table(path, columns=["time", "bid", "ask", "recording"]).sort_by("time")
    days = pc.strftime(table["time"], format="%Y-%m-%d")
    by_day = {str(day): segments(table.filter(pc.equal(days, day))) for day in days.unique()}
    by_recording = {}
    for name in table["recording"].unique():
        part = table.filter(pc.equal(table["recording"], name))
        length = pc.subtract(part["time"][-1], part["time"][0]).as_py().total_seconds()
        if length >= MIN_RECORDING_SECONDS:
            by_recording[str(name)] = segments(part)
    return {"day": by_day, "recording": by_recording}


def draw(days: dict[str, list[Segment]], simulated: list[Segment], path: Path) -> None:
    """Draw recordings and simulation side by side into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    figure.suptitle("One-second returns of the midprice: recordings of BTC-USD and the simulator")
    colours = dict(
        zip(days, plt.get_cmap("viridis")(np.linspace(0.05, 0.85, len(days) or 1)), strict=False)
    )
    shown = [(day, parts, colours[day], 1.2) for day, parts in days.items()]
    shown.append(("simulated", simulated, "crimson", 2.2))

    lags = np.unique(np.geomspace(1, 300, 40).astype(int))
    edges = np.linspace(-6.075, 6.075, 82)
    for label, parts, colour, width in shown:
        returns = BPS * np.concatenate([part.returns for part in parts])
        style: dict[str, Any] = {"color": colour, "linewidth": width, "label": label}
        density = np.histogram(returns, edges)[0] / len(returns)
        axes[0, 0].stairs(np.where(density > 0, density, np.nan), edges, baseline=None, **style)
        absolute = [np.abs(part.returns) for part in parts]
        acf = [autocorrelation(absolute, int(lag)) for lag in lags]
        axes[0, 1].plot(lags, acf, **style)
        levels = BPS * np.concatenate([volatility_60s(part.returns) for part in parts])
        axes[1, 0].plot(np.sort(levels), np.linspace(0, 1, len(levels)), **style)
    axes[0, 0].set(
        yscale="log",
        xlabel="one-second return [bps]",
        ylabel="share of seconds (bins of 0.15 bps)",
        title="Distribution of returns",
    )
    axes[0, 1].axhline(0, color="grey", linewidth=0.8)
    axes[0, 1].set(
        xscale="log",
        ylim=(-0.12, 0.2),
        xlabel="lag [s]",
        ylabel="autocorrelation",
        title="Autocorrelation of absolute returns",
    )
    axes[1, 0].set(
        xlim=(0, 10),
        xlabel="60 s volatility [bps]",
        ylabel="share of seconds below",
        title="Distribution of 60 s volatility",
    )
    _draw_time(axes[1, 1], days, simulated, colours)
    axes[0, 0].legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def _draw_time(
    axis: Any, days: dict[str, list[Segment]], simulated: list[Segment], colours: dict[str, Any]
) -> None:
    """Draw 60 s volatility over two hours: simulation, and each day's longest run."""
    runs = [(parts, colours[day], 1.1) for day, parts in days.items()]
    for parts, colour, width in [*runs, (simulated, "crimson", 1.6)]:
        longest = max(parts, key=lambda part: len(part.returns))
        level = BPS * volatility_60s(longest.returns)[: 2 * 3600 : 10]
        level[level == 0.0] = np.nan  # a minute without a move cannot be shown on a log axis
        axis.plot(np.arange(len(level)) / 360, level, color=colour, linewidth=width)
    axis.set(
        yscale="log",
        ylim=(0.1, 20),
        xlabel="hours from the start",
        ylabel="60 s volatility [bps]",
        title="60 s volatility over time (recordings: longest run of each day)",
    )


def main() -> None:
    """Print the statistics and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recordings", type=Path, default=RECORDINGS)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "simulator.png")
    options = parser.parse_args()
    days = read_recordings(options.recordings)["day"] if options.recordings.exists() else {}
    simulated, placebo = (
        segments(pa.Table.from_batches(market("BTC-USD", START_NS, options.hours, options.seed)))
        for market in (simulate, noise)
    )
    rows = {**days, "simulated": simulated, "noise": placebo}
    for number, (name, parts) in enumerate(rows.items()):
        row = statistics(parts)
        if number == 0:
            print(f"{'':<12}" + "".join(f"{key:>20}" for key in row))
        print(f"{name:<12}" + "".join(f"{value:>20.3f}" for value in row.values()))
    draw(days, simulated, options.out)
    print(f"wrote {options.out.name} into {options.out.parent.name}/")


if __name__ == "__main__":
    main()
