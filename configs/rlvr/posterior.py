"""Methods that learn right samples as the posterior weighs them, on the same problems: `:METHOD`.

How to run them: base.py. The paper of TRICE (arXiv:2312.02179) tunes a soft prompt of a PaLM-2
model on GSM8K; its sizes and rates were not seen. A chain begins with a sample of the prompt that
shows the answer, which is dropped before anything is learned.
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

CHAIN = dict(
    objective=dict(context_pattern="{prompt}\nHint: the answer is {context}.\n"),
    batch=dict(prompts_per_step=256, samples_per_prompt=1, sequences_per_micro_batch=64),
    data=dict(max_context_tokens=64),
)

METHODS = {
    "trice": CHAIN,
    "trice_basic": CHAIN,
    # Four particles, as in the paper's comparison.
    "posterior_fresh": dict(
        batch=dict(prompts_per_step=128, samples_per_prompt=4, sequences_per_micro_batch=32)
    ),
}

get_config = functools.partial(BASE["build"], METHODS)
