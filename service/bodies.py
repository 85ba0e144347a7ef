"""Define the responses of ``GET /health`` and ``GET /version``, and of BentoML's timeout."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from service.wire import ModelName, ModelVariant, ModelVersion, Positive, Probability, Time, doc

Levels = Annotated[dict[str, Positive], doc("By horizon [basis points over the horizon].")]


class Timeout(TypedDict):
    """Represent the response to a request that took too long."""

    error: Annotated[
        str,
        doc("The time limit that was exceeded.", "Not able to process the request in 30 seconds"),
    ]


class Warnings(TypedDict, total=False):
    """Represent problems while a model is serving, by cause."""

    registry: Annotated[str, doc("The registry is unavailable; the current model keeps serving.")]
    refused: Annotated[str, doc("A version was refused; the previous version keeps serving.")]
    alias: Annotated[str, doc("No version has the alias in MODEL_ALIAS; another version serves.")]
    stale: Annotated[str, doc("The newest training row is older than serving.max_age_hours.")]


class Health(TypedDict):
    """Represent the health of a service with a working model."""

    status: Annotated[
        Literal["ok", "degraded"],
        doc("degraded: a model is serving, but the warnings list problems.", "ok"),
    ]
    model_name: ModelName
    model_version: ModelVersion
    model_variant: ModelVariant
    model_age_hours: Annotated[
        float, doc("Age of the newest row that the model was trained on [h].", 31.25)
    ]
    warnings: Annotated[Warnings, doc("Problems by cause; empty if there are none.", {})]


class Unavailable(TypedDict):
    """Represent the health of a service without a working model."""

    status: Annotated[Literal["unavailable"], doc("No working model is loaded.", "unavailable")]
    error: Annotated[
        str,
        doc(
            "Why no model is available, and how to fix it.",
            "no model is loaded: the model registry has not answered yet; look at the log",
        ),
    ]


class Forecasting(TypedDict):
    """Represent what a model forecasts, and how it is built."""

    horizons_seconds: Annotated[list[int], doc("Forecast horizons [s].", [60, 300, 900])]
    spike_levels_bps: Annotated[
        dict[str, Levels],
        doc(
            "Spike levels by symbol; `unknown` applies to any other symbol.",
            {
                "BTC-USD": {"60s": 7.5, "300s": 15.8, "900s": 26.1},
                "ETH-USD": {"60s": 9.6, "300s": 20.3, "900s": 33.4},
                "unknown": {"60s": 8.6, "300s": 18.1, "900s": 29.8},
            },
        ),
    ]
    best_simple: Annotated[str | None, doc("Best simple forecast at training time.", "har")]
    recipe: Annotated[
        str | None,
        doc("Digest of how the model is built: code version, features, parameters.", "7c" * 32),
    ]


class Training(TypedDict):
    """Represent the data of a model's training."""

    start: Annotated[Time, doc("First training row, UTC.", "2026-03-01T00:15:00.000Z")]
    stop: Annotated[Time, doc("Last training row, UTC.", "2026-04-03T23:59:00.000Z")]
    rows: Annotated[int, doc("Number of training rows.", 2934000)]
    symbols: Annotated[list[str], doc("Training symbols.", ["BTC-USD", "ETH-USD"])]
    base_rate: Annotated[Probability, doc("Share of spikes in the training rows.", 0.1)]
    data_digest: Annotated[str, doc("SHA-256 of the training data.", "4f" * 32)]
    created: Annotated[Time, doc("When the model was trained, UTC.", "2026-04-04T02:11:09Z")]


class Column(TypedDict):
    """Represent a feature of a row."""

    name: Annotated[str, doc("Name of the feature.", "spread_bps")]
    unit: Annotated[str, doc("Unit of the feature.", "basis points")]
    window_seconds: Annotated[int, doc("Look-back window [s].", 0)]
    model_input: Annotated[
        bool, doc("Whether the model uses it; the others are informative only.", True)
    ]
    meaning: Annotated[str, doc("What the feature measures.", "Spread over midprice.")]


class Packages(TypedDict):
    """Represent the versions of the packages that the forecasts depend on."""

    trained_with: Annotated[dict[str, str], doc("Package to version.", {"numpy": "2.4.6"})]
    serving_with: Annotated[
        dict[str, str | None],
        doc("Package to version; null if it is not installed.", {"numpy": "2.4.6"}),
    ]


class Version(TypedDict):
    """Represent the serving model."""

    name: ModelName
    version: ModelVersion
    alias: Annotated[str | None, doc("Alias in the registry.", "champion")]
    variant: ModelVariant
    baseline: Annotated[
        str | None, doc("Name of the simple forecast that is serving, if any.", None)
    ]
    reason: Annotated[str | None, doc("Why a variant other than ml is serving, if so.", None)]
    threshold: Annotated[Probability, doc("Score from which a row counts as a spike.", 0.41)]
    forecast: Forecasting
    training: Training
    metrics: Annotated[
        dict[str, float],
        doc("Evaluation metrics from the registry, by name.", {"ml.qlike": -15.21}),
    ]
    features: Annotated[list[Column], doc("Features that a row may contain.")]
    digest: Annotated[str, doc("SHA-256 of everything that the forecasts depend on.", "a1" * 32)]
    run_id: Annotated[
        str | None, doc("Id of the training run in the registry.", "0f8fad5bd9cb469fa165")
    ]
    git_commit: Annotated[str, doc("Git commit of the training code.", "9c" * 20)]
    package_versions: Packages
