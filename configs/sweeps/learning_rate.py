"""A sweep of `launch/compare.py --sweep`: every value runs side by side with every seed."""


def get_sweep() -> dict[str, tuple[float, ...]]:
    """Field -> its values."""
    return {"optimizer.learning_rate": (1e-4, 3e-4, 1e-3)}
