"""Methods that choose their problems, or drop the groups that teach nothing: `:METHOD`.

How to run them and where numbers without a comment come from: base.py. Any other method follows a
curriculum too: --config.rl.objective.curriculum=vade, say (rljax/objectives/curricula/).
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch = BASE["batch"]

ADA = dict(steps=600, batch=batch(512, 4, update=128), sampling=dict(max_new_tokens=2048))

# Qwen2.5-Math-1.5B and 7B on NuminaMath (arXiv:2505.02391): 1024 rows, mini-batches of 256; eight
# pilot samples of each prompt, estimated anew in every step, where the script does so once in about
# nine updates.
GVM = dict(batch=batch(128, 8, update=32))

METHODS = {
    # Qwen3 and Llama-3.2 on MATH (arXiv:2510.01135): 8192 samples a step, one update; contexts of
    # 4096. The optimizer of the value model was not seen: verl's default of a critic.
    "pcl": dict(batch=batch(512, 16), critic=dict(learning_rate=1e-5)),
    # Qwen2.5-VL (arXiv:2511.18902); other numbers than G = 8 were not seen.
    "vade": dict(),
    # Qwen2.5 and Llama-3.2 on 7-8 thousand problems (arXiv:2506.02281, the version on TRL): 16
    # samples a step, 8 of a prompt, subsets of 256 problems; Adam's b2 0.99, gradients clipped at
    # 0.1. The columns are those of `launch/select.py angle`.
    "gain_rl": dict(
        max_prompt_tokens=512,
        difficulty_column="angle_signal",
        angle_column="angle",
        batch=batch(16, 8),
        sampling=dict(max_new_tokens=512),
        optimizer=dict(weight_decay=0.1, b2=0.99, clip_norm=0.1),
    ),
    # Qwen2.5-7B-1M on puzzles of 12 sources (arXiv:2504.09710), 4 updates a step.
    "dump": dict(
        max_prompt_tokens=4096,
        source_column="source",
        batch=batch(128, 16, update=32),
        sampling=dict(max_new_tokens=20480),
    ),
    # Qwen2.5-Math (arXiv:2506.02177): 256 prompts of 8 samples, no KL.
    "greso": dict(batch=batch(256, 8), sampling=dict(max_new_tokens=2560)),
    # Qwen2.5-3B and 7B (arXiv:2504.03380); sizes were not seen.
    "grpo_without_ties": dict(batch=batch(128, 8, update=64)),
    "balanced_filter": dict(),
    # Qwen2.5-Math-1.5B and 7B on OpenR1-Math (arXiv:2510.04996): 512 prompts, 4 updates a step, at
    # most 4 rounds of 8 samples. Its entropy bonus of 1e-4 is 0 in the script.
    "reinforce_ada": ADA,
    "reinforce_ada_positive": ADA,
    "gvm_raft_plus_plus": GVM,
    "gvm_grpo": GVM,
    # Qwen2.5-Math-7B on DeepScaleR (arXiv:2506.09016, withdrawn): 16 prompts of 4 + 20 samples, of
    # 64 that are asked; here as many rounds of 16. Its script compares by leave-one-out.
    "speed": dict(objective=dict(filter_rounds=4), batch=batch(16, 24)),
}

get_config = functools.partial(BASE["build"], METHODS)
