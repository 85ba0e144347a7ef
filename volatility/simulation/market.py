"""Draw a market second by second: the model behind ``volatility.simulation.simulator``.

News moves a log level through three regimes (a Markov chain) and a fast clustering component
(exponential Ornstein-Uhlenbeck). Activity follows the news within seconds, and volatility follows
activity a little later, so arrivals and spreads announce it. Arrivals excite each other. The
midprice accumulates variance and moves in calendar time and realises them at the next tick, which
causes heavy tails and many seconds without a move. The constants were chosen so that the
one-second returns resemble the recordings (``tests/data/test_simulated_statistics.py``).

References
----------
Hamilton (1989) for switching regimes; Hawkes (1971) for self-exciting arrivals; Ogata (1981)
for drawing them by thinning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from volatility.compiled import njit
from volatility.units import SECOND

MAX_TICKS_PER_SECOND = 200

TICKS_PER_UNIT = 100.0  # the venue's grid: 0.01 of the quote currency
NOISE_TICKS_PER_UNIT = 1e6  # a placebo move spans 10^6 of these: no rounding to learn from

# Volatilities are per square root of a second; 1e-4 is one basis point.
REGIME_VOLATILITY = np.array([0.22e-4, 0.36e-4, 0.66e-4])  # calm, normal, turbulent
REGIME_SECONDS = np.array([6000.0, 3600.0, 1200.0])  # mean stay
REGIME_NEXT = np.array([[0.0, 0.8, 0.2], [0.6, 0.0, 0.4], [0.2, 0.8, 0.0]])
REGIME_START = np.array([0.50, 0.42, 0.08])  # the share of time spent in each
REFERENCE_VOLATILITY = 0.3e-4
NOISE_VOLATILITY = 0.4e-4

CLUSTER_SECONDS, CLUSTER_DEVIATION = 60.0, 0.28  # exponential Ornstein-Uhlenbeck, in logs
BURST_SECONDS, BURST_DEVIATION = 2.0, 0.55  # the same, only in volatility: nothing announces it
ACTIVITY_SECONDS, VOLATILITY_SECONDS = 4.0, 25.0  # lags behind the news: activity leads

ARRIVALS_PER_SECOND, ARRIVALS_POWER = 4.9, 0.4  # at the reference; power of the activity
BRANCHING, EXCITATION_SECONDS = 0.35, 1.5  # Hawkes: offspring per tick, duration of excitation
MAX_ARRIVALS_PER_SECOND = 100.0
QUIET_EVERY_SECONDS, QUIET_SECONDS, QUIET_SHARE = 500.0, 4.0, 0.02  # calm regime only

MOVES_PER_SECOND, MOVES_POWER = 0.5, 1.1  # of the quotes, at the reference; power of volatility
MOVE_SPREAD = 0.75  # of the log size of a move, on top of an exponential draw: heavy tails
LARGEST_MOVE = 12.0  # times the usual one: no single second may dominate a day's kurtosis
IMBALANCE_SKILL = 0.25  # how far the displayed sizes shift the chance of an up-move from a half
STALE_SHARE = 0.7
SPREAD_ODDS, SPREAD_POWER, SPREAD_MEAN, NARROW_SHARE = 1.5, 0.7, 0.3, 0.25
DEPTH, TRADE = 3_000.0, 200.0  # median value displayed and traded, quote currency

STATE = np.dtype(
    [
        ("regime", np.int64),
        ("cluster", np.float64),
        ("burst", np.float64),
        ("activity", np.float64),
        ("volatility", np.float64),
        ("excitation", np.float64),
        ("quiet_seconds", np.float64),
        ("imbalance", np.float64),
        ("variance", np.float64),
        ("moves", np.float64),
        ("middle", np.float64),
        ("bid", np.float64),
        ("ask", np.float64),
        ("received", np.int64),
        ("sequence", np.int64),
        ("trade_id", np.int64),
    ]
)
ROW = np.dtype(
    [
        ("time", np.int64),
        ("received", np.int64),
        ("price", np.float64),
        ("bid", np.float64),
        ("ask", np.float64),
        ("bid_size", np.float64),
        ("ask_size", np.float64),
        ("size", np.float64),
        ("buy", np.int64),
        ("sequence", np.int64),
        ("trade_id", np.int64),  # 0 marks a heartbeat
    ]
)

Rows = npt.NDArray[Any]
Kernel = Callable[[np.random.Generator, Rows, Rows, int, int, int], int]


def initial_state(price: float, random: np.random.Generator) -> Rows:
    """Return the ``STATE[1]`` of a market that starts at ``price`` [quote currency]."""
    state = np.zeros(1, STATE)
    state["regime"] = np.searchsorted(np.cumsum(REGIME_START)[:-1], random.random(), "right")
    state["activity"] = state["volatility"] = np.log(REGIME_VOLATILITY[state["regime"]])
    state["middle"], state["bid"], state["ask"] = price, price, price + 1.0 / TICKS_PER_UNIT
    return state


@njit()
def draw_market(
    random: np.random.Generator,
    states: Rows,
    rows: Rows,
    start_ns: int,
    seconds: int,
    heartbeat_ns: int,
) -> int:
    """Fill ``rows`` with ``seconds`` of the market; return the number of rows used."""
    s = states[0]
    used = 0
    for second in range(seconds):
        second_ns = start_ns + second * SECOND
        _advance(random, s)
        base = ARRIVALS_PER_SECOND * (1.0 - BRANCHING) * _relative(s.activity, ARRIVALS_POWER)
        quiet = QUIET_SHARE if s.quiet_seconds > 0.0 else 1.0
        # The last term keeps the mean variance the same as without bursts.
        variance_per_second = math.exp(2.0 * (s.volatility + s.burst - BURST_DEVIATION**2))
        moves_per_second = MOVES_PER_SECOND * _relative(s.volatility + s.burst, MOVES_POWER)
        now, ticks, beaten = 0.0, 0, False
        while ticks < MAX_TICKS_PER_SECOND:
            # Thinning (Ogata 1981): between ticks the intensity only falls.
            bound = quiet * min(base + s.excitation, MAX_ARRIVALS_PER_SECOND)
            wait = min(random.standard_exponential() / bound, 1.0 - now)
            now += wait
            s.excitation *= math.exp(-wait / EXCITATION_SECONDS)
            s.variance += variance_per_second * wait
            s.moves += moves_per_second * wait
            if not beaten and now * SECOND > heartbeat_ns:
                _heartbeat(random, s, rows[used], second_ns + heartbeat_ns)
                used += 1
                beaten = True
            if now >= 1.0:
                break
            intensity = quiet * min(base + s.excitation, MAX_ARRIVALS_PER_SECOND)
            if random.random() * bound > intensity:
                continue
            s.excitation += BRANCHING / EXCITATION_SECONDS
            bid, ask = s.bid, s.ask
            _move_quotes(random, s)
            # A trade that moves the quotes is mostly reported with the old quotes' price.
            if random.random() > STALE_SHARE:
                bid, ask = s.bid, s.ask
            _tick(random, s, rows[used], second_ns + int(now * SECOND), bid, ask)
            used += 1
            ticks += 1
        if not beaten:
            _heartbeat(random, s, rows[used], second_ns + heartbeat_ns)
            used += 1
    return used


@njit()
def draw_noise(
    random: np.random.Generator,
    states: Rows,
    rows: Rows,
    start_ns: int,
    seconds: int,
    heartbeat_ns: int,
) -> int:
    """Fill ``rows`` with the placebo market; otherwise like ``draw_market``."""
    s = states[0]
    used = 0
    offsets = np.empty(MAX_TICKS_PER_SECOND)
    for second in range(seconds):
        second_ns = start_ns + second * SECOND
        ticks = 0
        # A second without a tick would pass its variance on: a staleness to learn from.
        while ticks == 0:
            now = random.standard_exponential() / ARRIVALS_PER_SECOND
            while now < 1.0 and ticks < MAX_TICKS_PER_SECOND:
                offsets[ticks] = now
                ticks += 1
                now += random.standard_exponential() / ARRIVALS_PER_SECOND
        beaten = False
        for tick in range(ticks):
            if not beaten and offsets[tick] * SECOND > heartbeat_ns:
                _heartbeat(random, s, rows[used], second_ns + heartbeat_ns)
                used += 1
                beaten = True
            step = NOISE_VOLATILITY / math.sqrt(ticks) * random.standard_normal()
            s.middle *= math.exp(step)
            half = 0.5e-6 * s.middle * (0.5 + random.random())
            s.bid = round((s.middle - half) * NOISE_TICKS_PER_UNIT) / NOISE_TICKS_PER_UNIT
            s.ask = round((s.middle + half) * NOISE_TICKS_PER_UNIT) / NOISE_TICKS_PER_UNIT
            s.imbalance = random.standard_normal()
            time = second_ns + int(offsets[tick] * SECOND)
            _tick(random, s, rows[used], time, s.bid, s.ask)
            used += 1
        if not beaten:
            _heartbeat(random, s, rows[used], second_ns + heartbeat_ns)
            used += 1
    return used


@njit()
def _relative(log_volatility: float, power: float) -> float:
    return math.exp(power * (log_volatility - math.log(REFERENCE_VOLATILITY)))


@njit()
def _advance(random: np.random.Generator, s: Any) -> None:
    """Advance regime, clustering, activity, volatility and quiet spells by one second."""
    if random.random() * REGIME_SECONDS[s.regime] < 1.0:
        share = random.random()
        following = 0
        while share >= REGIME_NEXT[s.regime, following]:
            share -= REGIME_NEXT[s.regime, following]
            following += 1
        s.regime = following
    s.cluster = _revert(random, s.cluster, CLUSTER_SECONDS, CLUSTER_DEVIATION)
    s.burst = _revert(random, s.burst, BURST_SECONDS, BURST_DEVIATION)
    news = math.log(REGIME_VOLATILITY[s.regime]) + s.cluster
    s.activity += (news - s.activity) / ACTIVITY_SECONDS
    s.volatility += (s.activity - s.volatility) / VOLATILITY_SECONDS
    s.quiet_seconds -= 1.0
    if s.regime == 0 and random.random() * QUIET_EVERY_SECONDS < 1.0:
        s.quiet_seconds = QUIET_SECONDS * random.standard_exponential()


@njit()
def _revert(random: np.random.Generator, value: float, seconds: float, deviation: float) -> float:
    """Advance an Ornstein-Uhlenbeck process by one second, exactly."""
    keep = math.exp(-1.0 / seconds)
    shock = deviation * math.sqrt(1.0 - keep * keep)
    return keep * value + shock * random.standard_normal()


@njit()
def _move_quotes(random: np.random.Generator, s: Any) -> None:
    """Move bid and ask by what has accumulated since the last tick, or narrow the spread."""
    chance = -math.expm1(-s.moves)
    tick = 1.0 / TICKS_PER_UNIT
    if random.random() < chance:
        # The mean square, with and without a move, is the accumulated variance.
        draw = random.standard_exponential()
        draw *= math.exp(MOVE_SPREAD * random.standard_normal() - MOVE_SPREAD**2)
        size = math.sqrt(0.5 * s.variance / chance) * min(draw, LARGEST_MOVE)
        up = random.random() < 0.5 + IMBALANCE_SKILL * math.tanh(s.imbalance)
        s.middle *= math.exp(size if up else -size)
        level = 0.5 * (s.activity + s.volatility)
        odds = SPREAD_ODDS * _relative(level, SPREAD_POWER)
        spread = 1.0
        if random.random() * (1.0 + odds) < odds:
            mean = SPREAD_MEAN * math.exp(level) * s.middle / tick
            spread += math.floor(mean * random.standard_exponential())
        bid_ticks = math.floor(s.middle / tick - 0.5 * spread + 0.5)
        s.bid, s.ask = bid_ticks / TICKS_PER_UNIT, (bid_ticks + spread) / TICKS_PER_UNIT
    elif s.ask - s.bid > 1.5 * tick and random.random() < NARROW_SHARE:
        if random.random() < 0.5 + IMBALANCE_SKILL * math.tanh(s.imbalance):
            s.bid = round(s.ask * TICKS_PER_UNIT - 1.0) / TICKS_PER_UNIT
        else:
            s.ask = round(s.bid * TICKS_PER_UNIT + 1.0) / TICKS_PER_UNIT
        s.middle = 0.5 * (s.bid + s.ask)
    s.variance = s.moves = 0.0
    s.imbalance = 0.9 * s.imbalance + math.sqrt(0.19) * random.standard_normal()


@njit()
def _tick(
    random: np.random.Generator, s: Any, row: Any, time: int, old_bid: float, old_ask: float
) -> None:
    """Write one trade with the quotes after it."""
    _message(random, s, row, time)
    s.trade_id += 1
    row.trade_id = s.trade_id
    buy = random.random() < 0.5 + IMBALANCE_SKILL * math.tanh(s.imbalance)
    row.buy = buy
    row.price = old_ask if buy else old_bid
    row.bid, row.ask = s.bid, s.ask
    tilt = 0.5 * s.imbalance
    row.bid_size = _size(random, DEPTH * math.exp(tilt), s.middle)
    row.ask_size = _size(random, DEPTH * math.exp(-tilt), s.middle)
    row.size = _size(random, TRADE, s.middle)


@njit()
def _heartbeat(random: np.random.Generator, s: Any, row: Any, time: int) -> None:
    _message(random, s, row, time)
    row.trade_id = 0
    row.buy = False
    row.price = row.bid = row.ask = row.bid_size = row.ask_size = row.size = math.nan


@njit()
def _message(random: np.random.Generator, s: Any, row: Any, time: int) -> None:
    """Number the message and set its arrival 30 ms or more later, never before the last one."""
    s.sequence += 1
    s.received = max(s.received, time + int(3e7 + 2e7 * random.standard_exponential()))
    row.time, row.received, row.sequence = time, s.received, s.sequence


@njit()
def _size(random: np.random.Generator, value: float, price: float) -> float:
    """Draw a size whose median is worth ``value``, in steps of 10^-8."""
    return round(value / price * math.exp(random.standard_normal()) * 1e8) / 1e8
