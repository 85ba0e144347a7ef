"""Serve the common alternatives, and baselines without a model.

Each function is an application, or creates one, for ``uvicorn`` with one worker.
"""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_names import PICKLE_VARIABLE

THRESHOLD = 0.5
HELLO = b'{"hello":"world"}'


class Row(BaseModel):
    """Represent the four features of the contract."""

    midprice: float
    spread: float
    trade_intensity: float
    volatility_30s: float


class Rows(BaseModel):
    """Represent the body of a request."""

    rows: list[Row]


class Usual:
    """Score like the usual design: a pickled classifier and a DataFrame per request."""

    def __init__(self) -> None:
        file = Path(os.environ[PICKLE_VARIABLE])
        self._model = pickle.loads(file.read_bytes())  # noqa: S301 -- that is the design
        self._columns = list(Row.model_fields)

    def answer(self, request: Rows) -> dict[str, Any]:
        """Return the same fields as our service, as far as this design has them."""
        frame = pd.DataFrame([row.model_dump() for row in request.rows], columns=self._columns)
        scores = self._model.predict_proba(frame)[:, 1]
        return {
            "volatility_score": float(scores[-1]),
            "scores": scores.tolist(),
            "spike": (scores >= THRESHOLD).tolist(),
            "threshold": THRESHOLD,
            "model_version": "1",
            "ts": datetime.now(UTC).isoformat(),
        }


def usual() -> FastAPI:
    """Return the usual design; its route is a plain function, as FastAPI recommends for this."""
    app, model = FastAPI(), Usual()

    @app.post("/predict")
    def predict(request: Rows) -> dict[str, Any]:
        return model.answer(request)

    return app


def usual_async() -> FastAPI:
    """Return the usual design with a coroutine: no thread per request, but one at a time."""
    app, model = FastAPI(), Usual()

    @app.post("/predict")
    async def predict(request: Rows) -> dict[str, Any]:
        return model.answer(request)

    return app


def hello() -> FastAPI:
    """Return FastAPI's hello-world, which has no model and does not read the body."""
    app = FastAPI()

    @app.post("/predict")
    async def predict() -> dict[str, str]:
        return {"hello": "world"}

    return app


async def bare(scope: Any, _: Any, send: Any) -> None:
    """Return a constant, the minimum that an ASGI server can do."""
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(HELLO))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})
