# One image for every process of this project; docker-compose.yaml gives each its command.

FROM python:3.11-slim-bookworm AS base
# Disable telemetry in all dependencies.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    BENTOML_DO_NOT_TRACK=True \
    DVC_NO_ANALYTICS=1 \
    EVIDENTLY_DISABLE_TELEMETRY=1 \
    GIT_PYTHON_REFRESH=quiet


FROM base AS packages
# Packages rarely change and take minutes to install: this layer depends only on the lock files.
COPY requirements-bootstrap.lock requirements.lock requirements-postgres.lock /locks/
RUN python3 -m venv /opt/venv \
 && pip install --no-cache-dir --require-hashes -r /locks/requirements-bootstrap.lock \
 && for lock in requirements requirements-postgres; do \
      uv pip install --no-cache --python /opt/venv/bin/python --compile-bytecode \
        --no-deps --no-build-isolation --require-hashes -r /locks/$lock.lock \
      || pip install --no-cache-dir --no-deps --no-build-isolation --require-hashes \
        -r /locks/$lock.lock || exit 1; \
    done
# Install the project's commands and metadata; the code itself is in /app, as in the repository.
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY volatility/__init__.py volatility/__init__.py
RUN for package in pipelines service; do \
      mkdir $package && touch $package/__init__.py || exit 1; \
    done \
 && pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
 && uv pip uninstall --python /opt/venv/bin/python pip uv


FROM base
# Named volumes inherit their owner from these folders. The group 0 may write what the user may, so
# that any other user of that group can run the image, as some clusters demand. Such a user has no
# entry in /etc/passwd, from which home and name would be read.
ENV HOME=/home/app LOGNAME=app
RUN useradd --uid 10001 --gid 0 --create-home app \
 && mkdir -p /app/data /app/reports /app/artifacts /app/prefect \
 && chown app:0 /app/data /app/reports /app/artifacts /app/prefect \
 && chmod g=u /app/data /app/reports /app/artifacts /app/prefect
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY . .
# A clone made under umask 077 has files that only its owner may read.
RUN chmod -R a+rX . && python -m compileall -q volatility pipelines service
USER app
# Run the stages on a twelve-hour market, so that every numeric loop is compiled here and not by
# each process at its first tick; if a stage fails, so does the build.
RUN cd "$(mktemp -d)" \
 && printf 'simulate: {hours: 12}\ntrain: {folds: 2}\nevaluate: {placebo_hours: 6}\n' > params.yaml \
 && volatility simulate && volatility features && volatility train \
 && cd /app && python -c 'from service import ticks; ticks.warm_up()' \
 && rm -rf "$OLDPWD" \
 && chmod -R g=u "$HOME"
CMD ["volatility", "--help"]
