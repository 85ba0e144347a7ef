"""Features of a symbol at each second: the table, the kernel and the files of rows."""

from volatility.features.derive import derive
from volatility.features.engine import (
    BATCH_ROWS,
    FeatureEngine,
    FeatureRow,
    build_features,
    columns,
    feature_batches,
    rows_of,
    rules,
)
from volatility.features.files import (
    DayWriter,
    FeatureFrame,
    day_frames,
    holds_rows,
    newest_step,
    read_features,
    window_start,
)
from volatility.features.kernel import advance
from volatility.features.kernel_state import RETURN_CAP, SQUARE_SCALE
from volatility.features.kernel_sums import new_state
from volatility.features.table import (
    FEATURE_NAMES,
    FEATURES,
    INDEX,
    LONGEST_WINDOW_SECONDS,
    MODEL_INPUTS,
    WARM,
    is_warm,
    table_digest,
)
from volatility.features.update import update_features

__all__ = [
    "BATCH_ROWS",
    "FEATURES",
    "FEATURE_NAMES",
    "INDEX",
    "LONGEST_WINDOW_SECONDS",
    "MODEL_INPUTS",
    "RETURN_CAP",
    "SQUARE_SCALE",
    "WARM",
    "DayWriter",
    "FeatureEngine",
    "FeatureFrame",
    "FeatureRow",
    "advance",
    "build_features",
    "columns",
    "day_frames",
    "derive",
    "feature_batches",
    "holds_rows",
    "is_warm",
    "new_state",
    "newest_step",
    "read_features",
    "rows_of",
    "rules",
    "table_digest",
    "update_features",
    "window_start",
]
