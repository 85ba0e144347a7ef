"""Fuzz a real service in full: ``python -m tests.fuzz``; exit code 1 when anything is wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.fuzz.run import KINDS, Fuzz

REQUESTS, BODIES = 20_000, 100_000


def main() -> int:
    """Run each kind of fuzz, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (all)")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="generated (%(default)s)")
    parser.add_argument("--bodies", type=int, default=BODIES, help="mutated (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    options = parser.parse_args()
    unknown = sorted(set(options.kinds) - set(KINDS))
    if unknown:
        parser.error(f"unknown kind {', '.join(unknown)}: choose of {', '.join(KINDS)}")
    wrong: list[str] = []
    for kind in options.kinds or KINDS:
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
            pytest.MonkeyPatch.context() as environment,
        ):
            fuzz = Fuzz(Path(folder), environment, options.requests, options.bodies, options.seed)
            found = fuzz.run(kind)
        print("\n".join(found.lines))
        verdict = "wrong" if found.wrong else "all held"
        print(f"{kind}: {time.monotonic() - began:.0f} s: {verdict}", flush=True)
        for line in found.wrong[:20]:
            print(line, flush=True)
        wrong += found.wrong
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
