"""Ticks of a request reach the kernel as ticks of the lake do, and without pandas."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from service.ticks import _arrays
from tests.streams import random_records, seeds, to_batch
from volatility.features.engine import columns


@given(seeds)
@hypothesis_settings(max_examples=30)
def test_the_arrays_are_those_of_the_lake(seed):
    records = random_records(seed, 60)
    for ours, theirs in zip(_arrays(records), columns(to_batch(records)), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype == np.float64)


def test_a_worker_loads_no_package_that_it_does_not_need():
    code = (
        "import sys; from service import app, ticks; ticks.warm_up(); "
        "app.VolatilityService.to_asgi(); print(*sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    unneeded = {"pandas", "sklearn", "scipy.special", "mlflow", "prefect"}
    assert unneeded.isdisjoint(found.stdout.split())
