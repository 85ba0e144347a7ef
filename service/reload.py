"""Keep this worker's model in step with the watcher."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from service.bodies import Warnings
from service.current import folder_of, read_current
from service.predictor import Served, load
from service.state import State
from volatility import memory, registry
from volatility.registry import RegistryError
from volatility.settings import Environment

logger = logging.getLogger("bentoml.volatility")

BASE = Path("data/serving")
POLL_SECONDS = 0.25
FIRST_SECONDS = 60.0  # wait for the registry's first answer, including the import of MLflow
SILENT_SECONDS = 30.0  # without a check for so long, the watcher is considered hung


class Reload:
    """Replace the state's model when another is to be served; each request sees one model.

    Parameters
    ----------
    state : State
    environment : Environment
    metrics
        The module ``service.metrics``, which must be imported in a worker only.
    """

    def __init__(self, state: State, environment: Environment, metrics: Any) -> None:
        self._state, self._environment, self._metrics = state, environment, metrics
        self._folder = Path()
        self._loaded = ""
        self._reported: Warnings = {}
        self._watcher: subprocess.Popen[bytes] | None = None

    def load_packaged(self, folder: Path) -> None:
        """Load the model packaged with the service, which is never replaced."""
        try:
            self._swap(load(self._environment, folder))
        except RegistryError as error:
            # Start anyway: /health and /predict then report the problem.
            self._state.problem = f"no model is loaded: {error}"
            logger.error("%s", self._state.problem)

    def start(self) -> None:
        """Load the first model, then follow the watcher in the background."""
        began = time.time()
        self._folder = _writable(folder_of(self._environment, BASE))
        self._ensure_watcher()
        while time.time() - began < FIRST_SECONDS:
            current = read_current(self._folder)
            if current.checked >= began:
                break
            time.sleep(0.05)
        else:
            self._state.problem = "the model registry has not answered yet; look at the log"
        self.look()
        threading.Thread(target=self._follow, name="reload", daemon=True).start()

    def look(self) -> None:
        """Apply the watcher's current state."""
        current = read_current(self._folder)
        warnings: Warnings = {}
        if current.checked and time.time() - current.checked > SILENT_SECONDS:
            warnings["registry"] = "the registry has not been queried for half a minute"
        if current.registry:
            warnings["registry"] = current.registry
        if current.refused:
            warnings["refused"] = current.refused
        if current.model and current.model != self._loaded:
            try:
                folder, reason = self._folder / current.model, current.reason or None
                self._swap(load(self._environment, folder, reason=reason))
                self._loaded = current.model
            except RegistryError as error:
                warnings["refused"] = str(error)
        served = self._state.served
        missing = registry.missing_alias(self._environment, served.model) if served else None
        if served and missing:
            warnings["alias"] = (
                f"no version has the alias {missing}: version {served.model.version} serves as "
                f"{served.variant}; check MODEL_ALIAS"
            )
        self._metrics.refused(current.refusals)
        for kind, text in warnings.items():
            if self._reported.get(kind) != text:
                logger.warning("%s", text)
        for kind, text in self._reported.items():
            if kind not in warnings:
                logger.info("resolved: %s", text)
        self._reported = warnings
        self._state.warnings = warnings
        self._metrics.show_health(self._state)
        if self._state.served is None and warnings:
            self._state.problem = f"no model is loaded: {next(iter(warnings.values()))}"

    def _swap(self, served: Served) -> None:
        served.warm_up()
        self._metrics.show_model(served)
        self._state.served = served
        logger.info(
            "serving %s version %s as %s%s",
            served.model.name,
            served.model.version,
            served.variant,
            f": {served.reason}" if served.reason else "",
        )
        gc.collect()
        memory.trim()
        gc.freeze()  # exclude long-lived objects from collection: a full one pauses for 0.1 s

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            try:
                self._ensure_watcher()
                self.look()
            except Exception:  # the thread must not end, or the service would miss all updates
                logger.exception("cannot apply the watcher's state; trying again")
                time.sleep(SILENT_SECONDS)

    def _ensure_watcher(self) -> None:
        """Start the watcher if it is not running."""
        if self._watcher is None or self._watcher.poll() is not None:
            command = [sys.executable, "-m", "service.watcher", str(self._folder), str(os.getpid())]
            self._watcher = subprocess.Popen(command, stdin=subprocess.DEVNULL)


def _writable(folder: Path) -> Path:
    """Return the folder, or a temporary one if it cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="volatility-serving-"))
