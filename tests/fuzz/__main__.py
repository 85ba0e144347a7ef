"""Fuzz a real service in full: ``python -m tests.fuzz``; exit code 1 when anything is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.fuzz.run import fuzz

REQUESTS, BODIES = 20_000, 100_000


def main() -> int:
    """Generate requests, send mutated bodies, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="generated (%(default)s)")
    parser.add_argument("--bodies", type=int, default=BODIES, help="mutated (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    options = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        found = fuzz(Path(folder), environment, options.requests, options.bodies, options.seed)
    print("\n".join(found.lines))
    print(f"{time.monotonic() - began:.0f} s: {'wrong' if found.wrong else 'all held'}")
    for line in found.wrong[:20]:
        print(line)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
