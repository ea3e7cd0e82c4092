"""Self-play: Kuhn poker against oneself, from random weights.

The environment `kuhn` (rljax/environments/kuhn.py) deals two of three cards; the policy plays both
sides, each behind a prompt of its own. The warm-up shows games with random moves, which teaches how
to say one. SPIRAL (arXiv:2506.24119) then learns from the chips that are won, against a moving
average of each side's. Best play is worth -1/18 to the first player.

    python launch/train.py --config=configs/quickstart_self_play.py
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    c = ConfigDict()
    c.name = "quickstart_self_play"
    c.stages = ("warmup", "spiral")
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2, remat="none")
    c.tokenizer = dict(
        special_tokens=("[check]", "[bet]", "[fold]", "[call]"),
        # A turn is a line.
        chat_turn="{role}: {content}\n",
        chat_generation_prompt="assistant: ",
    )
    c.environment = dict(name="kuhn", turn_tokens=4, turns=4)
    c.data = dict(kind="environment", max_prompt_tokens=128)
    c.scoring = dict(rewards=(dict(name="environment"),))
    c.evaluation = dict(max_new_tokens=64, samples_per_prompt=0)
    c.warmup = dict(
        method="sft",
        steps=100,
        data=dict(row_tokens=192),
        batch=dict(sequences_per_update=16),
        optimizer=dict(learning_rate=2e-3, warmup_updates=20, b2=0.95),
    )
    c.spiral = dict(
        method="spiral",
        steps=40,
        batch=dict(prompts_per_step=16, samples_per_prompt=8),
        sampling=dict(max_new_tokens=64),
        optimizer=dict(learning_rate=3e-4, warmup_updates=5, b2=0.95),
    )
    return c
