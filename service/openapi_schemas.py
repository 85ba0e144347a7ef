"""Generate the schemas of the OpenAPI document from the types of the requests and responses."""

from __future__ import annotations

from functools import cache
from typing import Any, is_typeddict

import msgspec

from service import bodies
from service.forecasts.messages import Event, Newest, Odds, Page, Said, Several, Warming
from service.ticks import Ticks
from service.wire import Answer, Error, Rows

Schema = dict[str, Any]

PLACE = "#/components/schemas/"
FORMATS = {"number": "double", "integer": "int64"}
FORECASTS = (Newest, Warming, Several, Event, Said, Odds, Page)
BODIES = [kind for kind in vars(bodies).values() if is_typeddict(kind)]


def reference(kind: type) -> Schema:
    """Return a reference to the schema of a type."""
    return {"$ref": PLACE + kind.__name__}


@cache
def schemas(max_rows: int) -> dict[str, Schema]:
    """Return all schemas by name, for requests of at most ``max_rows`` rows."""
    types = [Rows, Ticks, Answer, Error, *FORECASTS, *BODIES]
    _, found = msgspec.json.schema_components(types, ref_template=PLACE + "{name}")
    for schema in found.values():
        for text in ("title", "description"):  # of the class, which are for developers
            schema.pop(text, None)
        schema["additionalProperties"] = False
        for field in schema["properties"].values():
            _complete(field)
    for kind in BODIES:  # msgspec sorts their fields
        schema = found[kind.__name__]
        schema["properties"] = {name: schema["properties"][name] for name in kind.__annotations__}
    found["Rows"]["properties"]["rows"]["maxItems"] = max_rows
    found["Several"]["properties"]["forecasts"]["items"] = {
        "anyOf": [reference(Newest), reference(Warming)]
    }
    found["Error"]["required"] = list(found["Error"]["properties"])  # null is sent, too
    return found


def example(kind: type) -> dict[str, Any]:
    """Return an object with the examples of a type's fields."""
    return _example(reference(kind))


def _complete(schema: Schema) -> None:
    """Add types and formats, and drop defaults, which stand for a field that is left out."""
    schema.pop("default", None)
    if "enum" in schema:
        schema["type"] = "string"
    if schema.get("type") in FORMATS:
        schema["format"] = FORMATS[schema["type"]]
    inner = [schema.get("items"), schema.get("additionalProperties"), *schema.get("anyOf", [])]
    for part in filter(None, inner):
        _complete(part)


def _example(schema: Schema) -> Any:
    if "examples" in schema:
        return schema["examples"][0]
    if "items" in schema:
        return [_example(schema["items"])]
    fields = schemas(1)[schema["$ref"].removeprefix(PLACE)]["properties"]
    return {name: _example(field) for name, field in fields.items()}
