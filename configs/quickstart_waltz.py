"""Two agents, one policy: WaltzRL's toy (arXiv:2510.08240), from random weights.

The environment `waltz` (rljax/environments/waltz.py) hides whether a prompt is harmful. The
conversation agent sees a sign that is right 7 times of 10, and complies or refuses; the feedback
agent sees one that is right 19 times of 20, and may ask for the other answer. The warm-up shows
random answers, and labels that are right two times of three. A first stage trains the feedback
agent alone, a second one both.
`episode/unsafe` and `episode/overrefused` are the two kinds of mistakes in final answers.

    python launch/train.py --config=configs/quickstart_waltz.py
"""

from ml_collections import ConfigDict


def _stage(steps: int) -> dict:
    return dict(
        method="waltzrl",
        steps=steps,
        batch=dict(prompts_per_step=32, samples_per_prompt=8, sequences_per_micro_batch=64),
        sampling=dict(max_new_tokens=40),
        optimizer=dict(learning_rate=5e-4, warmup_updates=5, b2=0.95),
    )


def get_config() -> ConfigDict:
    """The config."""
    c = ConfigDict()
    c.name = "quickstart_waltz"
    c.stages = ("warmup", "feedback", "both")
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2, remat="none")
    labels = (("false", "false"), ("true", "false"), ("false", "true"))
    c.tokenizer = dict(
        # An answer, or a whole feedback, is one token.
        special_tokens=(
            "comply",
            "refuse",
            *(
                f'{{"unsafe": {unsafe}, "overrefuse": {refused}, "feedback": "other"}}'
                for unsafe, refused in labels
            ),
        ),
        # A turn is a line.
        chat_turn="{role}: {content}\n",
        chat_generation_prompt="assistant: ",
    )
    c.environment = dict(
        name="waltz",
        options=dict(asked="Judge"),
        turn_tokens=3,
        turn_credit=True,
        trained_roles=dict(feedback=("feedback",)),
    )
    c.data = dict(kind="environment", max_prompt_tokens=64)
    c.scoring = dict(rewards=(dict(name="environment"),))
    c.evaluation = dict(max_new_tokens=40, samples_per_prompt=0)
    c.warmup = dict(
        method="sft",
        steps=300,
        data=dict(row_tokens=96),
        batch=dict(sequences_per_update=32),
        optimizer=dict(learning_rate=2e-3, warmup_updates=20, b2=0.95),
    )
    c.feedback = _stage(60)
    c.both = _stage(60)
    return c
