"""Slugs mdlm, spg, spg-bounds, spg-mask-stats: training and sampling of masked diffusion models.

The sampler runs on a toy denoiser that sees its two neighbours.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from golden_adapters.common import NotBuilt, bools, floats, part
from rljax.objectives.bounds import (
    lower_per_token,
    lower_shares,
    sequence_bounds,
    upper_per_token,
)
from rljax.objectives.masking import (
    MASKINGS,
    Draw,
    MaskSettings,
    Row,
    block_of,
    hidden_context,
    log_linear_noise,
)
from rljax.sampling.diffusion import DiffusionConfig, Rows, decode_blocks, guided, num_transfer


def _sampler(case: dict) -> dict:
    args = case["args"]
    prompts = jnp.asarray(case["inputs"]["prompt_ids"], jnp.int32)
    own, left, right, place = (floats(case, name) for name in ("E0", "EL", "ER", "P"))
    config = DiffusionConfig(
        samples_per_prompt=1,
        max_new_tokens=args["gen_length"],
        block_tokens=args["block_length"],
        steps=args["steps"],
        mask_token=args["mask_id"],
        stop_tokens=(),
        pad_token=0,
        remasking=args["remasking"],
        cfg_scale=args["cfg_scale"],
        forbid_mask_token=False,  # as in LLaDA's code
    )
    if args["temperature"] != 0:
        raise NotBuilt(f"the random numbers of temperature {args['temperature']}")

    def denoise(canvas, start):
        logits = own[canvas] + place
        logits = logits.at[:, 1:].add(left[canvas[:, :-1]])
        logits = logits.at[:, :-1].add(right[canvas[:, 1:]])
        return jax.lax.dynamic_slice_in_dim(logits, start, config.block_tokens, axis=1)

    n = len(prompts)
    rows = Rows(
        prompts=prompts,
        keys=jax.random.split(jax.random.key(0), n),  # greedy: no noise
        max_new_tokens=jnp.full(n, config.max_new_tokens, jnp.int32),
    )
    decode = jax.jit(lambda rows: decode_blocks(denoise, rows, config))
    return {"completion_ids": decode(rows).tokens}


def _transfer(case: dict) -> dict:
    counts = jnp.asarray(case["inputs"]["masked_counts"], jnp.int32)
    return {"num_transfer": num_transfer(counts, case["args"]["steps"])}


def token_logprobs(logits, tokens):
    """[..., V] and [...] -> [...]"""
    log_p = jax.nn.log_softmax(logits, axis=-1)
    return jnp.take_along_axis(log_p, tokens[..., None], axis=-1)[..., 0]


def ids(case: dict, name: str):
    return jnp.asarray(case["inputs"][name], jnp.int32)


def _likelihood(case: dict) -> dict:
    """Draws with a given number of hidden tokens, weighed as `uniform_count` weighs them."""
    hidden, answer = bools(case, "is_mask_answer"), ids(case, "answer_ids")
    logits, scale = floats(case, "logits"), case["args"]["cfg_scale"]
    if scale:  # behind each batch of rows the same ones without their prompts
        both = logits.reshape(-1, 2, case["args"]["batch_size"], *logits.shape[1:])
        logits = guided(both[:, 0], both[:, 1], scale).reshape(-1, *logits.shape[1:])
    logits = logits[:, -answer.size :]
    logprobs = token_logprobs(logits, jnp.broadcast_to(answer, hidden.shape))
    weights = hidden * (answer.size / hidden.sum(axis=1, keepdims=True))
    mask = jnp.ones((1, answer.size), bool)
    bounds = sequence_bounds(logprobs.T[None], weights.T[None], mask)
    return {"log_likelihood": bounds.mean()}


def _demonstrations(case: dict) -> dict:
    """The loss of a supervised stage: shares of the bound under both aggregations."""
    tokens, hidden = ids(case, "input_ids"), bools(case, "is_mask")
    learned = jnp.arange(tokens.shape[1]) >= ids(case, "prompt_lengths")[:, None]
    weights = hidden / floats(case, "p_mask")[:, None]

    def loss(logits, method):
        shares = lower_shares(token_logprobs(logits, tokens)[..., None], weights[..., None])
        values, _ = part(method, "token_loss", "nll")(shares, learned)
        return jnp.sum(part(method, "aggregation", AGGREGATION[method])(learned) * values)

    token, gradient = jax.value_and_grad(loss)(floats(case, "logits"), "sft")
    return {
        "loss_token_normalised": token,
        "dloss_dlogits": gradient,
        "loss_sequence_normalised_llada_sft": loss(floats(case, "logits"), "llada_sft"),
    }


AGGREGATION = {"sft": "token_mean", "llada_sft": "sequence_mean_token_mean"}


def _subs(case: dict) -> dict:
    """MDLM's schedule and loss; its mask token is never right."""
    tokens, shown, mask_token = ids(case, "x0"), ids(case, "xt"), case["inputs"]["mask_index"]
    noise, hidden = log_linear_noise(floats(case, "t")), shown == mask_token
    counted = floats(case, "attention_mask")

    def loss(logits):
        logits = logits.at[..., mask_token].set(-1e6)
        logprobs = jnp.where(hidden, token_logprobs(logits, tokens), 0.0)
        weights = jnp.where(hidden, noise.weight[:, None], 0.0)
        shares = -lower_shares(logprobs[..., None], weights[..., None])
        return (shares * counted).sum() / counted.sum(), (logprobs, shares)

    (total, (logprobs, shares)), gradient = jax.value_and_grad(loss, has_aux=True)(
        floats(case, "logits")
    )
    return {
        "sigma": noise.sigma,
        "dsigma": noise.rate,
        "move_chance": noise.move_chance,
        "weight_dsigma_over_expm1_sigma": noise.weight,
        "log_p_x0": logprobs,
        "token_loss": shares,
        "token_nll": total,
        "dloss_dlogits": gradient,
    }


