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
    c.grpo.batch.sequences_per_micro_batch = 128
    return c
