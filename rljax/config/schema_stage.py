"""The fields of a stage.

A default of None means "what the method or the family says"; such a field may be set only where
the chosen method reads it (config/resolve.py).
"""

from rljax.config.fields import MOST_ROWS, MOST_TOKENS, Field, Section
from rljax.config.schema_stage_data import STAGE_DATA
from rljax.data.step_ends import STEP_SCORE_REDUCTIONS
from rljax.models.config import CHOICES, LIMITS
from rljax.registry import FAMILIES, field_doc, objective_fields
from rljax.rewards.judges.questions import QUESTIONS as JUDGES

TOKEN = Field(0, "a token id", minimum=0, maximum=LIMITS["vocab_size"][1])

OPTIMIZER: Section = {
    "name": Field("adamw", "the rule", choices=("adamw", "lion", "rmsprop", "sgd")),
    "learning_rate": Field(1e-3, "peak", minimum=0),
    "schedule": Field(
        "constant", "over the updates of the stage", choices=("constant", "linear", "cosine")
    ),
    "warmup_updates": Field(0, "updates of linear warm-up", minimum=0),
    "clip_norm": Field(1.0, "global gradient norm; 0 never clips", minimum=0),
    "b1": Field(None, "adamw, lion", value_type=float, minimum=0, below=1),
    "b2": Field(None, "adamw, lion", value_type=float, minimum=0, below=1),
    "epsilon": Field(None, "adamw, rmsprop", value_type=float, above=0, maximum=1),
    "weight_decay": Field(None, "adamw, lion", value_type=float, minimum=0),
    "moment_dtype": Field(
        None,
        "adamw, lion: of the first moment",
        value_type=str,
        choices=("float32", "bfloat16"),
    ),
    "decay": Field(
        None, "rmsprop: of the squared gradient's average", value_type=float, minimum=0, below=1
    ),
    "momentum": Field(None, "sgd", value_type=float, minimum=0, below=1),
    "end_fraction": Field(
        None, "linear, cosine: last learning rate / peak", value_type=float, minimum=0, maximum=1
    ),
}

BATCH: Section = {
    "prompts_per_step": Field(
        None, "prompts sampled in a step", value_type=int, minimum=1, maximum=MOST_ROWS
    ),
    "samples_per_prompt": Field(
        None,
        "G, samples of each prompt; of a file with several completions of a prompt: the most",
        value_type=int,
        minimum=1,
        maximum=MOST_ROWS,
    ),
    "epochs_per_step": Field(
        None, "times a step's samples are used", value_type=int, minimum=1, maximum=10_000
    ),
    "sequences_per_update": Field(
        None,
        "sequences (packed rows; a pair is two) in one optimizer update",
        value_type=int,
        minimum=1,
        maximum=MOST_ROWS,
    ),
    "sequences_per_micro_batch": Field(
        None,
        "sequences in one forward and backward pass",
        value_type=int,
        minimum=1,
        maximum=MOST_ROWS,
    ),
    "share_prompts": Field(
        None,
        "one row holds a prompt and all its samples (a pair: both completions), so that the prompt "
        "is computed once; by default where whole groups fit into updates, micro-batches and mesh, "
        "and no fused attention kernel serves separate rows",
        value_type=bool,
    ),
}

SAMPLING: Section = {
    "max_new_tokens": Field(
        None, "T, tokens of a sample", value_type=int, minimum=1, maximum=MOST_TOKENS
    ),
    "temperature": Field(
        None, "divides the logits, also in the trainer", value_type=float, minimum=0
    ),
    "top_k": Field(None, "0 keeps all", value_type=int, minimum=0),
    "top_p": Field(None, "1 keeps all", value_type=float, minimum=0),
    "min_p": Field(None, "0 keeps all", value_type=float, minimum=0),
    "entropy_theta": Field(
        None,
        "the temperature falls where the model is sure: temperature * 0.8 ** (theta / H), H the "
        "entropy of the step (arXiv:2403.14541); 0: constant",
        value_type=float,
        minimum=0,
    ),
    "logit_bias": Field(
        None,
        "((token id, what is added to its logit), ...)",
        value_type=tuple,
        items=Field((), "a token id and a number", items=(TOKEN, Field(0.0, "what is added"))),
    ),
    "forbidden_tokens": Field(None, "ids that are never sampled", value_type=tuple, items=TOKEN),
    "stop_strings": Field(
        None,
        "texts that end a sample, also where they begin inside a token",
        value_type=tuple,
        items=Field("", "a text"),
    ),
}

CRITIC: Section = {
    "trunk": Field(
        None,
        "separate: a copy of the policy's trunk, trained; shared: a head on the policy's own",
        value_type=str,
        choices=("separate", "shared"),
    ),
    "learning_rate": Field(None, "peak, of the critic", value_type=float, minimum=0),
    "clip_norm": Field(
        None, "of the critic's gradient; 0 never clips", value_type=float, minimum=0
    ),
    "warmup_updates": Field(
        None, "first updates of the critic alone, the policy as it is", value_type=int, minimum=0
    ),
}


