"""A made-up workdir with everything that a real run leaves, and some nasty text in it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rljax.reporting.files import EXAMPLES_FOLDER, write_json_atomic
from rljax.reporting.summary import rollout_steps, write_rollout
from rljax.reporting.writers import WorkdirWriter

NASTY = "</script><script>alert(1)</script><!-- & <b>\"'\u2028"


def _towards(start: float, end: float, share: float) -> float:
    return start + (end - start) / (1 + math.exp(-9 * (share - 0.4)))


def _supervised_row(step: int, steps: int, rng: np.random.Generator) -> dict:
    share = step / steps
    return {
        "loss": _towards(3.2, 0.35, share) + rng.normal(0, 0.05),
        "token_accuracy": _towards(0.1, 0.86, share) + rng.normal(0, 0.01),
        "gradient_norm": 0.6 + rng.gamma(2, 0.15),
        "learning_rate": 1e-3 * min(1.0, share * 10) * (1 - share),
    }


def _online_row(step: int, steps: int, rng: np.random.Generator, top: float) -> dict:
    share = step / steps
    accuracy = min(1.0, max(0.0, _towards(0.3, top, share) + rng.normal(0, 0.05)))
    return {
        "reward": accuracy + rng.normal(0, 0.01),
        "accuracy": accuracy,
        "completion_tokens": _towards(24, 38, share) + rng.normal(0, 1.2),
        "truncated_share": max(0.0, 0.2 * (1 - share) + rng.normal(0, 0.02)),
        "entropy": max(0.02, _towards(0.75, 0.2, share) + rng.normal(0, 0.02)),
        "kl_to_start": max(0.0, 0.08 * share + rng.normal(0, 0.002)),
        "clip_share_low": abs(rng.normal(0.004, 0.002)),
        "clip_share_high": abs(rng.normal(0.011, 0.004)),
        "gradient_norm": 0.3 + rng.gamma(2, 0.1) + (9.0 if step == steps // 3 else 0.0),
        "loss": rng.normal(0, 0.02),
        "groups_without_signal": min(1.0, 0.3 + 0.4 * share),
        "sampler_trainer_gap": abs(rng.normal(3e-6, 1e-6)),
        "scoring_failures": float(step == 7),
        "updates_skipped": 0.0,
        "learning_rate": 3e-4,
        "a_user_metric": float(rng.normal(5, 1)),
    }


def _heldout_row(share: float, top: float) -> dict:
    greedy = _towards(0.28, top, share)
    return {
        "accuracy_greedy": greedy,
        "pass@1": greedy * 0.93,
        "pass@8": min(1.0, greedy * 1.15),
        "majority@8": min(1.0, greedy * 1.05),
        "completion_tokens": 30 + 6 * share,
    }


def _sample(rng: np.random.Generator, text: str, reward: float, advantage: float) -> dict:
    """One sample with the keys that the training loop writes."""
    tokens = list(text)
    logprobs = -rng.gamma(0.35, 1.1, len(tokens))
    ratio = np.exp(rng.normal(0, 0.12, len(tokens)))
    return {
        "text": text,
        "tokens": tokens,
        "logprobs": logprobs.tolist(),
        "ratio": ratio.tolist(),
        "clipped": (np.abs(ratio - 1) > 0.2).tolist(),
        "reward": reward,
        "parts": {"correct": reward, "format": 1.0},
        "advantage": [advantage] * len(tokens),
        "finished": bool(rng.random() > 0.2),
    }


def _rollout(stage: str, step: int, steps: int, rng: np.random.Generator, prompts: int) -> dict:
    entries = []
    for index in range(prompts):
        a, b, c = (int(x) for x in rng.integers(10, 99, 3))
        rewards = (rng.random(8) < 0.3 + 0.6 * step / steps).astype(float)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        samples = []
        for reward, advantage in zip(rewards, advantages, strict=True):
            total = a + b + c if reward else a + b + c + int(rng.integers(1, 9))
            text = f"First {a} + {b} = {a + b}.\nThen {a + b} + {c} = {total}.\n#### {total}"
            samples.append(_sample(rng, text, float(reward), float(advantage)))
        question = (
            f"What is {a} + {b} + {c}? Work it out step by step, then write #### and the sum."
        )
        entries.append(
            {"id": index, "prompt": question, "reference": str(a + b + c), "samples": samples}
        )
    entries[0]["prompt"] += NASTY
    entries[0]["samples"][0]["tokens"][0] = NASTY
    return {"stage": stage, "step": step, "prompts": entries}


def _example(stage: str) -> dict:
    """A sequence as the self-check keeps it."""
    tokens = ["Add", " 1", NASTY, "\n", "2", "", "<eos>", "3"]
    kinds = ["prompt"] * 3 + ["learned"] * 3 + ["end", "unlearned"]
    return {"stage": stage, "tokens": tokens, "ids": list(range(40, 48)), "kinds": kinds}


def make_workdir(
    folder: Path,
    *,
    seed: int = 0,
    warmup: int = 200,
    steps: int = 120,
    top: float = 0.92,
    prompts: int = 6,
    learning_rate: float = 3e-4,
    complete: bool = True,
) -> Path:
    """Writes a fake run of a supervised and an online stage into `folder`."""
    rng = np.random.default_rng(seed)
    writer = WorkdirWriter(folder)
    for stage, count in (("warmup", warmup), ("grpo", steps)):
        online = stage == "grpo"
        for step in range(0 if online else 1, count + 1):
            key = {"stage": stage, "step": step}
            if step:
                row = (
                    _online_row(step, count, rng, top)
                    if online
                    else _supervised_row(step, count, rng)
                )
                writer.write({**key, "kind": "train", **row})
                seconds = _seconds(online, step, rng)
                writer.write(
                    {
                        **key,
                        "kind": "timing",
                        **seconds,
                        "tokens_per_second": 9e3 / sum(seconds.values()),
                    }
                )
            if online and step % (count // 6) == 0:
                writer.write({**key, "kind": "heldout", **_heldout_row(step / count, top)})
    writer.close()
    for step in rollout_steps(steps):
        write_rollout(folder, _rollout("grpo", step, steps, rng, prompts))
    for stage in ("warmup", "grpo"):
        write_json_atomic(folder / EXAMPLES_FOLDER / f"{stage}.json", _example(stage))
    optimizer = {"name": "adamw", "learning_rate": learning_rate, "clip_norm": 1.0}
    model = {"layers": 4, "width": 128, "heads": 4}
    write_json_atomic(
        folder / "config.json", {"seed": seed, "model": model, "optimizer": optimizer}
    )
    versions = {"python": "3.12.4", "jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8"}
    environment = {"config_hash": f"{seed:08x}c0ffee", "versions": versions, "devices": ["cpu:0"]}
    write_json_atomic(folder / "run.json", environment)
    if complete:
        stages = {
            "warmup": {"steps": warmup, "loss": 0.35},
            "grpo": {"steps": steps, "reward": top},
        }
        figures = {"heldout_accuracy_before": 0.283, "heldout_accuracy_after": round(top, 3)}
        summary = {**figures, "wall_seconds": 301.4, "seed": seed, "stages": stages}
        write_json_atomic(folder / "summary.json", summary)
    return folder


def _seconds(online: bool, step: int, rng: np.random.Generator) -> dict:
    compile_seconds = 14.0 if step == 1 else 0.0
    if not online:
        return {"update": 0.21 + rng.gamma(2, 0.01) + compile_seconds, "other": 0.01}
    return {
        "sampling": 0.9 + rng.gamma(2, 0.05) + compile_seconds,
        "scoring": 0.12 + rng.gamma(2, 0.02),
        "update": 0.55 + rng.gamma(2, 0.02) + compile_seconds,
        "evaluation": 1.1 if step % 20 == 0 else 0.0,
        "other": 0.03,
    }
