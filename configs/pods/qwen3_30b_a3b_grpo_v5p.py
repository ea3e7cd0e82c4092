"""GRPO of a Qwen3-30B-A3B shape on 64 chips of v5p, to be planned; no weights are named.

python launch/plan.py --config=configs/pods/qwen3_30b_a3b_grpo_v5p.py
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

TOPOLOGY = "v5p:4x4x4"
DENSE = runpy.run_path(str(Path(__file__).with_name("qwen3_8b_grpo_v5e.py")))


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    c = DENSE["get_config"](arg)
    c.name = "qwen3-30b-a3b-grpo"
    c.model.preset = "qwen3_30b_a3b"
    c.mesh.tensor = 4
    c.grpo.batch.sequences_per_micro_batch = 256
    # Without narrower loops for the last rows, of which each would be compiled once more.
    c.sampler.shrink = ()
    c.sampler.mesh = dict(data=16, tensor=4)
    return c
