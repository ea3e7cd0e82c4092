"""Methods that learn from reference answers on the same problems: `:METHOD`.

How to run them: base.py. The policy is to write `\\boxed{` before its answer: there its chain of
thought ends, and the likelihood that it gives to the reference answer is what it learns from. The
verifier only measures, but for jepo_rloo.

The paper (arXiv:2503.19618, app. B) trains Llama-3 8B and 70B instruct on MATH, 64 prompts x 4
samples, one update a step, at temperature 1, with a KL of weight 1e-3 and a format penalty of 10;
it gives no learning rate. For long answers such as proofs `rl.objective.supervised_weight` is 1,
and its phrase is "the final answer is".
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

FORM = dict(answer_phrase="\\boxed{", answer_end="}")

MATH = dict(
    # 0 to 1e-2 for answers as short as those of MATH.
    objective=dict(**FORM, supervised_weight=0.01),
    batch=dict(prompts_per_step=64, samples_per_prompt=4, sequences_per_micro_batch=32),
    data=dict(max_answer_tokens=64),
)

METHODS = {
    "jepo_single": MATH,
    "jepo": MATH,
    "jepo_rloo": MATH,
    # Python text, cut into lines by launch/segments.py. Sizes and rates of
    # arXiv:2509.25810 were not seen; the cost of 0.05 is its default.
    "ra3": dict(data=dict(max_answer_tokens=64)),
    # Its sizes (arXiv:2505.21493) were not seen.
    "verifree": dict(objective=FORM, data=dict(max_answer_tokens=64)),
}

get_config = functools.partial(BASE["build"], METHODS)