def objective_section() -> Section:
    """Choices and fields of all families; None is the method's own value."""
    fields: dict[str, Field] = {}
    for family in FAMILIES:
        for name, field in objective_fields(family).items():
            # A tuple holds values like those of its default; where it has none, of its items' type.
            first = field.default[0] if field.type is tuple and field.default else field.items()
            items = Field(first, "one of them") if field.type is tuple else None
            fields[name] = Field(None, field_doc(family, name), value_type=field.type, items=items)
    return fields


NETWORK: Section = {
    "head": Field(
        None,
        "of the stage's network, on the trunk of config.model; by default that of what it starts "
        "from",
        value_type=str,
        choices=CHOICES["head"],
    ),
}

START = "a stage before this one, model (what config.model says), CHECKPOINTS/STAGE[/STEP] of "
START += "another run, or a published folder"

# The models that a stage reads besides its policy.
MODELS: Section = {
    "reference": {
        "start_from": Field(
            None, f"{START}; by default what the stage starts from", value_type=str, path=True
        )
    },
    "value": {
        "start_from": Field(
            None,
            f"critic with trunk='separate': {START}; by default the policy's trunk and a zero head",
            value_type=str,
            path=True,
        )
    },
    "reward": {
        "start_from": Field(
            None,
            f"whose score of a sample is its reward: {START}; by default none",
            value_type=str,
            path=True,
        ),
        "weight": Field(None, "factor of its scores (default 1)", value_type=float),
        "text_weight": Field(
            None, "factor of config.scoring's rewards, added (default 0)", value_type=float
        ),
        "normalise": Field(
            None,
            "of its scores: none (default); whiten: mean 0, variance 1 over a step's samples; "
            "reference: over the completions of reference_path",
            value_type=str,
            choices=("none", "whiten", "reference"),
        ),
        "reference_path": Field(
            None,
            "normalise=reference: JSONL or Parquet with prompt and completion, or messages",
            value_type=str,
            path=True,
        ),
        "clip": Field(
            None,
            "its normalised scores are kept within +- this; 0 (default): never",
            value_type=float,
            minimum=0,
        ),
        "members": Field(
            None,
            "more models that score, each a start; with start_from they are an ensemble",
            value_type=tuple,
            items=Field("", "a start", path=True),
        ),
        "ensemble": Field(
            None,
            "of the models' scores: mean (default), min, or mean_minus_deviation",
            value_type=str,
            choices=("mean", "min", "mean_minus_deviation"),
        ),
        "ensemble_weight": Field(
            None,
            "ensemble=mean_minus_deviation: factor of the standard deviation (default 1)",
            value_type=float,
            minimum=0,
        ),
        "step_score": Field(
            None,
            "a process reward: what is made of the probabilities at the ends of a sample's steps; "
            "'' (default): the score at its last token",
            value_type=str,
            choices=("", *STEP_SCORE_REDUCTIONS),
        ),
        "step_separator": Field(
            None, "with step_score: stands between two steps (default a newline)", value_type=str
        ),
        "question": Field(
            None,
            "a generative reward: what a language model is asked behind a sample; '' (default): "
            "a reward head scores; with judge: what it is asked, with the places of "
            "rewards/judges/questions.py ('': those questions)",
            value_type=str,
        ),
        "judge": Field(
            None,
            "a language model reads a question about each sample: score: the expected score over "
            "its next token; pair: whether it prefers the sample to the reference answer, in both "
            "orders; '' (default): none",
            value_type=str,
            choices=("", *JUDGES),
        ),
        "rubric": Field(None, "with judge: what a good answer is (default '')", value_type=str),
        "lowest": Field(
            None, "judge=score: lowest score (default 0)", value_type=int, minimum=0, maximum=8
        ),
        "highest": Field(
            None, "judge=score: highest score (default 9)", value_type=int, minimum=1, maximum=9
        ),
        "verdicts": Field(
            None,
            "with question: two texts of one token each, good and bad (default ' Yes', ' No')",
            value_type=tuple,
            items=Field("", "a text"),
        ),
        "length_penalty": Field(
            None,
            "taken off its score for each token of a sample, before weight (default 0)",
            value_type=float,
            minimum=0,
        ),
    },
    "teacher": {
        "start_from": Field(None, f"{START}; by default none", value_type=str, path=True),
        "members": Field(
            None,
            "more teachers, each a start; a column of the problems says which one a prompt has",
            value_type=tuple,
            items=Field("", "a start", path=True),
        ),
        "names": Field(
            None,
            "with members: what the column calls the teachers, start_from first",
            value_type=tuple,
            items=Field("", "a name"),
        ),
        "column": Field(None, "with members: the column of the problems", value_type=str),
    },
    "judge": {"start_from": Field(None, f"{START}; by default none", value_type=str, path=True)},
    "guide": {"start_from": Field(None, f"{START}; by default none", value_type=str, path=True)},
}

STAGE: Section = {
    "method": Field("", "a row of the method table (launch/methods.py)"),
    "steps": Field(100, "steps of the stage", minimum=1),
    "start_from": Field(
        "",
        "a stage before this one, or model (what config.model says); '': the one before",
    ),
    "network": NETWORK,
    "models": MODELS,
    "reference_kl": Field(
        None, "log the KL to the stage's start (one more forward)", value_type=bool
    ),
    "objective": objective_section(),
    "critic": CRITIC,
    "batch": BATCH,
    "sampling": SAMPLING,
    "data": STAGE_DATA,
    "optimizer": OPTIMIZER,
}
