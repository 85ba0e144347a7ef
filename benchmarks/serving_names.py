"""Define names shared by the parts of the serving benchmark; cheap to import."""

from __future__ import annotations

OURS, USUAL, USUAL_ASYNC, HELLO, BENTO, BARE = (
    "ours",
    "usual design",
    "usual design, async def",
    "FastAPI hello-world",
    "BentoML hello-world",
    "bare ASGI",
)
CONTRACT, INPUTS = "contract", "inputs"  # rows with the contract's four features; with all inputs
PICKLE_FILE = "usual.pickle"
PICKLE_VARIABLE = "SERVING_BENCHMARK_PICKLE"  # environment variable with the path of the pickle
