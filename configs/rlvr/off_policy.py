"""Methods for samples that the policy did not draw itself, demonstrations included: `:METHOD`.

How to run them and where numbers without a comment come from: base.py.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch, TWO_UPDATES = BASE["batch"], BASE["TWO_UPDATES"]

# Qwen2.5-Math-7B on OpenR1-Math-46k-8192 (arXiv:2509.04419, for LUFFY too). Completions may be as
# long as the longest demonstration.
DEMONSTRATIONS = dict(steps=500, sampling=dict(max_new_tokens=8192))

METHODS = {
    "tis": dict(batch=TWO_UPDATES),
    "mis": dict(batch=TWO_UPDATES),
    "icepop": dict(batch=TWO_UPDATES),
    "geo_rs": dict(batch=TWO_UPDATES),
    # rho is 1 + clip_high; the paper takes it from 2 to 10 (arXiv:2505.24034).
    "aipo": dict(batch=TWO_UPDATES),
    # Qwen2.5-7B on 17k problems (arXiv:2509.19128): 1024 samples an update, 1000 of them. The
    # optimizer's values are defaults of the code.
    "pipeline_rl": dict(
        steps=1000,
        optimizer=dict(schedule="cosine", warmup_updates=50, weight_decay=0.01, clip_norm=0.3),
    ),
    # DeepSeek-R1-Distill-Qwen (arXiv:2505.24298): 4 updates a step, 0.1 % of all are warm-up. Its
    # rewards of 5 and -5 are whitened, so that 1 and 0 do as well.
    "areal": dict(
        batch=batch(512, 16, update=128),
        sampling=dict(max_new_tokens=27648),
        optimizer=dict(
            learning_rate=2e-5, warmup_updates=1, b2=0.95, epsilon=1e-5, weight_decay=0.05
        ),
    ),
    "prime_rl": dict(batch=TWO_UPDATES),
    "prime_rl_ipo": dict(batch=TWO_UPDATES),
    "m2po": dict(batch=TWO_UPDATES),
    # The threshold of a prompt that counts as solved is 0 for Qwen, 2/8 for Llama-3.1-8B. The
    # script clips gradients at 80, which sums over rows; this loss is a mean over them.
    "hpt": dict(
        batch=batch(128, 8, update=64, demonstrations=1),
        optimizer=dict(learning_rate=5e-6),
        **DEMONSTRATIONS,
    ),
    # One of the 8 rows of a prompt is the demonstration.
    "luffy": dict(batch=batch(128, 7, update=64, demonstrations=1), **DEMONSTRATIONS),
    # As luffy, in the same code (arXiv:2509.04419).
    "srft": dict(batch=batch(128, 7, update=64, demonstrations=1), **DEMONSTRATIONS),
    # 16 samples of each prompt (arXiv:2506.13923); other numbers were not seen. Hints are texts of
    # the column `hint`, written offline, without the answer in them.
    "guide_grpo": dict(batch=batch(128, 16, demonstrations=16), hint_column="hint"),
    # Qwen2.5-Math-1.5B and 7B on DeepScaleR (arXiv:2510.19807): mini-batches of 64, 10 epochs.
    "scaf_grpo": dict(
        max_prompt_tokens=2048,
        hint_column="hint",
        batch=batch(256, 8, update=64),
        data=dict(max_context_tokens=2048),
        sampling=dict(max_new_tokens=2048),
    ),
}

get_config = functools.partial(BASE["build"], METHODS)
