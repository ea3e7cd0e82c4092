"""The value of prompts, read behind their last token: for curricula that choose by it."""

from collections.abc import Callable

import jax
from jax import Array

from rljax.models.network import Params
from rljax.training.learner.critic import Critic
from rljax.training.update.logprobs import in_parts, model_rows
from rljax.training.update.rows import Rows, completion_rows, namespace
from rljax.training.update.train_step import Batch


def prompt_rows(prompts: Array, prompt_mask: Array, token: int) -> Rows:
    """Rows whose completion is one token that is never read: the state before it is the prompt's.

    Args:
        prompts: [K, P] i32, padded on the left.
        prompt_mask: [K, P] bool.
        token: any.
    """
    xp = namespace(prompt_mask)
    one = (len(prompts), 1)
    return completion_rows(prompts, prompt_mask, xp.full(one, token), xp.ones(one, bool))


def make_prompt_values(
    critic: Critic, micro_batch: int
) -> Callable[[Params, Params, Batch], Array]:
    """Builds values(critic parameters, policy parameters, rows of `prompt_rows`) -> [K] f32.

    Args:
        critic: of the stage.
        micro_batch: rows at a time; divides K.
    """

    def values(params: Params, policy_params: Params, rows: Batch) -> Array:
        parts = max(1, len(rows["mask"]) // micro_batch)
        found = in_parts(critic.values, parts, model_rows(rows), params, policy_params)
        return jax.lax.stop_gradient(found[:, 0])

    return values
