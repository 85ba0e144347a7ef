"""Keep the model of this worker what the watcher says it should be."""

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

from service import memory
from service.current import folder_of, read_current
from service.predictor import Served, choose
from service.state import State
from volatility.registry import RegistryError
from volatility.settings import Environment

logger = logging.getLogger("bentoml.volatility")

BASE = Path("data/serving")
POLL_SECONDS = 0.25
FIRST_SECONDS = 60.0  # for the registry's first answer; some of it is the import of MLflow
SILENT_SECONDS = 30.0  # without a look, the watcher hangs


class Reload:
    """Swap the state's model when another is to be served; requests see the one or the other.

    Parameters
    ----------
    state : State
    environment : Environment
    metrics
        The module ``service.metrics``, which can be imported in a worker only.
    """

    def __init__(self, state: State, environment: Environment, metrics: Any) -> None:
        self._state, self._environment, self._metrics = state, environment, metrics
        self._folder = Path()
        self._loaded = ""
        self._told: dict[str, str] = {}
        self._watcher: subprocess.Popen[bytes] | None = None

    def load_packaged(self, folder: Path) -> None:
        """Load the model that came along; it stays the one that serves."""
        try:
            self._swap(choose(self._environment, folder))
        except RegistryError as error:
            # It starts all the same: /health and /predict then say what is wrong.
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
        """Do what the watcher says now."""
        current = read_current(self._folder)
        warnings: dict[str, str] = {}
        if current.checked and time.time() - current.checked > SILENT_SECONDS:
            warnings["registry"] = "the registry has not been asked for half a minute"
        if current.registry:
            warnings["registry"] = current.registry
        if current.refused:
            warnings["refused"] = current.refused
        if current.model and current.model != self._loaded:
            try:
                self._swap(choose(self._environment, self._folder / current.model))
                self._loaded = current.model
            except RegistryError as error:
                warnings["refused"] = str(error)
        self._metrics.refused(current.refusals)
        for kind, text in warnings.items():
            if self._told.get(kind) != text:
                logger.warning("%s", text)
        for kind, text in self._told.items():
            if kind not in warnings:
                logger.info("over: %s", text)
        self._told = warnings
        self._state.warnings = warnings
        self._metrics.show_health(self._state)
        if self._state.served is None and warnings:
            self._state.problem = "no model is loaded: " + next(iter(warnings.values()))

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
        gc.freeze()  # what stays is not looked at again: a full collection is a pause of 0.1 s

    def _follow(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            try:
                self._ensure_watcher()
                self.look()
            except Exception:  # the thread must not end: the service would never learn again
                logger.exception("the watcher's word cannot be followed; trying again")
                time.sleep(SILENT_SECONDS)

    def _ensure_watcher(self) -> None:
        """Start the watcher, and again should it have ended."""
        if self._watcher is None or self._watcher.poll() is not None:
            command = [sys.executable, "-m", "service.watcher", str(self._folder), str(os.getpid())]
            self._watcher = subprocess.Popen(command, stdin=subprocess.DEVNULL)


def _writable(folder: Path) -> Path:
    """Give the folder, or one that vanishes with the machine where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="volatility-serving-"))
