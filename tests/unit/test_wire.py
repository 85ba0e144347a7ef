from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from time import perf_counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import ticks as ticks_module
from service.predictor import Served
from service.ticks import decode_ticks, feature_rows
from service.wire import RequestError, decode_request, decode_rows
from tests.bundles import HORIZONS, random_rows, small_bundle
from volatility.features.engine import FeatureEngine
from volatility.features.table import FEATURE_NAMES, INDEX
from volatility.records.tick import Heartbeat, Tick, encode
from volatility.registry import RegisteredModel
from volatility.settings import Features
from volatility.units import SECOND

START = 1_775_337_223 * SECOND
CONTRACT = ("midprice", "spread", "trade_intensity", "volatility_30s")


def rows_of(*rows: object) -> bytes:
    return json.dumps({"rows": rows}).encode()


def refused(body: bytes, max_rows: int = 10) -> RequestError:
    with pytest.raises(RequestError) as caught:
        decode_rows(body, max_rows)
    assert 400 <= caught.value.status < 500
    assert "\n" not in str(caught.value)
    content = json.loads(caught.value.body())
    assert list(content) == ["error", "row", "field"]
    return caught.value


def test_the_four_features_of_the_contract_are_understood():
    values = (68000.5, 1.2, 14, 0.02)
    (row,) = decode_rows(rows_of(dict(zip(CONTRACT, values, strict=True))), 10)
    assert tuple(row[INDEX[name]] for name in CONTRACT) == values
    assert row[INDEX["spread_bps"]] == 1e4 * 1.2 / 68000.5  # determined by the others
    named = {*CONTRACT, "spread_bps"}
    assert all(math.isnan(row[INDEX[n]]) for n in FEATURE_NAMES if n not in named)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(FEATURE_NAMES), st.floats(allow_nan=False, allow_infinity=False)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_feature_arrives_as_sent_and_none_is_filled_with_zero(given_rows):
    rows = decode_rows(rows_of(*given_rows), 5)
    assert rows.shape == (len(given_rows), len(FEATURE_NAMES))
    for row, sent in zip(rows, given_rows, strict=True):
        for name, value in sent.items():
            assert row[INDEX[name]] == value
        if not sent:
            assert np.isnan(row).all()


@pytest.mark.parametrize(
    ("body", "row", "field", "message"),
    [
        (rows_of({}, {"price": 1}), 1, "price", "unknown feature 'price'"),
        (rows_of({"spread": True}), 0, "spread", "spread: expected float, got bool"),
        (rows_of({}, {}, {"spread": "1"}), 2, "spread", "got str"),
        (rows_of({"spread": None}), 0, "spread", "null: leave out what is missing"),
        (rows_of({"spread": [1]}), 0, "spread", "got array"),
        (rows_of({"spread": math.nan}), 0, "spread", "not a finite number"),
        (rows_of({}, {"midprice": -math.inf}), 1, "midprice", "not a finite number"),
        (b'{"rows": [{"spread": 1e999}]}', 0, "spread", "out of range"),
        (b'{"rows": [{"spread": 1' + b"0" * 400 + b"}]}", 0, "spread", "out of range"),
        (rows_of(1), 0, None, "Expected `object`, got `int`"),
        (rows_of(), None, None, "rows is empty"),
        (rows_of(*[{}] * 11), None, None, "11 rows are too many: at most 10"),
        (b"", None, None, "not JSON"),
        (b"{", None, None, "not JSON"),
        (b'{"rows": [{}]} {}', None, None, "not JSON"),
        (b'{"rows": [{"\xff": 1}]}', None, None, "not JSON"),
        (b"[" * 100_000 + b"NaN", None, None, "is not"),
        (b"NaN", None, None, "not JSON"),
        (b"{}", None, None, "missing required field"),
        (b"[]", None, None, "Expected `object`, got `array`"),
        (b'{"rows": {}}', None, None, "Expected `array`, got `object`"),
        (b'{"rows": [{}], "ticks": []}', None, "ticks", "unknown field 'ticks'"),
        (b'{"rows": [{}], "symbol": 3}', None, "symbol", "symbol is not text"),
        (b'{"rows": [{}], "symbol": ["BTC-USD"]}', None, "symbol", "symbol is not text"),
    ],
)
def test_what_is_refused_names_row_and_field(body, row, field, message):
    error = refused(body)
    assert (error.row, error.field) == (row, field)
    assert message in str(error)


