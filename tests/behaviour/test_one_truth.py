"""DESIGN 6.8: evaluation, stream and HTTP give the same number for the same rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from service.http import application
from service.predictor import choose
from service.state import State
from volatility import registry, settings, stages
from volatility.columns import to_records
from volatility.feature_table import FEATURE_NAMES
from volatility.features import FeatureEngine
from volatility.lake import Lake
from volatility.settings import Evaluate, Settings, Simulate, Train
from volatility.tick import encode

QUICK = Settings(
    simulate=Simulate(hours=4.0),
    evaluate=Evaluate(resamples=100, placebo_hours=6.0),
    train=Train(folds=2, iterations=30),
)
ROWS = 200


def ask(state: State, path: str, body: bytes) -> dict:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application(state))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, content=body)

    answer = asyncio.run(send())
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_evaluation_stream_and_http_agree_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    paths = stages.Paths(tmp_path / "t", tmp_path / "f", tmp_path / "m", tmp_path / "r")
    stages.simulate_ticks(QUICK, paths, progress=False)
    stages.make_features(QUICK, paths, progress=False)
    registered = stages.train(QUICK, paths, progress=False)
    registry.promote(registered.version, evidence={})

    evaluated = pq.read_table(paths.predictions)
    last = np.flatnonzero(np.asarray(evaluated["fold"]) == 2)[:ROWS]
    expected = np.asarray(evaluated["ml"])[last]
    times = set(np.asarray(evaluated["time"].cast("int64"))[last].tolist())

    served = choose(settings.environment())
    assert served.variant == "ml"
    state = State(QUICK, served=served)

    records = [r for part in Lake(paths.ticks).scan("BTC-USD") for r in to_records(part)]
    engine = FeatureEngine()
    rows = [row for r in records for row in engine.update(r) if row.time in times]
    streamed = np.array([served.bundle.score(row.values[None])[0] for row in rows])
    assert np.array_equal(streamed, expected)

    sent = [
        {n: v for n, v in zip(FEATURE_NAMES, row.values.tolist(), strict=True) if v == v}
        for row in rows
    ]
    answer = ask(state, "/predict", msgspec.json.encode({"rows": sent}))
    assert answer["scores"] == expected.tolist()
    assert answer["model_version"] == registered.version

    # Raw ticks: what the memory needs before the first row, up to what closes the last.
    start = rows[0].time - QUICK.features.memory_seconds * 1_000_000_000
    stop = next(i for i, r in enumerate(records) if r.time > rows[-1].time)
    chosen = [r for r in records[: stop + 1] if r.time > start]
    body = b'{"ticks": [' + b",".join(encode(r) for r in chosen) + b"]}"
    answer = ask(state, "/predict/ticks", body)
    assert answer["scores"][-ROWS:] == expected.tolist()
