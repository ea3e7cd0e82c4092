"""Slug ranking-accuracy: the idealised policy's ranking of two completions."""

import numpy as np

from rljax.training.pair_evaluation.ranking import idealised_log_ratio, log_preference_odds


def ranking_accuracy(case: dict) -> dict[str, np.ndarray]:
    """Perplexities are given: log-probabilities of a token are minus their logarithms."""
    inputs, args = case["inputs"], case["args"]
    first, second = (-np.log(np.asarray(inputs[f"ppl_{side}"])) for side in (1, 2))
    share = np.asarray(inputs["alpha_1"])
    return {
        "log_pref_odds": log_preference_odds(share, args["eps"]),
        "log_idealized_ratio": idealised_log_ratio(first, second, share, args["beta"], args["eps"]),
    }
