from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlflow.tracking import MlflowClient

from tests.bundles import small_bundle
from tests.registries import make_registry
from volatility import registry

REGISTER = """
import sys
from pathlib import Path
from volatility import registry
for folder in sys.argv[1:]:
    found = registry.register(Path(folder), parameters={}, metrics={})
    registry.promote(found.version, evidence={})
    print(found.version)
"""


def test_two_processes_register_at_the_same_time(tmp_path, monkeypatch):
    uri = make_registry(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    folders = [tmp_path / f"b{seed}" for seed in range(3)]
    for seed, folder in enumerate(folders):
        small_bundle(seed).save(folder)
    own = [[folders[0], folders[1]], [folders[0], folders[2]]]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, *map(str, given)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for given in own
    ]
    printed = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert printed[0][0] == printed[1][0]  # the bundle that both registered is one version
    versions = MlflowClient(uri).search_model_versions("name='crypto-vol-ml'")
    digests = [v.tags["digest"] for v in versions]
    assert sorted(digests) == sorted(small_bundle(seed).digest for seed in range(3))
    assert registry.latest() == str(max(v.version for v in versions))
    assert registry.champion() in {printed[0][1], printed[1][1]}
