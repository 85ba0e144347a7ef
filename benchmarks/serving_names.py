"""Name what the parts of the serving benchmark share; importing it costs nothing."""

from __future__ import annotations

OURS, USUAL, USUAL_ASYNC, HELLO, BENTO, BARE = (
    "ours",
    "usual design",
    "usual design, async def",
    "FastAPI hello-world",
    "BentoML hello-world",
    "bare ASGI",
)
CONTRACT, INPUTS = "contract", "inputs"  # rows of the contract's four features; of all inputs
PICKLE_FILE = "usual.pickle"
PICKLE_VARIABLE = "SERVING_BENCHMARK_PICKLE"  # the environment names the file
