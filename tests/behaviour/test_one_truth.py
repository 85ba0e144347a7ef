"""Training rows, stream and HTTP give the same forecast for the same step, to the last bit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

from service.http import application
from service.predictor import Served
from service.state import State
from tests.registries import make_registry
from volatility import registry, stages
from volatility.dataset import read_dataset
from volatility.features.engine import FeatureEngine
from volatility.features.table import FEATURE_NAMES
from volatility.lake.lake import Lake
from volatility.models.fit import fit_bundle
from volatility.models.forecaster import QUANTILES, Forecasts
from volatility.models.prior import shipped
from volatility.records.columns import to_records
from volatility.records.tick import encode
from volatility.settings import Settings, Simulate

SYMBOLS = ("BTC-USD", "ETH-USD")
QUICK = Settings(simulate=Simulate(symbols=SYMBOLS, hours=1.3))
STEPS = 40


def ask(state: State, path: str, body: bytes) -> dict:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application(state))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=body)

    answer = asyncio.run(send())
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(answer: dict, place: int, expected: Forecasts, row: int) -> None:
    """Compare one row of an answer with one of the bundle's forecasts."""
    assert answer["scores"][place] == expected.exceedance[row, 0]
    for h, one in enumerate(answer["forecasts"][place].values()):
        assert one["volatility_bps"] == expected.volatility_bps[row, h]
        quantiles = [one["quantiles_bps"][f"p{round(100 * level):02d}"] for level in QUANTILES]
        assert quantiles == expected.quantiles_bps[row, h].tolist()


def test_training_rows_stream_and_http_agree_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", make_registry(tmp_path))
    paths = stages.Paths(tmp_path / "t", tmp_path / "f", tmp_path / "m", tmp_path / "r")
    stages.simulate_ticks(QUICK, paths, progress=False)
    stages.make_features(QUICK, paths, progress=False)
    data = read_dataset(paths.features, QUICK)
    fit_bundle(data, QUICK, shipped()).save(paths.model)
    registered = registry.register(paths.model, parameters={}, metrics={})
    registry.promote(registered.version, evidence={})
    choice = registry.choose()
    model = registry.load(choice)
    served = Served(model.bundle, model, choice.reason)
    assert served.variant == "ml"
    state = State(QUICK, served=served)

    for symbol, name in enumerate(SYMBOLS):
        last = np.flatnonzero(data.symbol == symbol)[-STEPS:]
        expected = served.bundle.forecast(data.rows[last], data.symbol[last])
        times = data.time[last].tolist()

        records = [r for part in Lake(paths.ticks).scan(name) for r in to_records(part)]
        engine = FeatureEngine(served.bundle.specification.features)
        made = [row for r in records for row in engine.update(r)]
        rows = [row for row in made if row.time in set(times)]
        assert [row.time for row in rows] == times

        sent = [
            {n: v for n, v in zip(FEATURE_NAMES, row.values.tolist(), strict=True) if v == v}
            for row in rows
        ]
        answer = ask(state, "/predict", msgspec.json.encode({"rows": sent, "symbol": name}))
        assert answer["model_version"] == registered.version
        for place, row in enumerate(rows):
            streamed = served.bundle.forecast(row.values[None], data.symbol[last[:1]])
            said(answer, place, streamed, 0)
            said(answer, place, expected, place)

        # Raw ticks: what the memory needs before the first row, up to what closes the last.
        start = times[0] - QUICK.features.memory_seconds * 1_000_000_000
        stop = next(i for i, r in enumerate(records) if r.time > times[-1])
        chosen = [r for r in records[: stop + 1] if r.time > start]
        body = b'{"ticks": [' + b",".join(encode(r) for r in chosen) + b"]}"
        answer = ask(state, "/predict/ticks", body)
        places = {step: place for place, step in enumerate(answer["steps"])}
        for place, step in enumerate(times):
            said(answer, places[step], expected, place)
