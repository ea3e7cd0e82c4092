"""GRPO of a Qwen3-8B shape on 64 chips of v6e, to be planned; no weights are named.

The run of qwen3_8b_grpo_v5e.py on chips of twice the memory:

python launch/plan.py --config=configs/pods/qwen3_8b_grpo_v6e.py
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

TOPOLOGY = "v6e:8x8"
ON_V5E = runpy.run_path(str(Path(__file__).with_name("qwen3_8b_grpo_v5e.py")))


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    c = ON_V5E["get_config"](arg)
    # By the formulas tensor=2 is as fast. Compiled, gathering is split into small steps there,
    # which read and write sums again and again: an update waits 1.5 s for memory, and here 0.4 s.
    c.mesh.tensor = 1
    c.model.remat = "full"
    c.grpo.batch.sequences_per_micro_batch = 256
    return c
