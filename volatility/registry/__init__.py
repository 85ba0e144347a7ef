"""Manage models in MLflow: versions, aliases, the serving model, and demotion."""

from volatility.registry.champions import (
    champion,
    demote,
    demotion,
    latest,
    promote,
    read_evidence,
    read_live_evidence,
    rollback,
    versions_by_alias,
    write_evidence,
    write_live_evidence,
)
from volatility.registry.errors import RefusedVersionError, RegistryError, UnknownVersionError
from volatility.registry.follow import Follower
from volatility.registry.live_evidence import measure_and_judge
from volatility.registry.packaging import package
from volatility.registry.promotion import judge, promote_if_earned
from volatility.registry.serving import (
    UNREGISTERED,
    Choice,
    choose,
    live_models,
    load,
    missing_alias,
    shipped_model,
    variant_of,
)
from volatility.registry.store import (
    CHALLENGER,
    CHAMPION,
    Registered,
    RegisteredModel,
    register,
    resolve,
    version_of,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "UNREGISTERED",
    "Choice",
    "Follower",
    "RefusedVersionError",
    "Registered",
    "RegisteredModel",
    "RegistryError",
    "UnknownVersionError",
    "champion",
    "choose",
    "demote",
    "demotion",
    "judge",
    "latest",
    "live_models",
    "load",
    "measure_and_judge",
    "missing_alias",
    "package",
    "promote",
    "promote_if_earned",
    "read_evidence",
    "read_live_evidence",
    "register",
    "resolve",
    "rollback",
    "shipped_model",
    "variant_of",
    "version_of",
    "versions_by_alias",
    "write_evidence",
    "write_live_evidence",
]
