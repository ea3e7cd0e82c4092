"""Policy gradients of masked diffusion models, on LLaDA-8B-Instruct: `:METHOD`.

FOLDER is a checkpoint that sees both ways (LLaDA, Dream). A causal one is made such by
`--config.model.convert=masked_diffusion`, and then needs a supervised stage with method llada_sft
before anything else. The rest, and where numbers without a comment come from, is in base.py:

    python launch/train.py --config=configs/rlvr/diffusion.py:spg \
        --config.model.init_from=FOLDER --config.tokenizer.path=FOLDER \
        --config.data.path=TRAIN.jsonl --config.data.heldout_path=HELDOUT.jsonl

Without FOLDER a small network of that kind learns the problems of this folder, and learns little:

    python launch/train.py --config=configs/rlvr/diffusion.py:spg,smoke \
        --config.data.max_prompt_tokens=128 --config.evaluation.samples_per_prompt=0
"""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch = BASE["batch"]

# d1 (arXiv:2504.12216, its script) and all that compare with it: 96 completions a step, prompts of
# 200 tokens, 256 tokens in 128 steps and blocks of 32, temperature 0.9, AdamW with b2 0.99.
_OPTIMIZER = dict(learning_rate=3e-6, warmup_updates=0, b2=0.99, weight_decay=0.1, clip_norm=0.2)
_SAMPLING = dict(max_new_tokens=256, temperature=0.9)


def d1(epochs: int, **values: Any) -> dict[str, Any]:
    """What d1's script says, with so many updates on the samples of a step."""
    sizes = batch(16, 6, each_pass=1) | dict(epochs_per_step=epochs)
    return dict(
        max_prompt_tokens=200,
        batch=sizes,
        sampling=_SAMPLING,
        optimizer=_OPTIMIZER,
        **values,
    )


METHODS: Mapping[str, Mapping[str, Any]] = {
    # GSM8K (arXiv:2510.09541, appendix): 6000 steps of 4 updates; upper_power is 1.0 on Sudoku. The
    # authors train adapters on a 4-bit base: model.lora of rank 128, alpha 64 and base nf4.
    "spg": d1(4, steps=6000, objective=dict(mask_block=32)),
    # Mathematics (arXiv:2510.11683, table 5): on-policy. 32 draws on Sudoku.
    "bgpo": dict(
        batch=batch(16, 8, each_pass=1),
        sampling=dict(max_new_tokens=512),
        optimizer=dict(learning_rate=5e-7),
    ),
    # 12 updates on GSM8K and MATH, 8 on Countdown and Sudoku.
    "diffu_grpo": d1(12),
    # As d1; the code of arXiv:2507.08838 takes 12 updates on GSM8K, 8 on Sudoku.
    "wd1": d1(12),
    # As SPG's tables run it, with 4 updates; MMaDA itself trains with 5e-5 and 1280 samples.
    "unigrpo": d1(4),
    # Code (arXiv:2506.20639 and its README): 10 samples, 2 updates, 256 steps for 256 tokens.
    "coupled_grpo": dict(
        batch=batch(16, 10, each_pass=1) | dict(epochs_per_step=2),
        sampling=dict(max_new_tokens=256),
        optimizer=dict(schedule="cosine", end_fraction=0.1),
    ),
    # Sudoku (the script of arXiv:2512.03759): 8 updates.
    "espo": d1(8),
    # LLaDA-8B-Instruct (the pull request of NVIDIA's NeMo-RL that has it): 12 updates, adapters of
    # rank 128 and alpha 64; the paper's rates are 5e-7 to 1e-6.
    "gdpo": d1(12) | dict(optimizer=_OPTIMIZER | dict(learning_rate=3e-7)),
    # LLaDA (the authors' config): 32 prompts x 8 samples, blocks of 32, 8 steps to a pass, one
    # update a step, at 1e-6.
    "tracerl": dict(
        batch=batch(32, 8, each_pass=1),
        sampling=dict(max_new_tokens=512),
        objective=dict(trajectory_shrink=8),
    ),
    # The same with the critic of the TraDo configs, at 5e-6 and trained in every step.
    "tracerl_value": dict(
        batch=batch(32, 8, each_pass=1),
        sampling=dict(max_new_tokens=512),
        objective=dict(trajectory_shrink=8),
        critic=dict(learning_rate=5e-6),
    ),
}

# Tokens that a denoising step fills. DiffuCoder and TraceRL fill one.
TOKENS_PER_STEP = {"coupled_grpo": 1, "tracerl": 1, "tracerl_value": 1}


def get_config(arg: str = "") -> ConfigDict:
    """The config of a method, spg by default."""
    arg = arg or "spg"
    c = BASE["build"](METHODS, arg)
    c.model.causal = False
    steps = c.rl["sampling"]["max_new_tokens"] // TOKENS_PER_STEP.get(arg, 2)
    c.sampler = dict(diffusion=dict(block_tokens=32, steps=steps))
    return c
