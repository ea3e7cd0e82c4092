"""How old the tokens of a step are: in steps and in updates of the policy that learns from them."""

import numpy as np


def lag_metrics(
    versions: np.ndarray, mask: np.ndarray, *, version: int, updates_per_step: int, most: int
) -> dict[str, float]:
    """Mean and largest lag of a step's tokens, and their histogram.

    Args:
        versions: [...] i32, updates that the weights of each token had seen.
        mask: [...] bool, tokens that count.
        version: updates that the policy has seen which learns from them.
        updates_per_step: of the stage.
        most: largest lag in steps that has a bar of its own; the last bar holds what is older.

    Returns:
        `staleness_mean` and `staleness_max` in steps, `staleness_updates_mean` and
        `staleness_updates_max` in updates, and `staleness_share/N`, the share of tokens that are N
        steps old.
    """
    updates = version - np.asarray(versions)[np.asarray(mask)].astype(np.int64)
    if not updates.size:
        updates = np.zeros(1, np.int64)
    steps = updates // updates_per_step
    metrics = {
        "staleness_mean": float(steps.mean()),
        "staleness_max": float(steps.max()),
        "staleness_updates_mean": float(updates.mean()),
        "staleness_updates_max": float(updates.max()),
    }
    counts = np.bincount(np.minimum(steps, most), minlength=most + 1)
    return metrics | {
        f"staleness_share/{lag}": float(count) / steps.size for lag, count in enumerate(counts)
    }