@pytest.mark.parametrize("constant", [b"NaN", b"-Infinity", b"Infinity"])
@pytest.mark.parametrize("padding", [b" " * 3_000_000, b'"spread": 1.25, ' * 60_000])
def test_a_constant_at_the_end_of_a_large_body_is_named_by_the_decoder_alone(
    monkeypatch, constant, padding
):
    """A parser that keeps what it reads takes ten times as long, and 25 times the memory."""
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("a second parser"))
    body = b'{"symbol": "{NaN", "rows": [{}, {' + padding + b'"midprice": ' + constant + b"}]}"
    with pytest.raises(RequestError) as caught:
        decode_rows(body, 10)
    error = caught.value
    assert (error.status, error.row, error.field) == (422, 1, "midprice")
    assert "not a finite number" in str(error)


@pytest.mark.parametrize("place", ["symbol", "time", "side", "bid_size", "trade_id"])
def test_a_constant_in_any_field_of_a_tick_is_named(place):
    with pytest.raises(RequestError) as caught:
        decode_ticks(f'{{"ticks": [{GOOD}, {{"symbol": "A", "{place}": NaN}}]}}'.encode())
    assert (caught.value.status, caught.value.row, caught.value.field) == (422, 1, place)


@pytest.mark.parametrize(
    "body",
    [
        b'{"symbol": NaN, "rows": [{}]}', b'{"rows": [NaN]}', b'{"rows": Infinity}', b"-Infinity",
        b'{"rows": [{"spread": nan}]}', b'{"rows": [{"spread": NaNs}]}', b'{"rows": [{NaN: 1}]}',
    ],
)  # fmt: skip
def test_a_constant_that_is_no_value_of_a_row_is_malformed(body):
    error = refused(body)
    assert (error.status, error.row, error.field) == (400, None, None)


@pytest.mark.parametrize(
    ("body", "symbol"),
    [
        (b'{"rows": [{}]}', None),
        (b'{"rows": [{}], "symbol": null}', None),
        (b'{"rows": [{}], "symbol": "ETH-USD"}', "ETH-USD"),
        (b'{"symbol": "{{{", "rows": [{}]}', "{{{"),
    ],
)
def test_a_request_may_name_its_symbol(body, symbol):
    rows, found = decode_request(body, 10)
    assert (len(rows), found) == (1, symbol)


def test_a_name_that_looks_like_a_place_is_not_taken_for_one():
    error = refused(json.dumps({"rows": [{}, {"a` - at `$.rows[7].b`\n" * 20: 1}]}).encode())
    assert error.row == 1
    assert len(str(error)) < 200


@pytest.mark.slow
def test_numbers_of_any_size_score():
    rows = decode_rows(rows_of({"spread": 1e308, "midprice": 1e-308}), 1)
    assert rows[0, INDEX["spread_bps"]] == math.inf
    served = serve()
    answer = served.predict(rows, None, perf_counter())
    assert 0.0 <= answer.volatility_score <= 1.0
    assert answer.out_of_distribution == [True]


def serve(variant: str = "ml", symbols: tuple[str, ...] = ("BTC-USD",)) -> Served:
    bundle = small_bundle(0, symbols)
    return Served(
        bundle.as_variant(variant),  # type: ignore[arg-type]
        RegisteredModel(bundle, "crypto-vol-ml", "7", "champion"),
        None,
    )


SYMBOLS = ("BTC-USD", "ETH-USD")
YEAR_SECONDS = 365 * 24 * 3600


