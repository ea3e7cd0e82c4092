"""A LLaDA-8B shape on 64 chips of v5e, to be planned: `:spg`, `:bgpo` or `:vrpo`.

    python launch/plan.py --config=configs/pods/llada_8b_v5e.py:spg

What the papers say of a method is in configs/rlvr/diffusion.py and configs/preference.py; here are
the model, the mesh and the sizes of a pass. To train, name a checkpoint and its tokenizer, and the
data: problems with `prompt` and `reference`, pairs with `prompt`, `chosen` and `rejected`, as text
or as chat messages:

    --config.model.init_from=FOLDER --config.tokenizer.path=FOLDER --config.data.path=TRAIN.jsonl
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

TOPOLOGY = "v5e:8x8"
CONFIGS = Path(__file__).parents[1]

# Method -> its file, its stage, and the sequences of a pass: a few for each group of four chips.
METHODS = {
    "spg": ("rlvr/diffusion.py", "rl", 48),
    "bgpo": ("rlvr/diffusion.py", "rl", 32),
    "vrpo": ("preference.py", "preference", 32),
}


def get_config(arg: str = "") -> ConfigDict:
    """The config of a method, spg by default."""
    arg = arg or "spg"
    if arg not in METHODS:
        raise ValueError(f"Unknown method {arg!r} (--config=FILE:METHOD); here: {list(METHODS)}.")
    file, stage, each_pass = METHODS[arg]
    c = runpy.run_path(str(CONFIGS / file))["get_config"](arg)
    c.name = f"llada-8b-{arg}"
    c.model = dict(preset="llada_8b", dtype="bfloat16", remat="full")
    c.mesh = dict(data=1, fsdp=-1, tensor=4)
    tokens = c.evaluation["max_new_tokens"]
    c.sampler = dict(weights="bfloat16", diffusion=dict(block_tokens=32, steps=tokens // 2))
    c[stage]["batch"]["sequences_per_micro_batch"] = each_pass
    return c
