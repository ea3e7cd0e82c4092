"""Slugs pcl, vade, dump, greso and online-difficulty-filtering: which problems are sampled."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from golden_adapters.common import bools, floats, part
from rljax.objectives.advantages.groups import share_without_signal
from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.credit.outcomes import place_outcomes
from rljax.objectives.curricula import Outcomes, Problems, Turn
from rljax.objectives.curricula import greso as greso_curriculum
from rljax.objectives.curricula import vade as vade_curriculum
from rljax.objectives.curricula.dump import mean_sizes, remember, upper_bounds
from rljax.objectives.curricula.greso import skip_probability
from rljax.objectives.curricula.optimum_distance import (
    kl_from_optimum,
    kl_second_order,
    kl_to_optimum,
)
from rljax.objectives.curricula.pcl import (
    closest,
    equivalent_samples,
    expected_effective_ratio,
    explained_variance,
    rollout_explained_variance,
)
from rljax.objectives.selections import accuracy_inside
from rljax.objectives.surrogates import SURROGATES
from rljax.objectives.values import critic_loss, prompt_mean


def pcl(case: dict) -> dict:
    if case["name"].startswith("select"):
        return _select(case)
    return _statistics(case) if case["name"].startswith("stats") else _step(case)


def _select(case: dict) -> dict:
    values, args = floats(case, "values"), case["args"]
    chosen = closest(values, args["m"], target_value=args["tau"])
    return {
        "selected_in_order": chosen,
        "selected_sorted": jnp.sort(chosen),
        "sum_distance": jnp.abs(values[chosen] - args["tau"]).sum(),
    }


def _statistics(case: dict) -> dict:
    rates, values = floats(case, "success_rates"), floats(case, "values")
    counts = case["args"]["n_list"]
    return {
        "expected_effective_ratio": [expected_effective_ratio(rates, n) for n in counts],
        "explained_variance": explained_variance(rates, values),
        "rollout_explained_variance": [rollout_explained_variance(rates, n) for n in counts],
        "equivalent_rollouts": equivalent_samples(rates, values),
    }


def _step(case: dict) -> dict:
    rewards, mask = floats(case, "rewards"), bools(case, "mask")
    prompts, samples, length = mask.shape
    mask, group_ids = mask.reshape(-1, length), jnp.repeat(jnp.arange(prompts), samples)
    old = floats(case, "old_logp").reshape(mask.shape)
    # An empty response has an advantage in the reference, and no token that could use it.
    whole = jnp.ones((len(mask), 1), bool)
    token_rewards = place_outcomes(rewards.reshape(-1), whole)
    advantages = part("pcl", "advantage", "group_mean")(token_rewards, whole, group_ids)
    weights = AGGREGATIONS["sequence_mean_token_mean"](mask)
    # The mean is over all sequences; rows without a token are left out of ours.
    share = mask.any(axis=1).sum() / len(mask)

    def policy_loss(logprobs):
        loss, _ = SURROGATES["unclipped"](
            logprobs - old, logprobs, jnp.broadcast_to(advantages, mask.shape), mask
        )
        return (loss * weights).sum() * share

    logprobs = floats(case, "logp").reshape(mask.shape)
    loss, gradient = jax.value_and_grad(policy_loss)(logprobs)
    scores = rewards.reshape(-1)
    returns, value_mask = prompt_mean(scores, group_ids, whole)

    def value_loss(values):
        repeated = jnp.repeat(values, samples)[:, None]
        losses, _ = critic_loss(repeated, repeated, returns, value_mask, value_clip=None)
        return 2 * losses.sum() / samples

    total, slope = jax.value_and_grad(value_loss)(floats(case, "values"))
    silent = share_without_signal(token_rewards, whole, group_ids)
    return {
        "advantages": advantages.reshape(rewards.shape),
        "policy_loss": loss,
        "grad_logp": gradient.reshape(prompts, samples, length),
        "effective_ratio": 1 - silent.mean(),
        "value_loss_sum": total,
        "value_loss_mean": total / prompts,
        "grad_values_of_sum": slope,
    }


def vade(case: dict) -> dict:
    args, groups = case["args"], case["args"]["G"]
    curriculum = vade_curriculum(
        chosen_decay=args["lambda_selected"], other_decay=args["lambda_unselected"]
    )
    state = {"right": floats(case, "alpha"), "wrong": floats(case, "beta")}
    problems = Problems(len(state["right"]))

    def observed(state: dict, chosen, right) -> dict:
        correct = jnp.arange(groups) < jnp.asarray(right)[:, None]
        present = jnp.ones(correct.shape, bool)
        seen = Outcomes(jnp.asarray(chosen), correct.astype(float), correct, present)
        return curriculum.observe(state, problems, seen)

    if case["name"] == "figure_example":
        after = observed(state, case["inputs"]["selected"], case["inputs"]["correct"])
        return {"alpha": after["right"], "beta": after["wrong"]}
    steps = []
    for drawn, right in zip(case["inputs"]["draws"], case["inputs"]["correct"], strict=True):
        turn = Turn(jax.random.key(0), jax.random.key(0), jnp.int32(1), args["B"])
        with mock.patch.object(jax.random, "beta", lambda *_, d=drawn: jnp.asarray(d, float)):
            chosen, _ = curriculum.take(state, problems, turn)
        chosen = jnp.sort(chosen)
        state = observed(state, chosen, right)
        gain = jnp.asarray(drawn, float)
        steps.append(
            {
                "info_gain": gain * (1 - gain) ** 2,
                "selected_sorted": chosen,
                "alpha": state["right"],
                "beta": state["wrong"],
            }
        )
    alpha, beta = state["right"] + 1, state["wrong"] + 1
    total = alpha + beta
    expected = alpha * beta * (beta + 1) / (total * (total + 1) * (total + 2))
    return {"steps": steps, "expected_info_gain": expected}


def dump(case: dict) -> dict:
    args = case["args"]
    names = args["sources"]
    state = {
        "window": jnp.zeros((len(names), args["window"])),
        "seen": jnp.zeros(len(names), jnp.int32),
    }
    steps = []
    for given in case["inputs"]["per_step_advantages"]:
        source = [names.index(name) for name, values in given.items() for _ in values]
        sizes = np.abs([value for values in given.values() for value in values])
        state = remember(
            state,
            jnp.asarray(source, jnp.int32),
            jnp.asarray(sizes, float),
            jnp.ones(len(source), bool),
        )
        steps.append(_dump_step(names, state))
    return {"per_step": steps}


def _dump_step(names: list[str], state: dict) -> dict:
    weights = jax.nn.softmax(upper_bounds(state, exploration_weight=1.0) / 0.1)
    found = {"mean_abs_adv": mean_sizes(state), "n": state["seen"], "weights": weights}
    return {key: dict(zip(names, value, strict=True)) for key, value in found.items()}


def greso(case: dict) -> dict:
    args, traces = case["args"], case["inputs"]["mean_reward_traces"]
    curriculum = greso_curriculum(
        easy_reward=args["easy_threshold"], hard_reward=args["hard_threshold"]
    )
    problems, found = Problems(len(traces)), {}
    state = curriculum.first(problems, jax.random.key(0))
    for number, trace in enumerate(traces):
        for mean in trace:
            scores = jnp.full((1, 1), mean, float)
            here = jnp.ones((1, 1), bool)
            seen = Outcomes(jnp.asarray([number]), scores, here, here)
            state = curriculum.observe(state, problems, seen)
    for kind, other in (("easy", "hard"), ("hard", "easy")):
        retry = {f"{kind}_retry": jnp.asarray(args[f"p_{kind}"], float)}
        alone = state | retry | {f"{other}_streak": jnp.zeros(len(traces), jnp.int32)}
        skip = skip_probability(alone, retry_probability=args["min_keep"])
        found[f"skip_prob_{kind}"] = skip
    return found


def online_difficulty_filtering(case: dict) -> dict:
    if case["name"] == "kl":
        success = floats(case, "p")[:, None]
        inverse_weight = floats(case, "inv_beta")
        return {
            "kl_init_to_opt": kl_to_optimum(success, inverse_weight),
            "kl_opt_to_init": kl_from_optimum(success, inverse_weight),
            "second_order": kl_second_order(success, inverse_weight),
        }
    rewards = floats(case, "rewards")
    rows, samples = rewards.shape
    keep = accuracy_inside(
        rewards.reshape(-1) > 0,
        jnp.repeat(jnp.arange(rows), samples),
        jnp.ones((rows * samples, 1), bool),
        accuracy_low=case["args"]["low"],
        accuracy_high=case["args"]["high"],
    )
    return {"keep": keep.reshape(rows, samples)[:, 0]}
