"""Slugs bgpo and dllm-rl-baselines: policy gradients and DPO of masked diffusion models."""

import jax
import jax.numpy as jnp

from golden_adapters.common import bools, floats, part
from golden_adapters.diffusion import ids, token_logprobs
from rljax.objectives.advantages.softmax import softmax_in_groups
from rljax.objectives.bounds import lower_shares
from rljax.objectives.diagnostics import clip_shares
from rljax.objectives.masking import complementary_weights, coupled_weights, noise_steps
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.sequences import sequence_logprobs
from rljax.registry import resolve_objective
from rljax.training.families.preference import loss_of


def bgpo(case: dict) -> dict:
    kinds = {"vrpo": _vrpo, "unigrpo": _noise_steps, None: _boundary}
    return kinds[case["args"].get("method")](case)


def _boundary(case: dict) -> dict:
    """The surrogate on bounds of one token for each draw, and the objective that it bounds."""
    args, rewards = case["args"], floats(case, "rewards")
    prompts, samples = rewards.shape
    mask = jnp.ones((rewards.size, 1), bool)
    group_ids = jnp.repeat(jnp.arange(prompts), samples)
    zscore = part("bgpo", "advantage", "group_zscore", advantage_epsilon=args["adv_eps"])
    advantages = zscore(rewards.reshape(-1, 1), mask, group_ids)
    old = floats(case, "ell_old").reshape(rewards.size, 1, -1)

    def objective(ell, terms):
        surrogate = part("bgpo", "surrogate", "boundary", boundary_terms=terms)
        drawn = ell.reshape(old.shape)
        return -surrogate(drawn, jnp.ones_like(drawn), old, advantages, mask)[0][:, 0]

    def loss(ell, terms):
        weigh = part("bgpo", "aggregation", "sequence_mean_token_mean")
        return -jnp.sum(weigh(mask)[:, 0] * objective(ell, terms))

    new = floats(case, "ell_new")
    bound, gradient = jax.value_and_grad(loss)(new, "both")
    exact, exact_gradient = jax.value_and_grad(loss)(new, "exact")
    return {
        "advantages": advantages.reshape(rewards.shape),
        "R_hat": objective(new, "exact").reshape(rewards.shape),
        "R_lb": objective(new, "both").reshape(rewards.shape),
        "loss_bgpo": bound,
        "dloss_bgpo_dell_new": gradient,
        "loss_elbo_objective": exact,
        "dloss_elbo_objective_dell_new": exact_gradient,
    }


def _vrpo(case: dict) -> dict:
    """DPO on lower bounds; the files leave out the likelihood of the chosen side."""
    beta = case["args"]["beta"]
    loss = loss_of(resolve_objective("vrpo", {"beta": beta, "chosen_nll": "none"}))

    def shares(*sides):
        drawn = jnp.stack(sides, axis=1)[:, :, None]  # [B, 2, 1 token, M]
        return lower_shares(drawn, jnp.ones_like(drawn))

    reference = shares(floats(case, "ell_ref_w"), floats(case, "ell_ref_l"))
    mask = jnp.ones(reference.shape, bool)

    def total(chosen, rejected):
        logprobs = shares(chosen, rejected)
        arrays = {
            "mask": mask,
            "logprobs": logprobs,
            "ref_sequence_logprobs": sequence_logprobs(reference, mask),
        }
        margins = (logprobs - reference).sum(axis=-1)
        return loss(arrays)[0].mean(), beta * (margins[:, 0] - margins[:, 1])

    given = floats(case, "ell_theta_w"), floats(case, "ell_theta_l")
    (value, score), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(*given)
    return {
        "score": score,
        "loss": value,
        "dloss_dell_theta_w": gradients[0],
        "dloss_dell_theta_l": gradients[1],
    }


def _noise_steps(case: dict) -> dict:
    args = case["args"]
    return {"timesteps": noise_steps(ids(case, "t1"), args["mu"], args["T"])}


def baselines(case: dict) -> dict:
    kinds = {
        "diffu-grpo": _diffu_grpo,
        "wd1": _wd1,
        "coupled-grpo": _coupled,
        "espo": _espo,
    }
    return kinds[case["args"]["method"]](case)


def _total(method, fields, arrays, mask):
    """The scalar that a stage of a method minimises, and its metrics."""
    objective = resolve_objective(method, fields)
    loss, metrics = policy_gradient_loss(
        arrays | {"mask": mask},
        ratio=objective.part("ratio"),
        surrogate=objective.part("surrogate"),
        kl=objective.kl,
        kl_weight=objective.values.get("kl_weight", 0.0),
    )
    return jnp.sum(objective.part("aggregation")(mask) * loss), metrics


