"""Slug best-of-n: choices among samples and estimates of them."""

import numpy as np

from rljax.sampling.selection import (
    best_of_n,
    best_of_n_kl_bound,
    majority_vote,
    pass_at_k,
    weighted_vote,
)


def best_of_n_and_votes(case: dict) -> dict:
    inputs, args = case["inputs"], case["args"]
    counts, answers = np.asarray(inputs["correct_counts"]), inputs["answers"]
    passes = [pass_at_k(counts, args["n"], k) for k in args["ks"]]
    return {
        "pass_at_k": np.stack(passes, axis=-1),
        "majority": majority_vote(answers),
        "weighted": weighted_vote(answers, inputs["scores"]),
        "best_of_n_index": int(best_of_n(inputs["scores"])),
        "kl_bound": best_of_n_kl_bound(args["ks"]),
    }
