"""Coupled-GRPO of a Dream-7B shape on 64 chips of v5e, to be planned; no weights are named.

    python launch/plan.py --config=configs/pods/dream_7b_v5e.py

The method's values are those of DiffuCoder (arXiv:2506.20639), in configs/rlvr/diffusion.py; its
code reads problems with tests (configs/examples/python_tests.py). Data and checkpoint are named as
in llada_8b_v5e.py.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

TOPOLOGY = "v5e:8x8"
METHOD = "coupled_grpo"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    del arg
    c = runpy.run_path(str(Path(__file__).parents[1] / "rlvr/diffusion.py"))["get_config"](METHOD)
    c.name = "dream-7b-coupled-grpo"
    c.model = dict(preset="dream_7b", dtype="bfloat16", remat="full")
    c.mesh = dict(data=1, fsdp=-1, tensor=4)
    c.sampler.weights = "bfloat16"
    # Two rows for each group of four chips.
    c.rl["batch"]["sequences_per_micro_batch"] = 32
    return c