def _diffu_grpo(case: dict) -> dict:
    args, mask = case["args"], bools(case, "completion_mask")
    fields = {"clip_low": args["epsilon"], "clip_high": args["epsilon"], "kl_weight": args["beta"]}
    arrays = {
        "old_logprobs": floats(case, "old_token_logp"),
        "ref_logprobs": floats(case, "ref_token_logp"),
        "advantages": jnp.where(mask, floats(case, "advantages")[:, None], 0.0),
    }

    def total(logits):
        logprobs = token_logprobs(logits, ids(case, "completion_ids"))
        return _total("diffu_grpo", fields, arrays | {"logprobs": logprobs}, mask)

    logits = floats(case, "new_logits_completion")
    (loss, metrics), gradient = jax.value_and_grad(total, has_aux=True)(logits)
    # Theirs counts tokens beyond the range that the clip does not stop.
    log_ratio = floats(case, "new_token_logp") - arrays["old_logprobs"]
    widths = {name: fields[name] for name in ("clip_low", "clip_high")}
    shares = clip_shares(log_ratio, arrays["advantages"], mask, **widths)
    names = ("clip_share_positive_low", "clip_share_negative_high")
    clipped = sum(shares[name].mean() for name in names)
    return {
        "loss": loss,
        "mean_kl_k3": metrics["kl"].mean() if args["beta"] else None,
        "clip_ratio": clipped,
        "dloss_dlogits": gradient,
    }


def _wd1(case: dict) -> dict:
    mask, scores = bools(case, "completion_mask"), floats(case, "advantages")
    rewards = jnp.zeros(mask.shape).at[:, 0].set(scores)
    group_ids = jnp.zeros(len(mask), int)
    scale = case["args"]["psi"]
    weigh = part("wd1", "advantage", "group_softmax", softmax_scale=scale)
    advantages = weigh(rewards, mask, group_ids)

    def total(logits):
        logprobs = token_logprobs(logits, ids(case, "completion_ids"))
        arrays = {"logprobs": logprobs, "old_logprobs": logprobs, "advantages": advantages}
        return _total("wd1", {}, arrays, mask)[0]

    loss, gradient = jax.value_and_grad(total)(floats(case, "logits_completion"))
    present = jnp.ones(len(mask), bool)
    return {
        "loss": loss,
        "w_plus": softmax_in_groups(scale * scores, present, group_ids),
        "w_minus": softmax_in_groups(-scale * scores, present, group_ids),
        "dloss_dlogits": gradient,
    }


def _coupled(case: dict) -> dict:
    first, tokens = bools(case, "is_mask_first"), ids(case, "completion_ids")
    hidden = jnp.stack([jnp.ones_like(first), first, ~first], axis=-1)
    weights = hidden * coupled_weights(jnp.asarray(case["inputs"]["mask_ratio"]))

    def estimate(logits):
        drawn = token_logprobs(logits, jnp.broadcast_to(tokens, (3, *tokens.shape)))
        return lower_shares(jnp.moveaxis(drawn, 0, -1), weights)

    logits = floats(case, "logits_full_first_complement")
    return {
        "token_logp_estimate": estimate(logits),
        "dsum_dlogits": jax.grad(lambda x: estimate(x).sum())(logits),
    }


def _espo(case: dict) -> dict:
    args, hidden = case["args"], bools(case, "is_mask")  # [2 * draws, B, L]
    tokens = ids(case, "completion_ids")
    length, mask = tokens.shape[1], jnp.ones(tokens.shape, bool)
    counts = hidden[::2].sum(axis=-1)  # of the first pass of each pair
    pairs = jnp.moveaxis(complementary_weights(counts, length), 0, 1).reshape(-1, len(tokens))
    weights = jnp.moveaxis(hidden * pairs[..., None], 0, -1)

    def spread(name):
        return jnp.where(mask, floats(case, name)[:, None] / length, 0.0)

    arrays = {"old_logprobs": spread("old_elbo"), "ref_logprobs": spread("ref_elbo")}
    arrays["advantages"] = jnp.where(mask, floats(case, "advantages")[:, None], 0.0)
    fields = {"clip_low": args["epsilon"], "clip_high": args["epsilon"], "kl_weight": args["beta"]}

    def total(logits):
        drawn = token_logprobs(logits, jnp.broadcast_to(tokens, hidden.shape))
        logprobs = lower_shares(jnp.moveaxis(drawn, 0, -1), weights)
        return _total("espo", fields, arrays | {"logprobs": logprobs}, mask)[0], logprobs

    (loss, shares), gradient = jax.value_and_grad(total, has_aux=True)(floats(case, "new_logits"))
    return {"new_elbo": shares.sum(axis=-1), "loss": loss, "dloss_dlogits": gradient}
