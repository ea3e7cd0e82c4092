"""The main job with a sampler ahead: GRPO learns from samples of one step ago, and corrects for it.

The task, the network and the warm-ups are those of quickstart.py. While the trainer learns from one
step's samples, the sampler draws the next step's and the verifiers score them:

    python launch/train.py --config=configs/async_grpo.py

On one machine whose cores both sides share there is nothing to gain but the time that verifiers
wait (rljax/benchmarks/README.md); on devices of their own both sides compute at once:

    python launch/train.py --config=configs/async_grpo.py --config.asynchronous.sampler_devices=4
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

QUICKSTART = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))


def get_config() -> ConfigDict:
    """The config."""
    c = QUICKSTART["get_config"]()
    c.name = "async-grpo"
    # Truncated weights of the trainer's policy over the one that sampled, token by token. Without
    # a correction for older weights a run with max_staleness > 0 is refused.
    c.grpo.method = "tis"
    c.asynchronous = dict(
        # Samples of step s are of the weights after step s - 2: one step is drawn while another is
        # learned from. The sampler keeps as many copies of the weights.
        max_staleness=1,
        # The same weights in every run. "latest" takes the newest ones: less old, but their order
        # depends on timing, and is repeated by launch/train.py --replay=WORKDIR.
        schedule="fixed",
        # 0: both sides have the same devices in turn; N: the last N devices only sample.
        sampler_devices=0,
        # From device to device; "host" and "storage" give the same bits where that cannot be.
        transfer="direct",
    )
    return c
