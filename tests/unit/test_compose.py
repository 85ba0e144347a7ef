"""The compose file says what it must; whether the stack runs is for tests/compose/run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
ONE_SHOT = {"bootstrap", "bootstrap-live", "first-runs"}
LASTING = sorted(SERVICES.keys() - ONE_SHOT)
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+(\.\d+)+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?")


def images() -> list[str]:
    found = [service["image"] for service in SERVICES.values()]
    text = (ROOT / "Dockerfile").read_text()
    return found + [name for name in re.findall(r"^FROM (\S+)", text, re.MULTILINE) if ":" in name]


def test_every_image_is_pinned():
    assert len(images()) > len(SERVICES)
    assert [image for image in images() if not PINNED.fullmatch(image)] == []


def test_every_port_is_of_this_machine_alone_and_has_one_service():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) >= 6
    assert [
        port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", port)
    ] == []
    assert len({re.findall(r"-(\d+)}", port)[0] for port in ports}) == len(ports)


def test_the_addresses_are_those_of_the_design():
    published = {
        name: re.findall(r"-(\d+)}", port)[0]
        for name, service in SERVICES.items()
        for port in service.get("ports", [])
    }
    assert published == {
        "service": "8000",
        "grafana": "3000",
        "mlflow": "5000",
        "prometheus": "9090",
        "prefect": "4200",
        "kafka": "9092",
    }


@pytest.mark.parametrize("name", LASTING)
def test_what_runs_on_is_watched_started_again_bounded_and_not_root(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert str(service["user"]).split(":")[0] not in ("root", "0")
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_what_runs_once_ends_and_is_not_root(name):
    assert SERVICES[name]["restart"].startswith("on-failure:")
    assert SERVICES[name]["user"] == "app"


def test_every_variable_is_in_the_example_and_has_a_default():
    example = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    used = re.findall(r"(?<!\$)\$\{([A-Z_]+)(:-)?", TEXT)
    assert used
    assert {name for name, _ in used} <= set(example)
    assert all(default for _, default in used), "the stack starts without a .env"
    assert "COMPOSE_PROFILES" in example


def test_prometheus_watches_the_services_by_their_names_and_ports():
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text())
    targets = {
        job["job_name"]: target
        for job in config["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    assert targets.pop("prometheus") == "localhost:9090"
    assert {job: target.split(":")[0] for job, target in targets.items()} == {j: j for j in targets}
    assert set(targets) <= SERVICES.keys()
    shown = {
        name: service["environment"]["HEALTH"].split("/")[2].replace("localhost", name)
        for name, service in SERVICES.items()
        if str(service.get("environment", {}).get("HEALTH", "")).endswith("/metrics")
        and "live" not in name
    }
    assert shown.items() <= targets.items()
    assert set(shown) == {"ingest", "score", "flows"}


def test_each_profile_has_one_source_under_the_name_that_is_scraped():
    chosen = {
        profile: {
            name for name, one in SERVICES.items() if profile in one.get("profiles", [profile])
        }
        for profile in ("", "simulate", "live")
    }
    assert chosen[""] == chosen["simulate"]
    assert chosen["simulate"] - chosen["live"] == {"ingest", "bootstrap"}
    assert chosen["live"] - chosen["simulate"] == {"ingest-live", "bootstrap-live"}
    assert SERVICES["ingest-live"]["networks"]["default"]["aliases"] == ["ingest"]
    assert "${VENUE:-coinbase}" in SERVICES["ingest-live"]["command"]


INGESTS = sorted(name for name in SERVICES if name.startswith("ingest"))


@pytest.mark.parametrize("name", INGESTS)
def test_every_ingest_claims_the_lake_that_capture_fills(name):
    # Compose leaves the containers of a profile that is no longer chosen running.
    lakes = {mount for one in ("flows", *INGESTS) for mount in SERVICES[one]["volumes"]}
    assert lakes - {"reports:/app/reports"} == {"data:/app/data"}
    assert not {"--lake", "--topic"} & set(SERVICES[name]["command"])


@pytest.mark.parametrize(
    "name", ["README.md", ".env.example", "docs/configuration.md", "docker-compose.yaml"]
)
def test_whoever_changes_the_profile_is_sent_to_the_runbook(name):
    assert re.search(
        "change the market", (ROOT / name).read_text().replace("\n# ", " "), re.IGNORECASE
    )
    section = (ROOT / "docs/runbook.md").read_text().partition("## Change the market\n")[2]
    assert section.index("docker compose down") < section.index("COMPOSE_PROFILES=live")


def test_every_volume_and_mounted_file_is_there():
    volumes = yaml.safe_load(TEXT)["volumes"]
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in volumes


def dockerfile() -> str:
    """Return the last stage of the Dockerfile, each instruction on one line."""
    return (ROOT / "Dockerfile").read_text().replace("\\\n", "").rpartition("\nFROM ")[2]


def test_a_clone_that_only_its_owner_may_read_works():
    text = dockerfile()
    assert text.index("COPY . .") < text.index("chmod -R a+rX .") < text.index("USER app")
    advice = f"`chmod -R a+rX {' '.join(sorted(mounted()))}`"
    assert advice in (ROOT / "README.md").read_text()


def mounted() -> set[str]:
    """Return the folders of the repository that are mounted into containers."""
    mounts = [mount for one in SERVICES.values() for mount in one.get("volumes", [])]
    return {mount.split("/")[1] for mount in mounts if mount.startswith("./")}


def test_any_user_of_group_0_can_run_the_image():
    text = dockerfile()
    folders = {"/app/data", "/app/reports", "/app/artifacts", "/app/prefect"}
    targets = {
        mount.split(":")[1]
        for one in SERVICES.values()
        if one["image"].startswith("volatility-service")
        for mount in one.get("volumes", [])
    }
    assert targets == folders
    assert re.search(r"^ENV HOME=/home/app LOGNAME=app$", text, re.MULTILINE)
    for given in (r"chown app:0 (.+?) &&", r"chmod g=u (.+)"):
        found = re.search(given, text)
        assert found
        assert set(found[1].split()) == folders
    assert "useradd --uid 10001 --gid 0" in text
    assert text.index("USER app") < text.index('chmod -R g=u "$HOME"')


def test_only_the_named_files_reach_the_image():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    named = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert not {".env", ".git", "data"} & set(named)


def test_a_proxy_is_never_used_between_the_services():
    for name, service in SERVICES.items():
        if name in ("kafka", "postgres"):  # ask nobody by HTTP
            continue
        environment = service["environment"]
        direct = set(environment["NO_PROXY"].split(","))
        assert environment["no_proxy"] == environment["NO_PROXY"]
        assert {"localhost", "127.0.0.1", "mlflow", "prefect", "prometheus"} <= direct, name
        asked = {
            str(v).split("/")[2].split(":")[0] for v in environment.values() if "http://" in str(v)
        }
        assert asked <= direct, name


def test_every_mounted_folder_is_labelled_for_selinux():
    mounts = [m for one in SERVICES.values() for m in one.get("volumes", []) if m.startswith("./")]
    assert len(mounts) >= 4
    assert [mount for mount in mounts if not mount.endswith(":ro,z")] == []


def test_grafana_fetches_nothing_and_lets_nobody_edit():
    settings = SERVICES["grafana"]["environment"]
    assert settings["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert settings["GF_NEWS_NEWS_FEED_ENABLED"] == "false"
    assert settings["GF_SECURITY_DISABLE_GRAVATAR"] == "true"
    assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_grafana_refuses_what_pages_of_other_sites_send():
    settings = SERVICES["grafana"]["environment"]
    assert settings["GF_SECURITY_CSRF_ALWAYS_CHECK"] == "true"
    assert settings["GF_SNAPSHOTS_ENABLED"] == "false"
    assert "GF_SECURITY_CSRF_TRUSTED_ORIGINS" not in settings
    assert settings.get("GF_SECURITY_ALLOW_EMBEDDING", "false") == "false"