def mdlm(case: dict) -> dict:
    kinds = {
        "sampler": _sampler,
        "transfer": _transfer,
        "loglik": _likelihood,
        "sft": _demonstrations,
        "mdlm": _subs,
    }
    return kinds[case["name"].split("_")[0]](case)


# The names of SPG's estimators.
NEGATIVE = {"elbo": "lower", "eubo": "upper", "mix": "mixture", "zero": "none"}


def spg(case: dict) -> dict:
    """Both bounds, and the surrogate that a stage calls with each of them."""
    args, mask = case["args"], bools(case, "completion_mask")
    power, share = args["eubo_beta"], args["mix_weight"]
    hidden = jnp.moveaxis(bools(case, "noisy_completion_is_mask"), 1, -1) & mask[..., None]
    counts = jnp.maximum(hidden.sum(axis=1, keepdims=True), 1)
    weights = hidden * mask.sum(axis=1)[:, None, None] / counts
    advantages = floats(case, "advantages")
    tokens = ids(case, "completion_ids")[:, None]

    def drawn(logits):
        taken = jnp.broadcast_to(tokens, logits.shape[:-1])
        return jnp.moveaxis(token_logprobs(logits, taken), 1, -1)

    def loss(logits, negative):
        surrogate = part(
            "spg",
            "surrogate",
            "sandwich",
            negative_bound=NEGATIVE[negative],
            upper_power=power,
            upper_weight=share,
        )
        each, _ = surrogate(drawn(logits), weights, jnp.where(mask, advantages[:, None], 0.0), mask)
        return jnp.sum(part("spg", "aggregation", "token_mean")(mask) * each)

    logits = floats(case, "logits_completion")
    lower = lower_per_token(drawn(logits), weights, mask)
    upper = upper_per_token(drawn(logits), weights, mask, power=power)
    negative = {"elbo": lower, "eubo": upper, "mix": share * upper + (1 - share) * lower}
    negative["zero"] = jnp.zeros_like(lower)
    return {
        "per_seq_logp": {n: jnp.where(advantages > 0, lower, x) for n, x in negative.items()},
        "loss": {name: loss(logits, name) for name in NEGATIVE},
        "dloss_dlogits": {
            name: jax.grad(loss)(logits, name) for name in case["outputs"]["dloss_dlogits"]
        },
        "elbo_all": lower,
        "eubo_all": upper,
    }


