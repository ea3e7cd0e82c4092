"""The rollouts that the page carries: a bounded choice, as data for the page's script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rljax.reporting import files
from rljax.reporting.run_data import Run

MAX_PROMPTS = 16  # of a file
MAX_SAMPLES = 16  # of a prompt
MAX_TOKENS = 100_000  # of a file; a token costs about 25 bytes of the page


def embed_json(data: Any) -> str:
    """JSON that may stand inside a <script> element whatever text it holds.

    "<", ">" and "&" only occur inside strings, where an escape means the same; so no completion
    can end the element or open a comment.
    """
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def spread_by_reward(samples: Sequence[Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
    """The samples by falling reward, those without one last.

    Of too many, an even choice with the first and the last.
    """
    ordered = sorted(samples, key=_worse)
    if len(ordered) <= limit:
        return ordered
    return [ordered[index] for index in np.linspace(0, len(ordered) - 1, limit).round().astype(int)]


def _worse(sample: Mapping[str, Any]) -> tuple[bool, float]:
    """A sort key: small for a good sample, largest for one that could not be scored."""
    reward = files.number(sample.get("reward"))
    if reward is None or math.isnan(reward):
        return True, 0.0
    return False, -reward


def _rounded(values: Any, digits: int) -> Any:
    """Numbers short enough for a page; text such as "nan" as it is."""
    if isinstance(values, list):
        return [_rounded(value, digits) for value in values]
    return round(values, digits) if isinstance(values, float) else values


def compact_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """One sample with numbers rounded to what a tooltip shows."""
    return {
        "text": sample.get("text", ""),
        "tokens": list(sample.get("tokens", [])),
        "logprobs": _rounded(files.plain(sample.get("logprobs", [])), 4),
        "ratio": _rounded(files.plain(sample.get("ratio", [])), 4),
        # The positions of the clipped tokens: a list of mostly false flags would be long.
        "clipped": [index for index, flag in enumerate(sample.get("clipped", [])) if flag],
        # Tokens that an environment wrote, by position.
        "inserted": [index for index, flag in enumerate(sample.get("inserted", [])) if flag],
        "end": sample.get("end", ""),
        "turns": _rounded(files.plain(sample.get("turn_rewards", [])), 4),
        "reward": _rounded(files.plain(sample.get("reward")), 4),
        "parts": _rounded(files.plain(dict(sample.get("parts") or {})), 4),
        "advantage": _rounded(files.plain(sample.get("advantage")), 4),
        "finished": bool(sample.get("finished", True)),
    }


def compact_rollout(rollout: Mapping[str, Any], limit_tokens: int = MAX_TOKENS) -> dict[str, Any]:
    """Cuts one step's rollouts to what a page can carry, and says what was left out."""
    prompts = rollout.get("prompts", [])
    shown, tokens, samples_cut = [], 0, 0
    for prompt in prompts[:MAX_PROMPTS]:
        samples = prompt.get("samples", [])
        kept = [compact_sample(sample) for sample in spread_by_reward(samples, MAX_SAMPLES)]
        tokens += sum(len(sample["tokens"]) for sample in kept)
        if shown and tokens > limit_tokens:
            break
        samples_cut = max(samples_cut, len(samples) - len(kept))
        rewards = [files.number(sample.get("reward")) for sample in samples]
        shown.append(
            {
                "id": prompt.get("id"),
                "prompt": str(prompt.get("prompt", "")),
                "reference": str(prompt.get("reference", "")),
                "rewards": [None if r is None or not math.isfinite(r) else r for r in rewards],
                "samples": kept,
            }
        )
    notes = []
    if len(shown) < len(prompts):
        notes.append(f"{len(shown)} of {len(prompts)} prompts")
    if samples_cut:
        notes.append(f"at most {MAX_SAMPLES} samples per prompt, spread from best to worst")
    return {
        "step": rollout.get("step"),
        "prompts": shown,
        "note": f"Shown here: {'; '.join(notes)}. The rest is in the workdir." if notes else "",
    }


def rollout_data(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """All rollouts of all runs: [{"run", "stage", "steps": [compact rollout, ...]}, ...]."""
    found = []
    for run in runs:
        for stage, paths in sorted_stages(run):
            limit = MAX_TOKENS // len(runs)  # a comparison of many runs is not a page of many MB
            steps = [compact_rollout(read_rollout(path), limit) for path in paths]
            steps = [step for step in steps if step["prompts"]]
            if steps:
                found.append({"run": run.name, "stage": stage, "steps": steps})
    return found


def sorted_stages(run: Run) -> list[tuple[str, list[Path]]]:
    """The stages with rollouts, in the order of the run."""
    order = list(run.stages)
    return sorted(
        run.rollout_paths.items(),
        key=lambda item: order.index(item[0]) if item[0] in order else len(order),
    )


def read_rollout(path: Path) -> dict[str, Any]:
    """The content of a rollout file.

    Raises:
        ValueError: if it has no prompts, or a sample's lists do not go token by token.
    """
    rollout = files.read_json(path)
    if not isinstance(rollout.get("prompts"), list):
        raise ValueError(f"{path} is not a rollout file: it has no list of prompts.")
    for prompt in rollout["prompts"]:
        for number, sample in enumerate(prompt.get("samples", []), start=1):
            if fault := _fault(sample):
                where = f"{path}, prompt {prompt.get('id')}, sample {number}"
                raise ValueError(f"{where}: {fault}.")
    return rollout


def _fault(sample: Mapping[str, Any]) -> str:
    """What is wrong with a sample's per-token lists; "" when nothing is.

    A name that only the writer or only this reader knows would otherwise leave the page without
    colours and nobody would notice.
    """
    count = len(sample.get("tokens", []))
    for name in ("logprobs", "ratio", "clipped", "inserted"):
        values = sample.get(name)
        if values is None:
            if name == "logprobs" and count:
                return "it has tokens but no 'logprobs'"
        elif len(values) != count:
            return f"{len(values)} values of {name!r} for {count} tokens"
    return ""
