"""Slug cgpo: calibrated rewards of what satisfies constraints, pairs, and the best sample."""

import jax.numpy as jnp
import numpy as np

from golden_adapters.common import bools, floats, lookup
from golden_adapters.policy_gradient import advantage_part
from rljax.data.sample_rules import Candidates, PairOptions, pairs_by_rule
from rljax.objectives.advantages.calibrated import calibrate
from rljax.objectives.parts import apply


def _arrays(case: dict) -> dict:
    """One prompt whose samples have one token each, which has the whole log-ratio."""
    rewards = floats(case, "reward")[:, None]
    return {
        "token_rewards": rewards,
        "mask": jnp.ones(rewards.shape, bool),
        "group_ids": jnp.zeros(len(rewards), int),
        "satisfied": bools(case, "satisfied"),
        "base_scores": jnp.full(len(rewards), float(case["inputs"]["baseline_reward"])),
        "old_logprobs": floats(case, "seq_log_ratio")[:, None],
        "ref_logprobs": jnp.zeros(rewards.shape),
    }


def _crpg(case: dict) -> dict:
    arrays, limit = _arrays(case), case["args"]["kl_max"]
    calibrated = calibrate(arrays["token_rewards"][:, 0], arrays["base_scores"])
    part = advantage_part("calibrated_constrained", kl_limit=limit)
    advantage = apply(part, arrays)[:, 0]
    # A violator has nothing, so that its advantage is minus the mean of all.
    more = {name: jnp.concatenate([x, x[:1]]) for name, x in arrays.items()}
    more["satisfied"] = more["satisfied"].at[-1].set(False)
    found = apply(part, more)[:, 0]
    return {
        "calibrated": calibrated,
        "constrained": jnp.where(arrays["satisfied"], calibrated, 0.0),
        "regularised": found[:-1] - found[-1],
        "advantage": advantage,
    }


def _crraft(case: dict) -> dict:
    arrays = _arrays(case)
    weights = apply(advantage_part("best_constrained", kl_limit=case["args"]["kl_max"]), arrays)
    weights = np.asarray(weights[:, 0]) / len(weights)
    chosen = np.flatnonzero(weights)
    if not len(chosen):
        return {"chosen": None, "weight": None}
    (place,) = chosen
    return {"chosen": int(place), "weight": weights[place]}


def _codpo(case: dict) -> dict:
    scores, none = (
        np.asarray(case["inputs"]["reward"]),
        np.zeros(len(case["inputs"]["reward"]), bool),
    )
    found = Candidates(scores, none, none, np.asarray(case["inputs"]["satisfied"], bool))
    pairs = pairs_by_rule("constrained", found, PairOptions(0.0, 1, np.random.default_rng(0)))
    chosen, rejected = pairs[0] if pairs else (None, None)
    return {"chosen": chosen, "rejected": rejected}


_CASES = {"crpg": _crpg, "codpo_pick": _codpo, "crraft_pick": _crraft}


def cgpo(case: dict) -> dict:
    return lookup(_CASES, case["name"].split("/")[0], "function")(case)
