"""Label feature rows with their outcomes, and split them in time."""

from volatility.dataset.forward import forward_variance
from volatility.dataset.rows import Dataset, assemble, read_dataset, runs
from volatility.dataset.splits import Fold, SplitError, before, blocked, walk_forward

__all__ = [
    "Dataset",
    "Fold",
    "SplitError",
    "assemble",
    "before",
    "blocked",
    "forward_variance",
    "read_dataset",
    "runs",
    "walk_forward",
]
