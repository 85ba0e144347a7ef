"""Serve BentoML's hello-world, as its own documentation would write it."""

from __future__ import annotations

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Hello:
    """Answer a constant."""

    @bentoml.api
    async def predict(self) -> dict[str, str]:
        """Greet; the body is not used."""
        return {"hello": "world"}
