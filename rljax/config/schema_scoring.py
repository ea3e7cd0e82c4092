"""The fields of config.scoring: the rewards, and how samples are scored."""

from rljax.config.fields import Field, Section

# Entries of a reward (rljax/rewards/member.py knows them all).
REWARD = Field(
    {},
    "{'name', 'weight', 'options', 'threshold', 'clip', 'gate', 'where', 'constraint', 'as', "
    "'heldout_of', 'right_at'}",
    items={
        "name": Field("", "of the reward"),
        "weight": Field(1.0, "factor in the total"),
        "options": Field({}, "keyword arguments of the reward"),
        "threshold": Field(None, "a lower value counts as 0", value_type=float),
        "clip": Field(
            (), "(least, largest) value that counts; (): any", items=Field(0.0, "a value")
        ),
        "gate": Field(
            "", "labels of other rewards, with commas, without which this one does not count"
        ),
        "where": Field({}, "field of the reference -> value, or values, with which it applies"),
        "heldout_of": Field(
            "", "label of a reward that is trained on: this one is logged beside it, and never is"
        ),
        "constraint": Field(
            False, "no summand: a sample satisfies it from right_at on, for methods that read it"
        ),
        "as": Field("", "its label in the metrics"),
        "right_at": Field(None, "the score of a right sample, or more", value_type=float),
    },
)

SCORING: Section = {
    "rewards": Field(
        ({"name": "reasoning_gym"},),
        "({'name', 'weight', ...}, ...); the first one that is no constraint judges",
        items=REWARD,
    ),
    "workers": Field(
        2,
        "scoring processes; 0 scores in the main process",
        minimum=0,
        maximum=1024,
        why="each is a process with an address space of its own",
    ),
    "timeout_seconds": Field(5.0, "per sample", above=0, maximum=86_400),
    "memory_mb": Field(
        4096,
        "address space of a scoring process; a sample that takes more has failed",
        minimum=512,
        maximum=2**24,
        why="an interpreter with its verifiers needs some",
    ),
    "failure_reward": Field(0.0, "reward of a sample whose verifier raised or timed out"),
    "failed_samples": Field(
        "failure_reward",
        "they get that reward, or are left_out of their groups, as where no reward applies",
        choices=("failure_reward", "left_out"),
    ),
    "max_failed_share": Field(
        0.5, "share of a step's samples above which the run stops", minimum=0, maximum=1
    ),
    "try_first": Field(True, "ask the rewards about the first problem before anything compiles"),
}
