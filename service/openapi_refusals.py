"""Describe the refusals that several routes share."""

from __future__ import annotations

from service.openapi_objects import Response, json_content
from service.origins import REFUSAL
from service.wire import Error


def refusal(
    description: str, text: str, row: int | None = None, field: str | None = None
) -> Response:
    """Describe a response with an error, by an example of it."""
    return Response(description, json_content(Error, refused=Error(text, row, field)))


# Of every route that returns forecasts.
COMMON = {
    "401": refusal(
        "The API key is missing or wrong (only if VOLATILITY_API_KEY is set).",
        "the API key is missing or wrong: send `Authorization: Bearer KEY`",
    ),
    "403": refusal(
        "A page of another origin sent the request (see serving.allowed_origins).", str(REFUSAL)
    ),
    "429": refusal(
        "Too many requests from this client (only if serving.rate_limit is set).",
        "too many requests: at most 100 per 1 second",
    ),
    "431": refusal(
        "The headers are too large.",
        "the head of the request is too large: at most 65536 bytes and 100 headers",
    ),
}
