"""Read YAML with the scalars of version 1.2, which people expect.

PyYAML follows version 1.1, in which ``5e-2`` is a text, ``on`` a truth value and ``010`` eight.
A date stays a text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    """Read a document.

    Raises
    ------
    yaml.YAMLError
    """
    return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader


class Loader(yaml.SafeLoader):
    """Load scalars by the rules of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_FLOAT = (
    r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first
    )


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    return int(text, 16) if text.startswith("0x") else int(text)  # 010 is ten


Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
