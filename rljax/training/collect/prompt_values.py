"""What a critic expects of prompts that are not sampled yet: one prefill of each."""

from collections.abc import Callable

import jax
import numpy as np

from rljax.config.curriculum import OF_PROMPTS
from rljax.config.stage import Stage
from rljax.parallel.host import to_host
from rljax.parallel.rules import batch_sharding, put_rows, rows_divisor
from rljax.training.collect.experience import Policy
from rljax.training.collect.rollouts import padded_prompts
from rljax.training.learner.learner import Learner
from rljax.training.learner.prompt_values import make_prompt_values, prompt_rows
from rljax.training.run.context import Context


def prompt_values(
    context: Context, stage: Stage, learner: Learner
) -> Callable[[Policy, np.ndarray], np.ndarray] | None:
    """Builds values(policy, problems [K]) -> [K] f32; None where no critic values prompts."""
    if stage.objective.choices["value_target"] != OF_PROMPTS:
        return None
    score, micro_batch = prompt_scorer(context, stage, learner)

    def values(policy: Policy, problems: np.ndarray) -> np.ndarray:
        index = np.asarray(problems)
        records = [{**context.train_problems[int(one)], "id": int(one)} for one in index]
        _, prompts, mask = padded_prompts(context, records)
        rows = prompt_rows(prompts, mask, context.tokenizer.pad_id)
        fill = -len(index) % micro_batch
        rows = {name: np.concatenate([x, x[:1].repeat(fill, axis=0)]) for name, x in rows.items()}
        found = score(policy.critic, policy.params, put_rows(rows, context.mesh))
        return to_host(found)[: len(index)]

    return values


def prompt_scorer(context: Context, stage: Stage, learner: Learner) -> tuple[Callable, int]:
    """score(critic, parameters, rows of K prompts) -> [K] f32, compiled; and what divides K."""
    divisor = rows_divisor(context.mesh)
    micro_batch = max(divisor, stage.batch.sequences_per_micro_batch // divisor * divisor)
    score = jax.jit(
        make_prompt_values(learner.critic, micro_batch),
        out_shardings=batch_sharding(context.mesh),
    )
    return score, micro_batch
