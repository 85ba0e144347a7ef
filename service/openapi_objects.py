"""Define the objects of an OpenAPI document that describe routes; what is not set is left out."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from service.openapi_schemas import Schema, reference


class Media(msgspec.Struct, frozen=True):
    """Represent content of one type; ``examples`` by name, each an object with its ``value``."""

    schema: Schema
    examples: dict[str, dict[str, object]] | UnsetType = UNSET
    example: str | UnsetType = UNSET


Content = dict[str, Media]  # by media type


class Header(msgspec.Struct, frozen=True):
    """Represent a header of a response."""

    schema: Schema
    description: str


class Response(msgspec.Struct, frozen=True):
    """Represent a response with one status."""

    description: str
    content: Content | UnsetType = UNSET
    headers: dict[str, Header] | UnsetType = UNSET


class RequestBody(msgspec.Struct, frozen=True):
    """Represent the body of a request."""

    content: Content
    required: bool = True


class Parameter(msgspec.Struct, frozen=True, rename={"place": "in"}):
    """Represent a parameter; ``place`` is ``query`` or ``header``."""

    name: str
    place: str
    required: bool
    schema: Schema
    example: str | float | UnsetType = UNSET
    description: str | UnsetType = UNSET


class Operation(msgspec.Struct, frozen=True, rename="camel"):
    """Represent a method of a route; ``responses`` by status."""

    tags: list[str]
    summary: str
    responses: dict[str, Response]
    description: str | UnsetType = UNSET
    security: list[dict[str, list[str]]] | UnsetType = UNSET
    parameters: list[Parameter] | UnsetType = UNSET
    request_body: RequestBody | UnsetType = UNSET


class Path(msgspec.Struct, frozen=True):
    """Represent the methods of a route."""

    get: Operation | UnsetType = UNSET
    post: Operation | UnsetType = UNSET


def json_content(kind: type, **shown: object) -> Content:
    """Describe JSON content with named examples."""
    values = {name: {"value": value} for name, value in shown.items()}
    return {"application/json": Media(reference(kind), values)}