@pytest.mark.parametrize("variant", ["ml", "prior", "baseline"])
@pytest.mark.parametrize("symbol", [*SYMBOLS, "DOGE-USD", None])
def test_the_answer_is_what_the_bundle_forecasts_in_the_order_of_the_contract(variant, symbol):
    served = serve(variant, SYMBOLS)
    bundle, rows = served.bundle, random_rows(20)
    content = json.loads(msgspec.json.encode(served.predict(rows, symbol, perf_counter())))
    assert list(content) == [
        "volatility_score", "scores", "spike", "threshold", "out_of_distribution", "forecasts",
        "model_name", "model_version", "model_variant", "version", "ts", "latency_ms",
    ]  # fmt: skip
    place = SYMBOLS.index(symbol) if symbol in SYMBOLS else -1
    expected = bundle.forecast(rows, np.full(20, place))
    scores = expected.exceedance[:, 0].tolist()
    assert content["scores"] == scores
    assert content["volatility_score"] == scores[-1]
    assert content["spike"] == [score >= content["threshold"] for score in scores]
    assert content["threshold"] == bundle.specification.thresholds[variant]
    assert content["out_of_distribution"] == bundle.out_of_distribution(rows).tolist()
    for i, row in enumerate(content["forecasts"]):
        assert list(row) == [f"{h}s" for h in HORIZONS]
        for h, one in enumerate(row.values()):
            volatility = expected.volatility_bps[i, h]
            assert one["volatility_bps"] == volatility
            assert one["annualised_percent"] == pytest.approx(
                100.0 * volatility / 1e4 * math.sqrt(YEAR_SECONDS / HORIZONS[h]), rel=1e-12
            )
            assert list(one["quantiles_bps"]) == ["p05", "p25", "p50", "p75", "p95"]
            assert list(one["quantiles_bps"].values()) == expected.quantiles_bps[i, h].tolist()
            assert one["spike_level_bps"] == bundle.specification.spike_levels_bps[place][h]
    assert (content["model_name"], content["model_version"]) == ("crypto-vol-ml", "7")
    assert (content["model_variant"], content["version"]) == (variant, "7")
    assert len(content["ts"]) == len("2026-04-04T21:13:43.291Z")
    age = datetime.now(UTC) - datetime.fromisoformat(content["ts"])
    assert abs(age.total_seconds()) < 60.0
    assert content["latency_ms"] > 0.0
    assert served.answers()


def test_a_row_without_a_symbol_is_the_only_symbol_s():
    served, rows = serve(), random_rows(5)
    alone = served.predict(rows, None, 0.0)
    assert alone.forecasts == served.predict(rows, "BTC-USD", 0.0).forecasts
    assert alone.forecasts != served.predict(rows, "ETH-USD", 0.0).forecasts


def test_a_model_that_scores_otherwise_than_stored_does_not_answer():
    served = serve()
    scores = served.bundle.specification.example_scores
    spec = msgspec.structs.replace(
        served.bundle.specification, example_scores=(*scores[:-1], scores[-1] + 1e-9)
    )
    broken = dataclasses.replace(served.bundle, specification=spec)
    assert not Served(broken, served.model, None).answers()


def ticks(count: int, symbol: str = "BTC-USD") -> list[Tick | Heartbeat]:
    random = np.random.default_rng(0)
    steps = random.exponential(0.5 * SECOND, count).astype(np.int64)
    mids = 68_000.0 * np.exp(np.cumsum(random.normal(0.0, 1e-5, count)))
    records: list[Tick | Heartbeat] = []
    for place, (time, mid) in enumerate(zip(START + np.cumsum(steps), mids.tolist(), strict=True)):
        if place % 40 == 39:
            records.append(Heartbeat(symbol, int(time)))
            continue
        records.append(
            Tick(
                symbol, int(time), mid, mid - 0.1, mid + 0.1, bid_size=1.0 + place % 3, ask_size=2.0
            )
        )
    return records


def body_of(records) -> bytes:
    return b'{"ticks":[' + b",".join(encode(record) for record in records) + b"]}"


