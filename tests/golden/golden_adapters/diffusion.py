"""Slug mdlm: LLaDA's sampler and its schedule, on a toy denoiser that sees its two neighbours."""

import jax
import jax.numpy as jnp

from golden_adapters.common import NotBuilt, floats
from rljax.sampling.diffusion import DiffusionConfig, Rows, decode_blocks, num_transfer


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


def mdlm(case: dict) -> dict:
    kinds = {"sampler": _sampler, "transfer": _transfer}
    kind = case["name"].split("_")[0]
    if kind not in kinds:
        raise NotBuilt(f"{kind} of masked diffusion")
    return kinds[kind](case)
