"""Evolution strategies on the same problems, without a gradient: `:METHOD`.

How to run them and where numbers without a comment come from: base.py.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

METHODS = {
    # The script of arXiv:2511.16652: 8 members for each prompt, 1024 completions a step, greedy, of
    # 200 tokens; plain SGD with a rate of 1, whose step does not depend on the number of members.
    "eggroll": dict(
        batch=dict(prompts_per_step=128, samples_per_prompt=8),
        sampling=dict(max_new_tokens=200),
        optimizer=dict(name="sgd", learning_rate=1.0, warmup_updates=0, clip_norm=0.0),
    ),
}

get_config = functools.partial(BASE["build"], METHODS)
