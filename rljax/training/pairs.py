"""Preference pairs from the policy's own samples: a right and a wrong one for each prompt."""

import json
import os
from pathlib import Path

from rljax.config.validate import Stage
from rljax.models.network import Params
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.context import Context
from rljax.training.rollouts import Samples, sample_texts, score_samples

# Prompts sampled at once.
PROMPTS_PER_BATCH = 64


def sample_pairs(context: Context, stage: Stage, params: Params) -> Path:
    """Samples, verifies and writes WORKDIR/pairs/STAGE.jsonl, unless it is already there.

    As in iterative DPO (arXiv:2404.19733, section 2): of a prompt's samples, the first accurate
    one is chosen and the first inaccurate one that ended is rejected; prompts without both give
    no pair. The file appears only when it is complete.

    Returns:
        The file: columns prompt, chosen, rejected, problem.

    Raises:
        ValueError: if no prompt gives a pair.
    """
    path = context.workdir / "pairs" / f"{stage.name}.jsonl"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    count = min(stage.data["pair_prompts"], len(context.train_problems))
    batch = min(PROMPTS_PER_BATCH, count)
    sampler = context.jit_sampler(
        samples_per_prompt=stage.batch.samples_per_prompt,
        max_new_tokens=stage.max_new_tokens,
        token_filter=stage.token_filter,
    )
    key = purpose_key(context.config.seed, Purpose.PAIRS)
    pairs = []
    for start in range(0, count, batch):
        # The last batch reaches back so that every batch has the same shape.
        indices = range(min(start, count - batch), min(start, count - batch) + batch)
        records = [{**context.train_problems[index], "id": index} for index in indices]
        samples = sample_texts(context, sampler, params, records, key=key, step=0)
        pairs += _pairs_of(samples, score_samples(context, samples)[0].correct, start)
    if not pairs:
        raise ValueError(
            f"None of {count} prompts has both a right and a wrong sample among "
            f"{stage.batch.samples_per_prompt} (config.{stage.name}.data.pair_prompts, "
            f"config.{stage.name}.batch.samples_per_prompt)."
        )
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    os.replace(part, path)
    return path


def _pairs_of(samples: Samples, correct, first_id: int) -> list[dict]:
    """At most one pair for each prompt whose id is at least `first_id`."""
    group = samples.samples_per_prompt
    finished = samples.flat("finished")
    pairs = []
    for b, record in enumerate(samples.records):
        rows = range(b * group, (b + 1) * group)
        right = [n for n in rows if correct[n] and finished[n]]
        wrong = [n for n in rows if not correct[n] and finished[n]]
        if right and wrong and record["id"] >= first_id:
            pairs.append(
                {
                    "prompt": samples.prompt_texts[b],
                    "chosen": samples.texts[right[0]],
                    "rejected": samples.texts[wrong[0]],
                    "problem": record["id"],
                }
            )
    return pairs
