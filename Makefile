# `make` alone lists the targets. The first one that needs the environment builds it in .venv.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

# No package may report to its maker or wait for an address that is not there.
# mlflow heeds only "true" here; prefect and evidently take either.
export DO_NOT_TRACK = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export MLFLOW_DISABLE_TELEMETRY = true
export BENTOML_DO_NOT_TRACK = True
export DVC_NO_ANALYTICS = 1
export EVIDENTLY_DISABLE_TELEMETRY = 1
export NO_MKDOCS_2_WARNING = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export UV_PYTHON_DOWNLOADS = never
ifdef PIP_INDEX_URL  # a mirror that pip was told of serves uv too
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# Where images set it, every process compiles the packages anew: 10 s each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast coverage lint hooks docs wheel stack-test chaos fuzz bench bench-streaming bench-serving bench-noise bench-gate bench-import study study-public load serve kafka kafka-stop prefect flows prometheus lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

install: .venv/.project ## build the environment that the service runs in
	@echo "ready: $(BIN)/volatility --help"

demo: .venv/.project ## run the whole chain, then forecast live and serve (TICKS=DIR: real ticks; KAFKA=1: through Kafka; SERVE=0: do not serve)
	$(BIN)/$(if $(filter 1,$(KAFKA)),python -m volatility.dev.kafka_demo,volatility demo) $(if $(TICKS),--ticks "$(TICKS)") $(if $(filter 0,$(SERVE)),--no-serve)

# Tests that start servers run by themselves, the others on every core. Pytest ends with 5 where
# ARGS chooses none.
APART := tests/integration
test: .venv/.dev ## run the tests (ARGS="-k lake" narrows them)
	$(BIN)/python -m pytest -n logical --dist loadfile --ignore $(APART) $(ARGS) || test $$? = 5
	$(BIN)/python -m pytest $(APART) $(ARGS) || test $$? = 5

test-fast: .venv/.dev ## run the quick unit tests (1 min)
	$(BIN)/python -m pytest -n logical --dist loadfile -m "not slow" tests/unit $(ARGS)

coverage: .venv/.dev ## measure what the unit tests cover, and fail below the floor of pyproject.toml
	$(BIN)/python -m pytest -n logical --dist loadfile tests/unit --cov --cov-report=html --cov-report=term:skip-covered $(ARGS)

# .pre-commit-config.yaml runs the same; a test holds them equal.
lint: .venv/.dev ## check style, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

hooks: .venv/.dev ## run the linters before each commit
	$(BIN)/pre-commit install

docs: .venv/.dev ## build the documents and the API reference in site/, without a warning
	$(BIN)/mkdocs build --strict --quiet $(ARGS)

# An old build/ would bring its deleted modules into the wheel.
wheel: .venv/.dev ## build and check the wheel and the source archive in dist/
	rm -rf build dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

stack-test: .venv/.dev ## start the whole stack, replay a market at 60 times its speed, hold it to its promises (10 min)
	$(BIN)/python -m tests.stack

chaos: .venv/.dev ## kill, cut and starve every streaming process, and hold the lake to the log (30 min; ARGS=clock: one fault)
	$(BIN)/python -m tests.chaos $(ARGS)

fuzz: .venv/.dev ## send 20,000 generated requests and 100,000 mutated bodies to a real service, and attack it (30 min; ARGS="idle flood" chooses)
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: .venv/.dev ## measure features, live update and scoring beside their peers
	$(BIN)/python -m benchmarks.core $(ARGS)

bench-streaming: .venv/.dev ## measure ingest, capture, score and latency on a real broker (5 min)
	$(BIN)/python -m benchmarks.streaming $(ARGS)

bench-serving: .venv/.dev ## measure the service beside the usual design and hello-worlds, wrk and vegeta (8 min)
	$(BIN)/python -m benchmarks.serving $(ARGS)

bench-gate: .venv/.dev ## simulate the promotion gate: null recipes, recipes with skill, lost skill (1 min)
	$(BIN)/python -m benchmarks.gate $(ARGS)

bench-import: .venv/.dev ## measure the import of Parquet and CSV beside pandas and Polars (2 min)
	$(BIN)/python -m benchmarks.importing $(ARGS)

study: .venv/.dev ## study the forecasts on the recordings of ../shared/data (20 min)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.prediction.study $(ARGS)

study-public: .venv/.dev ## repeat the study on free days of four venues, fetched from Tardis (2 GB, once)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.prediction.public $(ARGS)

bench-noise: .venv/.dev ## measure what the usual evaluations find in pure noise (2 min)
	$(BIN)/python -m benchmarks.noise $(ARGS)

