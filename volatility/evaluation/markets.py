"""Simulate markets whose true volatility forecast is known, so that nothing can beat it.

* ``constant``: constant variance, a quote in every second;
* ``har``: the variance of the next second is linear in realised variances of the last 60, 300
  and 900 s (Corsi, 2009), so that the expectation over any horizon is linear in the squared
  returns of the last 900 s;
* ``sparse_1s``, ``sparse_10s``, ``sparse_30s``: constant variance of an efficient price that is
  visible only in quotes, which arrive every 1, 10 or 30 s on average. The age of the last quote
  tells how much of a move is still hidden;
* ``together``: symbols that share most of their moves, with constant variance.

References
----------
Corsi (Journal of Financial Econometrics, 2009) for the HAR; Karlin and Taylor, A First Course in
Stochastic Processes (1975), chapter 5, for the age of a Poisson process.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from volatility.compiled import njit
from volatility.features import FeatureFrame, rows_of
from volatility.settings import Features
from volatility.units import SECOND, Floats, Integers

START_NS = 1_767_571_200 * SECOND  # 2026-01-05, a Monday
PRICE = 50_000.0
DEVIATION = 0.4e-4  # of a one-second log return
MORE_TICKS = 1.5  # per second, in addition to the first
SPREAD = 1e-5  # of the price, on average
HAR_WINDOWS = (60, 300, 900)
HAR_WEIGHTS = (0.35, 0.35, 0.27)
SPARSE_SECONDS = (1.0, 10.0, 30.0)
SYMBOLS, SHARED = 6, 0.8  # for ``together``: symbols, and the correlation of their returns
TOGETHER_SHARE = 0.5  # of the hours, because six symbols take six times the work

Truth = Callable[[int, int], Floats]


@dataclass(frozen=True)
class PlaceboMarket:
    """Represent a market by its feature rows and its true forecast.

    ``truth(place, horizon_seconds)`` is float64[n]: the expected forward realised variance [1/s]
    at every row of ``frames[place]``, given all information available there.
    """

    name: str
    frames: tuple[FeatureFrame, ...]
    truth: Truth


def placebo_markets(features: Features, hours: float, seed: int) -> Iterator[PlaceboMarket]:
    """Yield the simulated markets one after the other.

    Parameters
    ----------
    features : Features
        Feature settings.
    hours : float
        Length of each market; ``together`` has half of it.
    seed : int
        Not negative. Each market has its own random numbers, determined by seed and name.
    """
    seconds = int(hours * 3600)
    yield _constant(features, seconds, seed)
    yield _har(features, seconds, seed)
    for mean in SPARSE_SECONDS:
        yield _sparse(features, seconds, seed, mean)
    yield _together(features, int(TOGETHER_SHARE * seconds), seed)


def _generator(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _constant(features: Features, seconds: int, seed: int) -> PlaceboMarket:
    random = _generator("constant", seed)
    frame = _dense("CONSTANT-USD", random.standard_normal(seconds), DEVIATION, features, random)
    return PlaceboMarket("constant", (frame,), lambda _, __: np.full(len(frame.time), DEVIATION**2))


def _together(features: Features, seconds: int, seed: int) -> PlaceboMarket:
    random = _generator("together", seed)
    common = random.standard_normal(seconds)
    frames = []
    for number in range(SYMBOLS):
        own = random.standard_normal(seconds)
        shocks = math.sqrt(SHARED) * common + math.sqrt(1.0 - SHARED) * own
        frames.append(_dense(f"TOGETHER{number}-USD", shocks, DEVIATION, features, random))
    return PlaceboMarket(
        "together",
        tuple(frames),
        lambda place, _: np.full(len(frames[place].time), DEVIATION**2),
    )


def _har(features: Features, seconds: int, seed: int) -> PlaceboMarket:
    random = _generator("har", seed)
    before = HAR_WINDOWS[-1]
    shocks = random.standard_normal(before + seconds)
    constant = (1.0 - sum(HAR_WEIGHTS)) * DEVIATION**2
    deviations = _har_deviations(shocks, constant, np.array(HAR_WINDOWS), np.array(HAR_WEIGHTS))
    frame = _dense("HAR-USD", shocks[before:], deviations[before:], features, random)
    squares = np.square(deviations * shocks)
    # The row of a step includes the return of the second that it closes.
    last = before + (frame.time - START_NS) // SECOND - 1

    def truth(_: int, horizon_seconds: int) -> Floats:
        start, weights = har_expectation(horizon_seconds, constant)
        expected = start + np.convolve(squares, weights)[: len(squares)]
        result: Floats = expected[last]
        return result

    return PlaceboMarket("har", (frame,), truth)


@njit()
def _har_deviations(shocks, constant, windows, weights):  # type: ignore[no-untyped-def]
    """Compute the deviation of each return (deviation times shock), starting in the prehistory."""
    deviations = np.full(len(shocks), DEVIATION)
    total = np.zeros(len(shocks) + 1)
    for t in range(len(shocks)):
        if t >= windows[-1]:
            variance = constant
            for k in range(len(windows)):
                variance += weights[k] * (total[t] - total[t - windows[k]]) / windows[k]
            deviations[t] = math.sqrt(variance)
        move = deviations[t] * shocks[t]
        total[t + 1] = total[t] + move * move
    return deviations


def har_expectation(horizon_seconds: int, constant: float) -> tuple[float, Floats]:
    """Return the expected mean variance over a horizon as a constant and float64[900] weights.

    The weights apply to the squared returns of the last 900 s, newest first. The expectation for
    each later second is linear in the preceding squares; unknown ones are replaced by their own
    expectations.
    """
    longest = HAR_WINDOWS[-1]
    lags = np.zeros(longest + horizon_seconds)
    for window, weight in zip(HAR_WINDOWS, HAR_WEIGHTS, strict=True):
        lags[:window] += weight / window
    starts = np.zeros(horizon_seconds)
    weights = np.zeros((horizon_seconds, longest))
    for ahead in range(horizon_seconds):
        # The unknown seconds, oldest first.
        back = lags[:ahead][::-1]
        starts[ahead] = constant + back @ starts[:ahead]
        weights[ahead] = lags[ahead : ahead + longest] + back @ weights[:ahead]
    return float(starts.mean()), weights.mean(axis=0)


def _sparse(features: Features, seconds: int, seed: int, mean_seconds: float) -> PlaceboMarket:
    name = f"sparse_{mean_seconds:g}s"
    random = _generator(name, seed)
    at = quote_seconds(seconds, mean_seconds, random)
    moves = DEVIATION * np.sqrt(np.diff(at, prepend=at[0])) * random.standard_normal(len(at))
    middle = PRICE * np.exp(np.cumsum(moves))
    time = START_NS + (at * SECOND).astype(np.int64)
    beats = START_NS + np.arange(seconds, dtype=np.int64) * SECOND + SECOND // 2
    frame = _frame("SPARSE-USD", time, middle, beats, features, random)
    # Heartbeats prevent gaps but carry no price: the age is that of the last quote.
    last = time[np.searchsorted(time, frame.time, side="right") - 1]
    age = (frame.time - last) / SECOND

    def truth(_: int, horizon_seconds: int) -> Floats:
        return DEVIATION**2 * shown_seconds(age, horizon_seconds, mean_seconds) / horizon_seconds

    return PlaceboMarket(name, (frame,), truth)


def quote_seconds(seconds: int, mean_seconds: float, random: np.random.Generator) -> Floats:
    """Draw increasing quote times: one that opens the market, then a Poisson process."""
    waits = random.exponential(mean_seconds, int(1.2 * seconds / mean_seconds) + 100)
    at = np.cumsum(np.concatenate([[1e-3], waits]))
    return at[at < seconds]


def shown_seconds(age: Floats, horizon_seconds: float, mean_seconds: float) -> Floats:
    """Return the expected seconds of price moves that quotes reveal within a horizon.

    Quotes arrive at random (Poisson). All moves up to the last quote in the horizon are revealed:
    those during the ``age`` of the current quote and during the horizon, minus the quote age at
    its end. Without a quote in the horizon, probability ``exp(-h / m)``, that age is ``age + h``;
    otherwise it is exponential, truncated at the horizon.

    Moves are independent, so the expected square of a return is the variance of all moves that it
    reveals, however many quotes arrived in its second.

    The kernel forgets a quote after 300 s, and a window in which that happens has no label. With a
    quote every 30 s on average this happens once a week, which is ignored here.
    """
    none = math.exp(-horizon_seconds / mean_seconds)
    some = mean_seconds * (1.0 - none * (1.0 + horizon_seconds / mean_seconds))
    result: Floats = age + horizon_seconds - ((age + horizon_seconds) * none + some)
    return result


def _dense(
    symbol: str,
    shocks: Floats,
    deviations: Floats | float,
    features: Features,
    random: np.random.Generator,
) -> FeatureFrame:
    """Build a market with ticks in every second; its return is deviation times shock."""
    seconds = len(shocks)
    count = 1 + random.poisson(MORE_TICKS, seconds)
    second = np.repeat(np.arange(seconds), count)
    at = random.random(len(second))
    order = np.lexsort((at, second))
    second, at = second[order], at[order]
    # Within a second the price is a random walk that ends at the second's return: a bridge.
    steps = random.standard_normal(len(second))
    first = np.cumsum(count) - count
    steps -= np.repeat(np.add.reduceat(steps, first) / count, count)
    moves = np.repeat(deviations / np.sqrt(count), count) * steps
    moves += np.repeat(deviations * shocks / count, count)
    time = START_NS + second * SECOND + 1 + (at * (SECOND - 2)).astype(np.int64)
    # A later record is needed to close the last second.
    beats = np.array([START_NS + seconds * SECOND + SECOND // 2])
    return _frame(symbol, time, PRICE * np.exp(np.cumsum(moves)), beats, features, random)


def _frame(
    symbol: str,
    time: Integers,
    middle: Floats,
    beats: Integers,
    features: Features,
    random: np.random.Generator,
) -> FeatureFrame:
    """Build the feature rows from quotes around a midprice and from heartbeats."""
    half = 0.5 * SPREAD * PRICE * (0.5 + random.random(len(time)))
    sizes = random.exponential(1.0, (2, len(time)))
    nothing = np.full(len(beats), np.nan)
    every = np.concatenate([time, beats])
    order = np.argsort(every, kind="stable")
    columns = [
        np.concatenate([column, nothing])[order]
        for column in (middle - half, middle + half, sizes[0], sizes[1])
    ]
    ticks = (every[order], *columns, np.full(len(every), -1, dtype=np.int64))
    parts = [(t.copy(), r.copy()) for t, r in rows_of([ticks], features)]
    return FeatureFrame(
        symbol, np.concatenate([t for t, _ in parts]), np.concatenate([r for _, r in parts])
    )
