"""JEPO: reference answers, no verifier; on one CPU core in 10 minutes.

The same problems, network and warm-ups as quickstart.py. Then the policy samples chains of thought,
and the likelihood that it gives to the reference answer after each is all that it learns from; the
verifier only measures it on held-out problems. From at most 0.40 after the warm-up, expect a
held-out greedy accuracy of at least 0.80:

    python launch/train.py --config=configs/quickstart_jepo.py
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

QUICKSTART = runpy.run_path(str(Path(__file__).with_name("quickstart.py")))


def get_config() -> ConfigDict:
    """The config."""
    c = QUICKSTART["get_config"]()
    c.name = "quickstart-jepo"
    c.stages = ("warmup", "habit", "jepo")
    del c.grpo
    c.jepo = dict(
        method="jepo",
        steps=40,
        reference_kl=True,
        # Short answers: the paper weighs their own likelihood term by 0 to 0.01.
        objective=dict(kl_placement="none", supervised_weight=0.01),
        batch=dict(prompts_per_step=32, samples_per_prompt=8, sequences_per_micro_batch=16),
        sampling=dict(max_new_tokens=44),
        data=dict(max_answer_tokens=8),
        optimizer=dict(learning_rate=3e-4, schedule="linear", warmup_updates=5, b2=0.95),
    )
    return c