def test_ticks_give_the_rows_of_the_live_engine():
    records = ticks(2_000)
    engine = FeatureEngine()
    made = [row for record in records for row in engine.update(record)]
    live, times = np.array([row.values for row in made]), [row.time for row in made]
    assert decode_ticks(body_of(records)) == records
    steps, rows = feature_rows(records, Features(), 100)
    assert rows.tobytes() == live[-100:].tobytes()
    assert steps.tolist() == times[-100:]
    # What is not warm is left out.
    steps, every = feature_rows(records, Features(), 100_000)
    assert every.tobytes() == live[-len(every) :].tobytes()
    assert steps.tolist() == times[-len(every) :]
    assert np.isnan(live[-len(every) - 1, INDEX["realised_volatility_900s"]])


def test_the_rules_are_those_of_the_model():
    records = ticks(2_000)
    few, many = (
        feature_rows(records, Features(min_baseline_seconds=seconds), 100_000)[0]
        for seconds in (500, 300)
    )
    assert len(few) == len(many) - 200


@pytest.mark.parametrize(
    ("count", "message"), [(1, "they close no step"), (200, "no row has the 300 s of history")]
)
def test_too_few_ticks_are_refused(count, message):
    with pytest.raises(RequestError, match=message) as caught:
        feature_rows(ticks(count), Features(), 100)
    assert (caught.value.status, caught.value.reason) == (422, "too_few_ticks")


GOOD = encode(ticks(1)[0]).decode()


@pytest.mark.parametrize(
    ("second", "row", "field", "message"),
    [
        (GOOD.replace("BTC-USD", "ETH-USD"), 1, "symbol", "several symbols: BTC-USD and ETH-USD"),
        ('{"symbol":"BTC-USD","time":1}', 1, None, "time is outside"),
        ('{"symbol":"BTC-USD","time":"1"}', 1, "time", "time: expected int, got str"),
        ('{"symbol":"BTC-USD","prize":1}', 1, "prize", "unknown field 'prize'"),
        ('{"symbol":"BTC-USD"}', 1, None, "missing required field"),
        ("3", 1, None, "Expected `object`, got `int`"),
        ('{"symbol":[[[]]],"time":1}', 1, "symbol", "symbol: expected str, got array"),
        (GOOD.replace('"bid":', '"bid":9'), 1, None, "bid is above ask"),
        (GOOD.replace('"bid":', '"bid":-'), 1, None, "is not positive"),
        (GOOD.replace('"ask":', '"ask":NaN,"bid":'), 1, "ask", "ask is not a finite number"),
    ],
)
def test_an_invalid_tick_is_refused_by_row_and_reason(second, row, field, message):
    with pytest.raises(RequestError) as caught:
        decode_ticks(f'{{"ticks": [{GOOD}, {second}]}}'.encode())
    assert message in str(caught.value)
    assert (caught.value.row, caught.value.field) == (row, field)
    assert 400 <= caught.value.status < 500


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ticks": 3}', b'{"ticks": []}', b'{"rows": []}'])
def test_a_body_without_ticks_is_refused(body):
    with pytest.raises(RequestError) as caught:
        decode_ticks(body)
    assert 400 <= caught.value.status < 500


@pytest.mark.parametrize("seconds", [7_201, 13 * 365 * 86_400])
def test_ticks_that_span_too_long_are_refused_before_any_work(seconds):
    first, last = ticks(1)[0], ticks(1)[0]
    last = msgspec.structs.replace(last, time=first.time + seconds * 1_000_000_000, received=None)
    for order in ([first, last], [last, first]):
        with pytest.raises(RequestError, match="send at most the last 7,200 s") as caught:
            decode_ticks(body_of(order))
        assert (caught.value.status, caught.value.row, caught.value.field) == (422, 1, "time")


def test_two_hours_of_ticks_are_taken():
    first = ticks(1)[0]
    last = msgspec.structs.replace(first, time=first.time + 7_200 * 1_000_000_000, received=None)
    assert decode_ticks(body_of([first, last])) == [first, last]


def test_more_ticks_than_the_cap_are_refused(monkeypatch):
    monkeypatch.setattr(ticks_module, "MAX_TICKS", 2)
    with pytest.raises(RequestError, match="3 ticks are too many: at most 2"):
        decode_ticks(body_of(ticks(3)))
