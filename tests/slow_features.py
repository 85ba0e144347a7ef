"""Compute the features the slow way: every window anew from its seconds, in plain numpy.

It follows the table's words, shares no code with the kernel, and takes seconds where that
takes milliseconds; the tests hold one against the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from volatility.records.tick import Record, Tick
from volatility.units import SECOND, Bools, Floats

GAP, COVERAGE, BASELINE_SECONDS, QUOTE_SECONDS = 15, 0.8, 300, 300
LARGEST_RETURN, LARGEST_SPREAD, LARGEST_LEVEL = 0.125, 512.0, 0.0625
NAN = float("nan")


@dataclass
class Stream:
    """Represent each second ``first, first + 1, ...``, and the ``late`` and ``duplicates`` counts.

    ``gap`` numbers the gap that a second lies in, as hindsight sees it; 0 is none.
    ``resumed`` is the second of the first record after the last gap.
    """

    first: int
    quoted: Bools
    gap: npt.NDArray[np.int64]
    resumed: npt.NDArray[np.int64]
    record: npt.NDArray[np.int64]
    tick: npt.NDArray[np.int64]
    bid: Floats
    ask: Floats
    bid_size: Floats
    ask_size: Floats
    ticks: npt.NDArray[np.int64]
    delays: list[list[float]]
    returns: Floats
    high: Floats
    low: Floats
    late: int
    duplicates: int

    def seconds(self) -> list[int]:
        """List the seconds that have a row: a quote is known and the silence is no gap yet."""
        number = np.arange(self.first, self.first + len(self.quoted))
        silent = number * SECOND - self.record > GAP * SECOND
        return [int(second) for second in number[self.quoted & ~silent]]


def read(records: Sequence[Record]) -> Stream:
    """Sort records into seconds; drop what is late or a duplicate."""
    accepted: list[Tick] = []
    moments: list[int] = []
    seen: dict[int, int] = {}  # the last time of each identifier
    late = duplicates = 0
    for record in records:
        if moments and step(record.time) < step(moments[-1]):
            late += isinstance(record, Tick)
            continue
        moments.append(max([record.time, *moments[-1:]]))
        if isinstance(record, Tick):
            identifier = record.sequence if record.trade_id is None else record.trade_id
            if identifier is not None and seen.get(identifier) == record.time:
                duplicates += 1
                continue
            if identifier is not None:
                seen[identifier] = record.time
            accepted.append(record)
    first, count = step(moments[0]), step(moments[-1]) - step(moments[0])
    result = Stream(
        first=first,
        quoted=np.zeros(count, dtype=bool),
        gap=np.zeros(count, dtype=np.int64),
        resumed=np.full(count, first),
        record=np.zeros(count, dtype=np.int64),
        tick=np.zeros(count, dtype=np.int64),
        ticks=np.zeros(count, dtype=np.int64),
        delays=[[] for _ in range(count)],
        late=late,
        duplicates=duplicates,
        **{
            name: np.full(count, NAN)
            for name in ("bid", "ask", "bid_size", "ask_size", "returns", "high", "low")
        },
    )
    for number, (before, after) in enumerate(pairwise(moments), start=1):
        if after - before > GAP * SECOND:
            result.gap[step(before) + 1 - first : step(after) - first] = number
            result.resumed[step(after) - first :] = step(after)
    steps = np.array([step(moment) for moment in moments])
    newest = np.searchsorted(steps, np.arange(first, first + count), side="right") - 1
    result.record[:] = np.array(moments)[newest]
    _fill(result, accepted)
    return result


def _fill(result: Stream, accepted: list[Tick]) -> None:
    by_second: dict[int, list[Tick]] = {}
    for tick in accepted:
        by_second.setdefault(step(tick.time), []).append(tick)
    quote: Tick | None = None
    last: int | None = None
    middle: float | None = None
    for place in range(len(result.quoted)):
        second = result.first + place
        if result.resumed[place] == second:
            quote = last = middle = None
        prices = [] if middle is None else [middle]
        for tick in by_second.get(second, []):
            quote = tick
            prices.append((tick.bid + tick.ask) / 2)
            if last is not None:
                result.delays[place].append(max(tick.time - last, 0) / 1e9)
            last = max(tick.time, last or 0)
            result.ticks[place] += 1
        if last is not None and second * SECOND - last > QUOTE_SECONDS * SECOND:
            quote = last = middle = None
        if quote is None or last is None:
            continue
        result.quoted[place] = True
        result.tick[place] = last
        result.bid[place], result.ask[place] = quote.bid, quote.ask
        result.bid_size[place] = NAN if quote.bid_size is None else quote.bid_size
        result.ask_size[place] = NAN if quote.ask_size is None else quote.ask_size
        result.high[place], result.low[place] = max(prices), min(prices)
        now = (quote.bid + quote.ask) / 2
        if middle is not None:
            result.returns[place] = np.log(now / middle)
        middle = now


def step(time: int) -> int:
    """Number the second whose end is at or after a time: a tick on a step belongs to it."""
    return -(-time // SECOND)


class Windows:
    """Read the features of a row at one second out of a stream."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.clipped = np.clip(stream.returns, -LARGEST_RETURN, LARGEST_RETURN)
        self.spread = 2e4 * (stream.ask - stream.bid) / (stream.ask + stream.bid)
        self.products = np.full(len(stream.quoted), NAN)
        self.products[1:] = np.abs(self.clipped[1:]) * np.abs(self.clipped[:-1])
        self.levels = np.full(len(stream.quoted), NAN)
        for place in np.flatnonzero(stream.quoted):
            level = self.volatility(stream.first + int(place), 15)
            self.levels[place] = min(level, LARGEST_LEVEL) if level == level else NAN

    def covered(self, second: int, start: int) -> npt.NDArray[np.int64]:
        """Return the places of the seconds ``start..second`` that a row at ``second`` counts.

        A silence counts as covered as long as it goes on: the row cannot know better.
        """
        stream, now = self.stream, second - self.stream.first
        places = np.arange(max(0, start - stream.first), now + 1)
        known = (stream.gap[places] == 0) | (stream.gap[places] == stream.gap[now])
        return places[known & stream.quoted[places]]

    def window(self, second: int, length: int) -> npt.NDArray[np.int64]:
        """Return the covered places of the last ``length`` seconds."""
        return self.covered(second, second - length + 1)

    def volatility(self, second: int, length: int, least: float | None = None) -> float:
        """Return the root mean square of the returns, NaN below the coverage."""
        places = self.window(second, length)
        returns = known(self.clipped[places])
        if len(places) < (COVERAGE * length if least is None else least) or not len(returns):
            return NAN
        return float(np.sqrt(np.mean(returns**2)))

    def row(self, second: int) -> dict[str, float]:
        """Compute every feature at the end of a second."""
        s, place = self.stream, second - self.stream.first
        places = {w: self.window(second, w) for w in (15, 30, 60, 300, 900)}
        enough = {w: len(places[w]) >= COVERAGE * w for w in places}
        returns = {w: known(self.clipped[places[w]]) for w in places}
        warm = len(places[900]) >= BASELINE_SECONDS
        baseline = self.volatility(second, 900, BASELINE_SECONDS)
        middle = (s.bid[place] + s.ask[place]) / 2
        rate = s.ticks[places[900]].sum() / len(places[900]) if warm else NAN
        delays = np.array([delay for p in places[60] for delay in s.delays[p]])
        sizes = s.bid_size[place] + s.ask_size[place]
        imbalance = (s.bid_size[place] - s.ask_size[place]) / sizes if sizes > 0 else NAN
        angle = 2 * np.pi * (second % 86_400 // 60) / 1440
        row = {
            "midprice": middle,
            "spread": s.ask[place] - s.bid[place],
            "trade_intensity": float(s.ticks[place]),
            "volatility_30s": float(np.std(returns[30]))
            if enough[30] and len(returns[30])
            else NAN,
            "log_return_1s": s.returns[place],
            "seconds_since_record": (second * SECOND - s.record[place]) / 1e9,
            "mean_trade_intensity_900s": rate,
            "interarrival_60s": delays.mean() if enough[60] and len(delays) else NAN,
            "seconds_since_gap": min(float(second - s.resumed[place]), 1500.0),
            "time_of_day_sin": np.sin(angle),
            "time_of_day_cos": np.cos(angle),
            "spread_bps": self.spread[place],
            "quote_imbalance": imbalance,
            "microprice_distance_bps": imbalance * self.spread[place] / 2,
            "intensity_ratio_1s": ratio(float(s.ticks[place]), rate),
            "silence_ratio": (second * SECOND - s.tick[place]) / 1e9 * rate,
            "interarrival_dispersion_60s": dispersion(delays) if enough[60] else NAN,
        }
        for w in (5, 15, 30, 60, 300):
            row[f"realised_volatility_{w}s"] = self.volatility(second, w)
        row["realised_volatility_900s"] = baseline
        for half_life in (10, 60, 300):
            average = self._average(second, half_life, self.clipped**2)
            least = min(3 * half_life, BASELINE_SECONDS)
            name = f"ewma_volatility_{half_life}s"
            row[name] = float(np.sqrt(average)) if len(places[900]) >= least else NAN
            row[f"ewma_ratio_{half_life}s"] = ratio(row[name], baseline)
        for half_life in (5, 60):
            average = self._average(second, half_life, s.ticks.astype(float))
            row[f"intensity_ratio_{half_life}s"] = ratio(average, rate)
        for w in (5, 15, 60, 300):
            row[f"volatility_ratio_{w}s"] = ratio(row[f"realised_volatility_{w}s"], baseline)
        row["volatility_ratio_30s"] = ratio(row["volatility_30s"], baseline)
        for w in (60, 300):
            products = known(self.products[places[w]])
            mean = np.pi / 2 * products.mean() if enough[w] and len(products) else NAN
            row[f"bipower_ratio_{w}s"] = ratio(np.sqrt(mean), row[f"realised_volatility_{w}s"])
            extreme = np.log(s.high[places[w]].max() / s.low[places[w]].min())
            row[f"range_ratio_{w}s"] = ratio(extreme, baseline * np.sqrt(w)) if enough[w] else NAN
        widths = np.minimum(np.log(s.high[places[60]] / s.low[places[60]]), LARGEST_RETURN)
        parkinson = np.sqrt(np.mean(widths**2) / (4 * np.log(2)))
        row["parkinson_ratio_60s"] = ratio(parkinson, baseline) if enough[60] else NAN
        for w in (15, 60, 300):
            move, number = abs(returns[w].sum()), len(returns[w])
            moved = enough[w] and number > 0
            row[f"momentum_{w}s"] = ratio(move, baseline * np.sqrt(number)) if moved else NAN
        spreads = {w: np.minimum(self.spread[places[w]], LARGEST_SPREAD) for w in (60, 300)}
        row["spread_ratio_300s"] = (
            ratio(self.spread[place], spreads[300].mean()) if enough[300] else NAN
        )
        row["spread_deviation_60s"] = dispersion(spreads[60]) if enough[60] else NAN
        levels = known(self.levels[places[300]])
        row["volatility_of_volatility_300s"] = dispersion(levels) if len(levels) >= 240 else NAN
        return row

    def _average(self, second: int, half_life: float, values: Floats) -> float:
        """Weigh what lies in this minute and the twenty before it by its age."""
        places = self.covered(second, (second // 60 - 20) * 60)
        places = places[~np.isnan(values[places])]
        weight = 0.5 ** ((second - self.stream.first - places) / half_life)
        return float((values[places] * weight).sum() / weight.sum()) if len(places) else NAN


def known(values: Floats) -> Floats:
    """Leave out what is missing."""
    return values[~np.isnan(values)]


def ratio(value: float, scale: float) -> float:
    """Divide, where the scale is known and positive."""
    return value / scale if scale > 0 else NAN


def dispersion(values: Floats) -> float:
    """Return the coefficient of variation."""
    return float(np.std(values) / np.mean(values)) if len(values) > 1 and values.sum() > 0 else NAN
