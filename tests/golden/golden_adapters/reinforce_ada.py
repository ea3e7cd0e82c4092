"""Slug reinforce-ada: rounds of samples, the group that is kept, advantages against the pool."""

import functools

import jax.numpy as jnp
import numpy as np

from golden_adapters.common import bools, floats, part
from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.advantages.pooled import pool_statistics
from rljax.objectives.allocation import kept_places, kept_right, leaves

EXITS = {"balanced": "balanced", "positive_focused": "positive"}


def reinforce_ada(case: dict) -> dict:
    return _rounds(case) if case["name"].startswith("multiround") else _advantages(case)


def _rounds(case: dict) -> dict:
    args, streams = case["args"], case["inputs"]["reward_stream"]
    group, samples = args["final_keep_per_prompt"], args["round_repeat"]
    leave, rewards = EXITS[args["choice"]], np.array(list(streams.values()))
    correct = rewards > args["positive_threshold"]
    drawn, left = np.zeros(correct.shape, bool), np.zeros(len(correct), bool)
    rounds = []
    for number in range(args["max_rounds"]):
        active, own = ~left, slice(number * samples, (number + 1) * samples)
        drawn[active, own] = True
        right, wrong = (correct & drawn).sum(axis=1), (~correct & drawn).sum(axis=1)
        gone = np.asarray(leaves(right, wrong, group, leave)) & active
        left |= gone
        rounds.append(
            {
                "round": number,
                "active_prompts": int(active.sum()),
                "completed": int(gone.sum()),
                "finished_prompts": int(left.sum()),
                "reward_mean": rewards[active, own].mean(),
            }
        )
        if left.all():
            break
    keep = kept_right(right, wrong, group)
    places = np.asarray(kept_places(correct, drawn, keep, group))
    by_name = {
        "selected_indices": places.tolist(),
        "samples_drawn": drawn.sum(axis=1).tolist(),
        "pos_count": right.tolist(),
        "neg_count": wrong.tolist(),
    }
    return {name: dict(zip(streams, values, strict=True)) for name, values in by_name.items()} | {
        "rounds": rounds
    }


def _advantages(case: dict) -> dict:
    args, inputs = case["args"], case["inputs"]
    mask, rewards = bools(case, "response_mask"), floats(case, "token_level_rewards")
    names, groups = np.unique(inputs["uid"], return_inverse=True)
    if not args["global_stat_est"]:
        advantage = part("grpo", "advantage", "group_zscore", advantage_epsilon=args["epsilon"])
        return {"advantages": advantage(rewards, mask, jnp.asarray(groups))}
    counts = [
        np.array([inputs[kind][name] for name in names]) for kind in ("pos_count", "neg_count")
    ]
    total = sum(counts)
    draws = np.arange(total.max())
    scores = jnp.asarray(draws < counts[0][:, None], float)
    pools = pool_statistics(scores, jnp.asarray(draws < total[:, None]))
    advantage = functools.partial(
        ADVANTAGES["pool_mean"],
        divide_by_pool_deviation=args["norm_adv_by_std"],
        advantage_epsilon=args["epsilon"],
    )
    return {"advantages": advantage(rewards, mask, *(each[groups] for each in pools))}
