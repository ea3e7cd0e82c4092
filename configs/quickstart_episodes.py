"""Episodes with a tool: translation into a made-up language, with a dictionary to ask.

The environment `dictionary` (rljax/environments/dictionary.py) follows arXiv:2508.19481: sentences
of two words, a dictionary that knows four words of five, at most three replies. The warm-up shows
look-ups of random words, which teaches how to ask and not when. GRPO on whole episodes, where the
dictionary's answers are read and never learned, finds out which words are worth asking for.

    python launch/train.py --config=configs/quickstart_episodes.py

With seed 0 held-out accuracy goes from 0.80 behind the warm-up to 0.98. By then the policy asks for
nothing: it has learned the forty words, and the dictionary does not know all of them.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    c = ConfigDict()
    c.name = "quickstart_episodes"
    c.stages = ("warmup", "grpo")
    c.model = dict(layers=4, width=128, heads=4, kv_heads=2, remat="none")
    c.tokenizer = dict(
        special_tokens=("<answer>", "</answer>", "<query>", "</query>"),
        # A turn is a line.
        chat_turn="{role}: {content}\n",
        chat_generation_prompt="assistant: ",
    )
    c.environment = dict(name="dictionary", options=dict(words=2, vocabulary=40), turns=3)
    c.data = dict(kind="environment", max_prompt_tokens=32)
    c.scoring = dict(rewards=(dict(name="environment"),))
    c.evaluation = dict(max_new_tokens=112)
    c.warmup = dict(
        method="sft",
        steps=200,
        data=dict(row_tokens=160),
        batch=dict(sequences_per_update=16),
        optimizer=dict(learning_rate=2e-3, warmup_updates=20, b2=0.95),
    )
    c.grpo = dict(
        method="grpo",
        steps=30,
        objective=dict(kl_placement="none", aggregation="token_mean"),
        batch=dict(
            prompts_per_step=16,
            samples_per_prompt=8,
            sequences_per_update=64,
            sequences_per_micro_batch=16,
        ),
        # Replies and the dictionary's answers together.
        sampling=dict(max_new_tokens=112),
        optimizer=dict(learning_rate=3e-4, schedule="linear", warmup_updates=10, b2=0.95),
    )
    return c
