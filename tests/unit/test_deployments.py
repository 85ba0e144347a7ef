"""Check that both deployments of the flows are equal and follow ``params.yaml``."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pipelines.deployments import AFTER_SECONDS, ANCHOR, FLOWS, deployments, schedule
from volatility.settings import Schedules, load

ROOT = Path(__file__).parents[2]
SCHEDULES = load(ROOT / "params.yaml").schedules
NAMES = [flow.name for flow in FLOWS]


@pytest.fixture(scope="module")
def written() -> dict[str, dict[str, Any]]:
    """What ``prefect.yaml`` says, by flow."""
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    return {str(d["entrypoint"]).rsplit(":", 1)[1]: d for d in content["deployments"]}


@pytest.fixture(scope="module")
def served() -> dict[str, Any]:
    return {str(d.flow_name): d for d in deployments(SCHEDULES)}


def test_each_schedule_is_of_a_flow_and_each_flow_has_one() -> None:
    assert sorted(NAMES) == sorted(Schedules.__struct_fields__) == sorted(AFTER_SECONDS)


def test_both_ways_deploy_the_same_flows(written: dict[str, Any], served: dict[str, Any]) -> None:
    assert list(written) == list(served) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_prefect_yaml_equals_what_is_served(
    written: dict[str, Any], served: dict[str, Any], name: str
) -> None:
    file, code = written[name], served[name]
    assert file["name"] == code.name == "scheduled"
    assert file["entrypoint"] == code.entrypoint.replace(".", "/", 1).replace(".", ".py:", 1)
    assert file["description"] == code.description
    assert file["tags"] == code.tags
    assert file["work_pool"] == {"name": "volatility"}
    assert file["concurrency_limit"]["limit"] == code.concurrency_limit == 1
    assert file["concurrency_limit"]["collision_strategy"] == "CANCEL_NEW"
    assert code.concurrency_options.collision_strategy == "CANCEL_NEW"
    (own,) = code.schedules
    (listed,) = file["schedules"]
    assert timedelta(seconds=listed["interval"]) == own.schedule.interval
    assert datetime.fromisoformat(listed["anchor_date"]) == own.schedule.anchor_date
    assert listed["timezone"] == own.schedule.timezone == "UTC"


@pytest.mark.parametrize("name", NAMES)
def test_the_schedules_are_those_of_params_yaml(served: dict[str, Any], name: str) -> None:
    (own,) = served[name].schedules
    assert own.schedule.interval == timedelta(seconds=getattr(SCHEDULES, name))


def test_zero_never_runs_by_itself() -> None:
    never = msgspec.structs.replace(SCHEDULES, train=0)
    assert schedule("train", never) is None
    (train,) = [d for d in deployments(never) if d.flow_name == "train"]
    assert train.schedules == []


def test_a_restart_does_not_move_a_schedule() -> None:
    found = schedule("train", SCHEDULES)
    assert found is not None
    assert found.anchor_date == ANCHOR + timedelta(seconds=300)
