"""Read from the source what griffe passes over: constants in pairs, and the fields of structs."""

from __future__ import annotations

import ast
from typing import Any

import griffe


class Reading(griffe.Extension):
    """Add both to the modules and classes that griffe has read."""

    def on_module_members(
        self, *, node: ast.AST | griffe.ObjectNode, mod: griffe.Module, **kwargs: Any
    ) -> None:
        """Add each name of an assignment such as ``A, B = 1, 2``."""
        for statement in getattr(node, "body", []):
            match statement:
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=value):
                    values = value.elts if isinstance(value, ast.Tuple) else [value] * len(names)
                    for name, given in zip(names, values, strict=True):
                        constant = griffe.Attribute(
                            ast.unparse(name), value=ast.unparse(given), lineno=name.lineno
                        )
                        mod.set_member(constant.name, constant)

    def on_class_members(
        self, *, node: ast.AST | griffe.ObjectNode, cls: griffe.Class, **kwargs: Any
    ) -> None:
        """Add the constructor that msgspec makes of a struct's fields."""
        if isinstance(node, ast.ClassDef) and any("Struct" in str(base) for base in cls.bases):
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            kind = (
                griffe.ParameterKind.keyword_only
                if options.get("kw_only") == "True"
                else griffe.ParameterKind.positional_or_keyword
            )
            fields = [
                griffe.Parameter(
                    field.name, annotation=field.annotation, kind=kind, default=field.value
                )
                for field in cls.attributes.values()
                if field.annotation is not None and "ClassVar" not in str(field.annotation)
            ]
            this = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
            constructor = griffe.Function(
                "__init__", parameters=griffe.Parameters(this, *fields), returns="None"
            )
            cls.set_member("__init__", constructor)
