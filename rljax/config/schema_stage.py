"""The fields of a stage.

A default of None means "what the method or the family says"; such a field may be set only where
the chosen method reads it (config/resolve.py).
"""

from rljax.config.fields import MOST_PROBLEMS, MOST_ROWS, MOST_TOKENS, Field, Section
from rljax.data.sample_rules import LABEL_RULES, PAIR_RULES, UNFINISHED
from rljax.data.step_ends import STEP_SCORE_REDUCTIONS
from rljax.data.step_examples import STEP_RULES
from rljax.data.truncation import TRUNCATIONS
from rljax.data.values import UNUSABLE
from rljax.models.config import CHOICES, LIMITS
from rljax.registry import FAMILIES, field_doc, objective_fields

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

STAGE_DATA: Section = {
    "source": Field(
        None,
        "problems (config.data), jsonl, parquet, sampled (the stage's start writes demonstrations, "
        "and a verifier keeps some), sampled_pairs (its policy writes pairs), or sampled_labels "
        "(the same, labelled completions)",
        value_type=str,
        choices=tuple(
            dict.fromkeys(name for family in FAMILIES.values() for name in family.sources)
        ),
    ),
    "path": Field(None, "jsonl, parquet: file, folder or pattern", value_type=str, path=True),
    "heldout_path": Field(
        None,
        "held-out pairs; '': preference: none, reward: the last tenth of the file",
        value_type=str,
        path=True,
    ),
    "heldout_limit": Field(
        None, "judge by the first so many held-out rows; 0: all", value_type=int, minimum=0
    ),
    "limit": Field(
        None, "supervised: use the first so many demonstrations", value_type=int, minimum=1
    ),
    "worked_share": Field(
        None,
        "problems, supervised: of this stage instead of config.data.worked_share",
        value_type=float,
        minimum=0,
        maximum=1,
    ),
    "row_tokens": Field(
        None,
        "supervised: S, tokens of a packed row",
        value_type=int,
        minimum=2,
        maximum=MOST_TOKENS,
    ),
    "packed": Field(None, "supervised: several demonstrations in a row", value_type=bool),
    "canvas_tokens": Field(
        None,
        "supervised, likelihood=elbo: answers are filled up with their end token to so many "
        "tokens, all of which are learned; 0: not",
        value_type=int,
        minimum=0,
        maximum=MOST_TOKENS,
    ),
    "learn": Field(
        None,
        "supervised: of a column messages the assistant's last message, or all of them; draws: "
        "the outputs of a described distribution (data/draws.py); of an answer in labelled steps "
        "the right ones, what comes before an error, or the answer without errors "
        "(data/step_examples.py)",
        value_type=str,
        choices=("last", "all", "draws", *STEP_RULES),
    ),
    "error_phrases": Field(
        None,
        "supervised, learn=all: a message of the assistant is not learned where a tool's answer to "
        "it holds one of these texts (TL-Training, arXiv:2412.15495)",
        value_type=tuple,
        items=Field("", "a text"),
    ),
    "answer_rank": Field(
        None,
        "supervised, labelled steps: of a prompt's N answers, the best first, the one at place "
        "ceil(answer_rank * N) is learned: higher ones say less (HALT, arXiv:2506.04051); 0: all",
        value_type=float,
        minimum=0,
        maximum=1,
    ),
    "weight_column": Field(
        None, "supervised, a file: how much a row counts (launch/select.py)", value_type=str
    ),
    "unsure_marker": Field(
        None,
        "supervised: what an answer of labelled steps says in place of an error",
        value_type=str,
    ),
    "balance_column": Field(
        None,
        "supervised, rows of a file: the column whose values are learned equally often, those of "
        "the rarer ones several times in an epoch (RATE-FT, arXiv:2505.12265); '': none",
        value_type=str,
    ),
    "max_completion_tokens": Field(
        None,
        "preference, unpaired, reward: T of a completion",
        value_type=int,
        minimum=1,
        maximum=MOST_TOKENS,
    ),
    "truncation": Field(
        None,
        "what becomes of rows of a file that are too long; answers are never cut "
        "(data/truncation.py)",
        value_type=str,
        choices=TRUNCATIONS,
    ),
    "unusable": Field(
        None,
        "what becomes of rows of a file that say nothing to learn: an empty answer, two equal "
        "sides, no right step",
        value_type=str,
        choices=UNUSABLE,
    ),
    "reference_cache": Field(
        None,
        "preference, unpaired: keeps what the reference says of a file, for all runs with the "
        "same model and rows (training/collect/reference_cache.py); '': computed in every step",
        value_type=str,
        path=True,
    ),
    "max_answer_tokens": Field(
        None,
        "evidence: tokens of a reference answer",
        value_type=int,
        minimum=1,
        maximum=MOST_TOKENS,
    ),
    "max_context_tokens": Field(
        None,
        "tokens of a prompt that tells more, to a teacher or a guide, beyond "
        "data.max_prompt_tokens",
        value_type=int,
        minimum=1,
        maximum=MOST_TOKENS,
    ),
    "sampled_prompts": Field(
        None, "sampled: prompts sampled", value_type=int, minimum=1, maximum=MOST_PROBLEMS
    ),
    "keep": Field(
        None,
        "sampled: of a prompt's samples the right ones (RFT), or those of the best scores (RAFT); "
        "only samples that ended, equal ones once",
        value_type=str,
        choices=("right", "best"),
    ),
    "keep_most": Field(
        None, "sampled: samples of a prompt that are kept, at most", value_type=int, minimum=1
    ),
    "hint_pattern": Field(
        None,
        "sampled: a prompt none of whose samples is kept is sampled again behind this text, of "
        "{context}, its reference answer, and {prompt}, and learned without it (STaR); '': never",
        value_type=str,
    ),
    "pair_prompts": Field(
        None,
        "sampled_pairs, sampled_labels: prompts sampled in a round",
        value_type=int,
        minimum=1,
        maximum=MOST_PROBLEMS,
    ),
    "rounds": Field(
        None,
        "sampled_pairs, sampled_labels: times that the policy samples anew, each for equally many "
        "steps; the reference stays what the stage starts from",
        value_type=int,
        minimum=1,
    ),
    "step_separator": Field(
        None, "process rewards: what stands between two steps of an answer", value_type=str
    ),
    "question": Field(
        None,
        "generative rewards: what follows a completion, before the verdict; part of "
        "max_completion_tokens",
        value_type=str,
    ),
    "verdicts": Field(
        None,
        "generative rewards: two texts of one token each, for a good completion and a bad one",
        value_type=tuple,
        items=Field("", "a text"),
    ),
    "unfinished": Field(
        None,
        "sampled_pairs, sampled_labels: what becomes of samples that did not end",
        value_type=str,
        choices=UNFINISHED,
    ),
    "pair_rule": Field(
        None,
        "sampled_pairs: which samples of a prompt are a pair (data/sample_rules.py)",
        value_type=str,
        choices=tuple(PAIR_RULES),
    ),
    "pair_margin": Field(
        None,
        "sampled_pairs, rules of scores: the scores of a pair differ by more than this",
        value_type=float,
        minimum=0,
    ),
    "pairs_most": Field(
        None,
        "sampled_pairs, rules that find several pairs of a prompt: so many at most",
        value_type=int,
        minimum=1,
    ),
    "label_rule": Field(
        None,
        "sampled_labels: which samples of a prompt are good, and which bad (data/sample_rules.py)",
        value_type=str,
        choices=tuple(LABEL_RULES),
    ),
    "label_threshold": Field(
        None,
        "sampled_labels, label_rule=above_threshold: a good score is above it",
        value_type=float,
    ),
    "placeholder_pairs": Field(
        None,
        "sampled_pairs, sampled_labels: where the samples give no row at all, go on with made-up "
        "ones (set by :smoke, whose policy knows nothing) instead of stopping",
        value_type=bool,
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
            # A tuple holds values like those of its default; texts, where it has none.
            first = field.default[0] if field.type is tuple and field.default else ""
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
            "a reward head scores",
            value_type=str,
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
