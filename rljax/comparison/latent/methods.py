"""The config of each method, whose stages start from one warmed-up policy.

All methods that sample take 128 completions a step, and 128 rows into an update. What learns from
kept samples draws as many as the others do in half of their steps, twice.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rljax.comparison.latent.problems import (
    ANSWER_TOKENS,
    CHAIN_TOKENS,
    HINT,
    HINT_TOKENS,
    PROMPT_TOKENS,
)

STEPS, HABIT_STEPS = 40, 100
# Rows of 128 tokens hold half as many long answers, which need more of them to learn the sums.
WARMUP_STEPS = {"short": 400, "long": 1000}
PROMPTS, SAMPLES = 32, 4  # of a step
# Of the paper: 0 to 1e-2 for short answers, 1 for long ones.
SUPERVISED = {"short": 0.01, "long": 1.0}

RATE = dict(learning_rate=3e-4, schedule="linear", warmup_updates=5, b2=0.95)

Stages = dict[str, dict[str, Any]]


def base_config(task: str, data: Path, seed: int) -> ConfigDict:
    """What all runs of a task share."""
    c = ConfigDict()
    c.name = f"latent-{task}"
    c.seed = seed
    c.model = dict(layers=2, width=96, heads=4, kv_heads=2, remat="none")
    c.tokenizer = dict(special_tokens=("<answer>", "</answer>"))
    c.data = dict(
        kind="jsonl",
        path=str(data / "train.jsonl"),
        heldout_path=str(data / "heldout.jsonl"),
        max_prompt_tokens=PROMPT_TOKENS,
        heldout_size=256,
    )
    c.scoring = dict(rewards=({"name": "exact_match", "options": {"tag": "answer"}},), workers=0)
    c.evaluation = dict(
        samples_per_prompt=0,
        max_new_tokens=_completion(task),
        answer_samples=SAMPLES,
        max_answer_tokens=ANSWER_TOKENS[task],
    )
    c.reporting = dict(writers=("jsonl",))
    return c


def warmup_config(task: str, data: Path) -> ConfigDict:
    """The warm-up, on worked demonstrations, then the habit of bare ones."""
    c = base_config(task, data, seed=0)
    c.stages = ("warmup", "habit")
    c.warmup = _demonstrations(data / "warmup.jsonl", WARMUP_STEPS[task], 2e-3)
    c.habit = _demonstrations(data / "habit.jsonl", HABIT_STEPS, 1e-3)
    return c


def method_config(task: str, method: str, data: Path, start: Path, seed: int) -> ConfigDict:
    """A method from the policy of a finished warm-up.

    Args:
        task: "short" or "long".
        method: of `METHODS`.
        data: the folder of `write_problems`.
        start: CHECKPOINTS/habit of the warm-up's run.
        seed: of the run.
    """
    c = base_config(task, data, seed)
    c.model = dict(c.model, init_from=str(start))
    stages = METHODS[method](task, data)
    c.stages = tuple(stages)
    for name, stage in stages.items():
        c[name] = stage
    return c


def _completion(task: str) -> int:
    return CHAIN_TOKENS + 1 + ANSWER_TOKENS[task]


def _sampling(task: str, method: str, **more: Any) -> dict[str, Any]:
    """A stage that samples; sections of `more` are laid over the common ones."""
    batch = dict(prompts_per_step=PROMPTS, samples_per_prompt=SAMPLES)
    stage = dict(
        method=method,
        steps=STEPS,
        batch=batch | {"sequences_per_micro_batch": PROMPTS * SAMPLES},
        sampling=dict(max_new_tokens=_completion(task)),
        optimizer=RATE,
    )
    return {**stage, **more}


def _evidence(task: str, method: str, **objective: Any) -> Stages:
    found = dict(kl_placement="none", **objective)
    tokens = dict(max_answer_tokens=ANSWER_TOKENS[task])
    # The chain alone is sampled: the reference answer follows.
    short = dict(max_new_tokens=CHAIN_TOKENS + 1)
    return {"latent": _sampling(task, method, objective=found, data=tokens, sampling=short)}


def _demonstrations(path: Path, steps: int, rate: float) -> dict[str, Any]:
    """A stage that learns demonstrations, packed."""
    return dict(
        method="sft",
        steps=steps,
        data=dict(source="jsonl", path=str(path), row_tokens=128),
        batch=dict(sequences_per_update=16),
        optimizer=dict(learning_rate=rate, schedule="linear", warmup_updates=20, b2=0.95),
    )


def _kept(task: str, **data: Any) -> dict[str, Any]:
    """A round of learning kept samples."""
    return dict(
        method="sft",
        steps=STEPS // 2,
        data=dict(
            source="sampled",
            sampled_prompts=PROMPTS * STEPS // 2,
            row_tokens=PROMPT_TOKENS + _completion(task),
            packed=False,
            **data,
        ),
        batch=dict(sequences_per_update=PROMPTS * SAMPLES, samples_per_prompt=SAMPLES),
        sampling=dict(max_new_tokens=_completion(task)),
        optimizer=RATE,
    )


def _star(task: str, data: Path) -> Stages:
    """Two rounds of one sample and a hint, both from the first policy."""
    first = _kept(task, keep="right", hint_pattern=HINT, max_context_tokens=HINT_TOKENS[task])
    first["batch"] = first["batch"] | {"samples_per_prompt": 1}
    again = first | {"start_from": "model", "models": {"teacher": {"start_from": "round1"}}}
    return {"round1": first, "round2": again}


def _raft(task: str, data: Path) -> Stages:
    best = _kept(task, keep="best", keep_most=1)
    return {"round1": best, "round2": best}


def _trice(task: str, data: Path) -> Stages:
    count = PROMPTS * SAMPLES
    batch = dict(prompts_per_step=count, samples_per_prompt=1, sequences_per_micro_batch=2 * count)
    objective, room = dict(context_pattern=HINT), dict(max_context_tokens=HINT_TOKENS[task])
    return {"latent": _sampling(task, "trice", batch=batch, objective=objective, data=room)}


def _probability(task: str, data: Path) -> Stages:
    objective = dict(answer_reward="probability")
    tokens = dict(max_answer_tokens=ANSWER_TOKENS[task])
    return {"latent": _sampling(task, "rloo", objective=objective, data=tokens)}


METHODS: Mapping[str, Callable[[str, Path], Stages]] = {
    "jepo": lambda task, data: _evidence(task, "jepo", supervised_weight=SUPERVISED[task]),
    "jepo_unsupervised": lambda task, data: _evidence(task, "jepo", supervised_weight=0.0),
    "rloo": lambda task, data: {"latent": _sampling(task, "rloo")},
    "sft_direct": lambda task, data: {
        "latent": _demonstrations(data / "direct.jsonl", STEPS, RATE["learning_rate"])
    },
    "trice": _trice,
    "star": _star,
    "raft": _raft,
    "probability": _probability,
}
