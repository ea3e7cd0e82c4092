"""From which value on something counts."""

import numpy as np


def reaches(value: float, threshold: float) -> bool:
    """Whether a value is at least the threshold, in float32, in which rewards are used."""
    return bool(np.float32(value) >= np.float32(threshold))
