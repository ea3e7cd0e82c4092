"""The config of each method, from one supervised policy that sees both ways.

All methods take 128 samples a step and one update on them, at one rate: what papers give for eight
billion parameters does not carry over. What hides tokens by blocks has those of the sampler.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

STEPS = 100
BLOCK = 4
STEP_TOKENS = 2  # filled in a denoising step


class Task(NamedTuple):
    """A task of the exact generators (rljax/tasks/symbols/)."""

    entry: Mapping[str, Any]
    prompt_tokens: int
    canvas: int  # tokens, a multiple of the block
    warmup_steps: int
    rate: float  # of the methods


TASKS: Mapping[str, Task] = {
    # Mini-countdown: numbers 1 .. 9, plus and minus; 0.1 for the right numbers.
    "countdown": Task(
        dict(name="countdown3", operators="+-", max_target=27, partial=0.1), 8, 8, 600, 3e-4
    ),
    # 200 solutions for training, 88 held out; the histogram of SPG's test set.
    "sudoku": Task(dict(name="sudoku4"), 16, 20, 1200, 3e-5),
}

_SPG = dict(mask_block=BLOCK, context_mask_rate=0.0)
_ONE_STEP = dict(context_mask_rate=0.0)  # a prompt of a few symbols has none to spare

# Method -> its row in the method table, and what it changes.
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "spg": ("spg", _SPG),
    "spg_elbo": ("spg", _SPG | {"negative_bound": "lower"}),
    "spg_eubo": ("spg", _SPG | {"negative_bound": "upper"}),
    "bgpo": ("bgpo", dict(mask_draws=8)),
    "diffu_grpo": ("diffu_grpo", _ONE_STEP),
    "wd1": ("wd1", _ONE_STEP),
    "unigrpo": ("unigrpo", {}),
    "coupled_grpo": ("coupled_grpo", {}),
    "espo": ("espo", {}),
}


def base_config(task: str, seed: int) -> ConfigDict:
    """What all runs of a task share."""
    chosen = TASKS[task]
    c = ConfigDict()
    c.name = f"diffusion-{task}"
    c.seed = seed
    c.model = dict(layers=3, width=96, heads=4, kv_heads=4, causal=False)
    c.tokenizer = dict(path="symbols")
    c.data = dict(
        kind="symbols",
        tasks=(dict(chosen.entry),),
        max_prompt_tokens=chosen.prompt_tokens,
        train_size=4096,
        heldout_size=256,
    )
    c.scoring = dict(rewards=(dict(name="symbols"),), workers=0)
    steps = chosen.canvas // STEP_TOKENS
    c.sampler = dict(diffusion=dict(block_tokens=BLOCK, steps=steps))
    c.evaluation = dict(max_new_tokens=chosen.canvas, samples_per_prompt=4)
    c.reporting = dict(writers=("jsonl",))
    return c


def warmup_config(task: str, _: Path) -> ConfigDict:
    """The supervised stage: worked solutions with hidden tokens."""
    chosen = TASKS[task]
    c = base_config(task, seed=0)
    c.stages = ("warmup",)
    rows = chosen.prompt_tokens + chosen.canvas
    c.warmup = dict(
        method="llada_sft",
        steps=chosen.warmup_steps,
        data=dict(row_tokens=rows, canvas_tokens=chosen.canvas),
        batch=dict(sequences_per_update=64),
        optimizer=dict(learning_rate=1e-3, warmup_updates=20, b2=0.95),
    )
    return c


def method_config(task: str, method: str, _: Path, start: Path, seed: int) -> ConfigDict:
    """A method from the supervised policy.

    Args:
        task: of `TASKS`.
        method: of `METHODS`.
        start: CHECKPOINTS/warmup of the warm-up's run.
        seed: of the run.
    """
    row, objective = METHODS[method]
    c = base_config(task, seed)
    c.model = dict(c.model, init_from=str(start))
    c.stages = ("rl",)
    c.rl = dict(
        method=row,
        steps=STEPS,
        objective=dict(objective),
        batch=dict(prompts_per_step=16, samples_per_prompt=8),
        sampling=dict(max_new_tokens=TASKS[task].canvas),
        optimizer=dict(learning_rate=TASKS[task].rate, warmup_updates=20, b2=0.95),
    )
    return c
