"""Methods for episodes of several players, which one policy plays: `:METHOD`.

How to run them and where numbers without a comment come from: base.py. The environments make their
problems themselves. Without FOLDER a chat template is needed:

    python launch/train.py --config=configs/rlvr/agents.py:spiral,smoke \
        --config.tokenizer.chat_turn='{role}: {content}
    ' --config.tokenizer.chat_generation_prompt='assistant: ' \
        --config.rl.sampling.max_new_tokens=64 --config.evaluation.max_new_tokens=64 \
        --config.environment.turn_tokens=8
"""

import functools
import runpy
from pathlib import Path

BASE = runpy.run_path(str(Path(__file__).with_name("base.py")))

batch = BASE["batch"]

METHODS = {
    # Qwen3-4B-Base on Kuhn poker (the script of arXiv:2506.24119): 128 games a step, each of its
    # own deal, used twice; replies of 4096 tokens, of which a player writes two at most. How its
    # loss is averaged was not seen.
    "spiral": dict(
        environment=dict(name="kuhn", turn_tokens=4096),
        batch=batch(128, 2) | dict(epochs_per_step=2),
        sampling=dict(max_new_tokens=8448),
        optimizer=dict(warmup_updates=0),
    ),
    # The example of prime-rl's documentation: four problems of a task, four solvers each.
    "hierarchical_grpo": dict(
        environment=dict(name="proposals", episode_roles=("solver",)),
        batch=batch(16, 20),
    ),
    # The paper's sizes and the weights of its rewards were not seen. The agents are told apart by
    # their prompts alone. A first stage that trains the feedback agent and not the other:
    # environment.trained_roles.
    "waltzrl": dict(
        environment=dict(name="waltz", turn_credit=True),
        batch=batch(64, 8),
    ),
}

get_config = functools.partial(BASE["build"], METHODS)
