"""Serve a BentoML hello-world in the style of its documentation."""

from __future__ import annotations

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Hello:
    """Return a constant."""

    @bentoml.api
    async def predict(self) -> dict[str, str]:
        """Return a greeting; the body is ignored."""
        return {"hello": "world"}
