"""A step's rollouts as the report reads them."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from rljax.rewards.pool import Scores
from rljax.training.collect.rollouts import Samples
from rljax.training.run.context import Context


def rollout_record(
    context: Context,
    stage: str,
    step: int,
    samples: Samples,
    scores: Scores | None,
    per_token: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """The first prompts of a step with all their samples.

    Args:
        context: of the run; `config.reporting.rollout_prompts` prompts are kept.
        stage: its name.
        step: from 1.
        samples: B prompts, G samples each.
        scores: of the N samples, or None where nothing was verified.
        per_token: name -> [N, T]: logprobs, ratio, clipped, advantage.

    Returns:
        The JSON-able content of rollouts/STAGE-STEP.json. Rows without a token are left out.
    """
    group = samples.samples_per_prompt
    references = context.references(samples.records)
    prompts = []
    for b in range(min(context.config.reporting.rollout_prompts, len(samples.records))):
        rows = range(b * group, (b + 1) * group)
        prompts.append(
            {
                "id": int(samples.records[b]["id"]),
                "prompt": samples.prompt_texts[b],
                "reference": _reference_text(references[b]),
                "samples": [
                    _sample(context, samples, scores, per_token, n)
                    for n in rows
                    if samples.flat("mask")[n].any()
                ],
            }
        )
    return {"stage": stage, "step": step, "prompts": prompts}


def _sample(
    context: Context,
    samples: Samples,
    scores: Scores | None,
    per_token: Mapping[str, np.ndarray],
    n: int,
) -> dict[str, Any]:
    mask, inserted = samples.flat("mask")[n], samples.rollouts.inserted
    shown = mask if inserted is None else mask | samples.flat("inserted")[n]
    sample = {
        "text": samples.texts[n],
        "tokens": [context.tokenizer.token_text(int(i)) for i in samples.flat("tokens")[n][shown]],
        "finished": bool(samples.flat("finished")[n]),
        "reward": 0.0 if scores is None else _number(scores.total[n]),
        "parts": {} if scores is None else {k: _number(v[n]) for k, v in scores.parts.items()},
    }
    if inserted is not None:
        sample["inserted"] = samples.flat("inserted")[n][shown].tolist()
        episode = samples.episodes[n]
        sample["end"] = episode["end"]
        if episode["role"]:
            sample["role"] = episode["role"]
        sample["turn_rewards"] = [turn["reward"] for turn in episode["turns"]]
    for name, values in per_token.items():
        kept = values[n][shown]
        sample[name] = kept.tolist() if kept.dtype == bool else [round(float(v), 6) for v in kept]
    return sample


def _number(value: np.floating) -> float | None:
    """A score; None where there is none, or none yet."""
    return None if np.isnan(value) else float(value)


def _reference_text(reference: Any) -> str:
    if isinstance(reference, Mapping) and reference.get("answer") is not None:
        return str(reference["answer"])
    return reference if isinstance(reference, str) else json.dumps(reference)
