"""Slug path-not-taken: what training has changed of a matrix."""

import numpy as np

from rljax.reporting.weight_drift import (
    Decomposition,
    changed_weights,
    matrix_drift,
    principal_cosines,
    round_to_bfloat16,
)


def path_not_taken(case: dict) -> dict:
    base, trained, other = (np.asarray(case["inputs"][name]) for name in ("W0", "W1", "W2"))
    args = case["args"]
    rank = args["k"]
    drift = matrix_drift(
        base, trained, other=other, rank=rank, alpha=args["alpha"], tolerance=args["eta"]
    )
    left, right = principal_cosines(Decomposition.of(base), Decomposition.of(trained), rank)
    return {
        "sparsity_bf16": drift.sparsity,
        "change_mask": changed_weights(
            round_to_bfloat16(base), round_to_bfloat16(trained), args["eta"]
        ),
        "cos_principal_angles_U": left,
        "cos_principal_angles_V": right,
        "max_angle_deg": drift.largest_angle,
        "nss": drift.spectral_drift,
        "overlap_principal": drift.principal.share,
        "overlap_low_magnitude": drift.low_magnitude.share,
        "overlap_principal_and_not_low": drift.principal_not_low.share,
        "stable_rank_update": drift.stable_rank,
        "jaccard_W1_W2": drift.jaccard,
        "jaccard_random_baseline": drift.jaccard_by_chance,
    }
