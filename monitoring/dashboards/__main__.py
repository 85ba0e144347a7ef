"""Write the dashboards in Grafana's format: ``python -m monitoring.dashboards``."""

from __future__ import annotations

import json
from pathlib import Path

from monitoring.dashboards import market, model, pipeline, service

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"


def files() -> dict[Path, str]:
    """Return the content of each file."""
    found = {}
    for module in (market, service, pipeline, model):
        name = module.__name__.rpartition(".")[2]
        content = json.dumps(module.DASHBOARD.json(), indent=2, ensure_ascii=False)
        found[FOLDER / f"{name}.json"] = content + "\n"
    return found


def main() -> None:
    """Write all files."""
    for path, content in files().items():
        path.write_text(content)


if __name__ == "__main__":
    main()
