"""Samples of prompts that show the reference answer, as if they had been written without it."""

from collections.abc import Sequence

from jax import Array

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests
from rljax.training.collect.rollouts import Samples, noise_addresses
from rljax.training.collect.told_prompts import hinted_prompts
from rljax.training.run.context import Context
from rljax.training.run.phases import phase
from rljax.training.run.problems import Record, checked_count


@phase("sampling")
def hinted_samples(
    context: Context,
    stage: Stage,
    engine: Engine,
    weights: Params,
    samples: Samples,
    pattern: str,
    *,
    key: Array,
    step: int,
) -> Samples:
    """Samples the same problems behind their hinted prompts.

    Args:
        context: of the run.
        stage: which has room for the hint, `data.max_context_tokens`.
        engine: that drew `samples`.
        weights: the sampler's copy of the policy.
        samples: of the plain prompts; these draw with other noise.
        pattern: of the hinted prompt.
        key: of a random stream.
        step: counted over the run.

    Returns:
        The samples, with the plain prompts before them: what is learned of them is learned without
        the hint.
    """
    prompts, mask = hinted_prompts(context, stage, samples.records, pattern)
    addresses = noise_addresses(context, samples.records, call=1)
    rollouts = to_host(
        engine.sample(weights, Requests(prompts, mask, addresses), key=key, step=step)
    )
    tokens = rollouts.tokens.reshape(-1, rollouts.tokens.shape[-1])
    written = zip(tokens, rollouts.mask.reshape(tokens.shape), strict=True)
    texts = [context.text_format.text(row[kept]) for row, kept in written]
    return samples._replace(rollouts=rollouts, texts=texts)


def check_hints(context: Context, stage: Stage, pattern: str, field: str) -> None:
    """Raises ValueError where the first hinted prompts are too long.

    Args:
        context: of the run.
        stage: of the context.
        pattern: of the hinted prompt.
        field: that says it, for errors.
    """
    problems = context.train_problems
    records: Sequence[Record] = [{**problems[n], "id": n} for n in range(checked_count(problems))]
    hinted_prompts(context, stage, records, pattern)
    context.network.config.check_positions(
        context.config.data.max_prompt_tokens
        + stage.data["max_context_tokens"]
        + stage.max_new_tokens,
        f"A hinted prompt ({field}) and a completion",
        f"lower config.{stage.name}.data.max_context_tokens",
    )