load: .venv/.dev ## load a service of its own, burst and ramp (ARGS="--url http://localhost:3000": a running one)
	$(BIN)/python -m benchmarks.load $(ARGS)

serve: .venv/.project ## serve the champion on port 3000
	$(BIN)/bentoml serve $(ARGS)

kafka: .venv/.project ## start a Kafka broker on port 9092 (ARGS="--port 9192" moves it)
	@$(BIN)/python -m volatility.dev.broker start $(ARGS)

kafka-stop: .venv/.project ## stop that broker (its data stays in data/kafka)
	@$(BIN)/python -m volatility.dev.broker stop $(ARGS)

# Who holds a flow's one place is kept on the disk: kept in memory, a restart of the server would
# end the runs, and leave the place taken where the run has ended meanwhile.
prefect: .venv/.project ## start a Prefect server on port 4200
	PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=prefect.server.concurrency.lease_storage.filesystem \
	PREFECT_SERVER_METRICS_ENABLED=true \
	  $(BIN)/python -m pipelines.server $(ARGS)

flows: .venv/.project ## run every flow on its schedule, and serve their gauges on port 9104
	PREFECT_API_URL=$${PREFECT_API_URL:-http://127.0.0.1:4200/api} $(BIN)/python -m pipelines.serve

# Where systemd runs, Debian's package starts one of its own on that port: systemctl disable --now prometheus
prometheus: ## watch the processes of this machine, rules and alerts on port 9090 (apt-get install prometheus)
	@command -v prometheus >/dev/null || { echo "prometheus is missing: apt-get install prometheus" >&2; exit 1; }
	prometheus --config.file=monitoring/prometheus/prometheus.local.yml --storage.tsdb.path=data/prometheus \
	  --web.listen-address=127.0.0.1:9090 --web.cors.origin=none $(ARGS)

lock: .venv/.created ## pin every package anew (ARGS=--upgrade: to the newest allowed)
	$(COMPILE) pyproject.toml -o requirements.lock $(ARGS)
	$(COMPILE) pyproject.toml --extra dev -c requirements.lock -o requirements-dev.lock $(ARGS)
	printf 'setuptools\nuv\n' | $(COMPILE) - -c requirements.lock -o requirements-bootstrap.lock $(ARGS)
	printf 'psycopg2-binary\n' | $(COMPILE) - -c requirements.lock -o requirements-postgres.lock $(ARGS)
	printf 'pip-audit\ncyclonedx-bom\npip-licenses\n' | $(COMPILE) - -c requirements.lock -o requirements-audit.lock $(ARGS)

clean: ## remove build output and caches (DATA=1: also lake, reports and the MLflow store, not recordings)
	@$(if $(filter 1,$(DATA)),$(refuse_running_broker))
	rm -rf build dist site *.egg-info .coverage .coverage.* .coverage-html .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name .venv -prune -o -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	$(if $(filter 1,$(DATA)),$(remove_data))

# What .gitignore lists there, except recordings, which nobody can make again. A ZIP has no git.
define remove_data
for folder in data reports; do if [ -d $$folder ]; then find $$folder -mindepth 1 -maxdepth 1 \
  ! -name README.md ! -name recordings -exec rm -rf {} +; fi; done; rm -rf mlruns mlartifacts mlflow.db*
endef

# Its files would go on to grow, deleted, until it ends.
define refuse_running_broker
for file in $$(find data -name broker.pid 2>/dev/null); do \
  if $(BIN)/python -m volatility.dev.broker status --data $${file%/*} >/dev/null 2>&1; then \
    echo "clean: the broker of $${file%/*} runs; stop it first:" \
      "make kafka-stop ARGS=\"--data $${file%/*}\"" >&2; exit 1; fi; done
endef

# One resolution for all Python versions, and hashes for all platforms. Annotations would name
# files, and extras are kept because pip checks them in hash mode.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --no-strip-extras --no-annotate --custom-compile-command "make lock"

# uv installs the 267 packages several times faster than pip; pip is there for machines whose
# package mirror is known to pip alone.
# One package (antlr4, of dvc) exists as source only: no build isolation, so that it is built
# with the setuptools whose hash was checked.
define install_locked
$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --require-hashes -r $(1) \
|| $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --require-hashes -r $(1)
endef

.venv/.created: requirements-bootstrap.lock
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "$(PYTHON) is not a Python 3.11 to 3.13 with venv." \
	    "Install one (Debian: apt-get install python3 python3-venv) or name one: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-bootstrap.lock
	@touch $@

.venv/.runtime: requirements.lock .venv/.created
	@echo "installing the packages of $<: about 500 MB"
	@$(call install_locked,$<)
	@touch $@

.venv/.project: pyproject.toml .venv/.runtime
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.project
	@$(call install_locked,$<)
	@touch $@