def spg_bounds(case: dict) -> dict:
    """Exact expectations: every set of hidden tokens is a draw with its probability."""
    n = case["inputs"]["n"]
    table = {
        (entry["position"], tuple(entry["revealed"])): entry["p"]
        for entry in case["inputs"]["prob_of_target_token"]
    }
    sets = [s for k in range(1, n + 1) for s in itertools.combinations(range(n), k)]
    logprobs, weights = np.zeros((1, n, len(sets))), np.zeros((1, n, len(sets)))
    for draw, hidden in enumerate(sets):
        revealed = tuple(place for place in range(n) if place not in hidden)
        chance = 1 / (n * len(list(itertools.combinations(range(n), len(hidden)))))
        for place in hidden:
            logprobs[0, place, draw] = np.log(table[place, revealed])
            weights[0, place, draw] = len(sets) * chance * n / len(hidden)
    mask = jnp.ones((1, n), bool)
    orders = [
        np.prod([table[place, tuple(sorted(order[:i]))] for i, place in enumerate(order)])
        for order in itertools.permutations(range(n))
    ]
    lower = n * lower_per_token(logprobs, weights, mask)
    upper = {
        str(power): (n * upper_per_token(logprobs, weights, mask, power=power))[0]
        for power in case["args"]["betas"]
    }
    return {"exact_log_likelihood": np.log(np.mean(orders)), "elbo": lower[0], "eubo": upper}


def spg_mask_stats(case: dict) -> dict:
    """Frequencies of `block` over as many draws, compared within the file's tolerance."""
    inputs, args = case["inputs"], case["args"]
    size, prompt = inputs["block_length"], inputs["prompt_len"]
    canvas = size * inputs["num_blocks"]
    settings = MaskSettings(
        draws=inputs["num_t"],
        epochs=1,
        share_low=max(args["min_t"], 1e-3),
        share_high=args["max_t"],
        block=size,
        context_rate=args["p_mask_prompt"] * args["use_mask_prompt"],
        steps=1,
        length=canvas,
    )

    def frequencies(length: int) -> dict:
        slots = jnp.arange(prompt + canvas)
        learned = (slots >= prompt) & (slots < prompt + length)
        row = Row(learned, slots < prompt, jnp.int32(canvas))

        def one(key, number):
            draw = Draw(key, jnp.int32(0), number)
            hidden = MASKINGS["block"].draw(row, draw, settings).hidden
            block, _, of_slot = block_of(row, draw, settings)
            inside = (hidden & (of_slot == block)).sum()
            seen = hidden | hidden_context(row, draw, settings) | (slots >= prompt + length)
            return seen, block, inside

        keys = jax.random.split(jax.random.key(0), inputs["draws_per_length"] // 2)
        numbers = jnp.arange(2)
        seen, block, inside = jax.vmap(lambda key: jax.vmap(lambda n: one(key, n))(numbers))(keys)
        rates = seen.reshape(-1, prompt + canvas).mean(axis=0)
        return {
            "mask_rate_prompt": rates[:prompt],
            "mask_rate_completion": rates[prompt:],
            "block_freq": share_of_each(block, inputs["num_blocks"]),
            "count_masked_inside_block_freq": share_of_each(inside, size + 1),
            "frac_two_draws_in_different_blocks": (block[:, 0] != block[:, 1]).mean(),
        }

    return {str(length): frequencies(length) for length in inputs["completion_lengths"]}


def share_of_each(values, options: int):
    """How often each of 0 .. options - 1 is found."""
    return (values.reshape(-1)[:, None] == jnp.arange(options)).mean(axis=0)
