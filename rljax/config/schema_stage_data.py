"""The fields of a stage's data.

A default of None means "what the method or the family says", as in schema_stage.py.
"""

from rljax.config.fields import MOST_PROBLEMS, MOST_TOKENS, Field, Section
from rljax.data.sample_rules import LABEL_RULES, PAIR_RULES, UNFINISHED
from rljax.data.step_examples import STEP_RULES
from rljax.data.truncation import TRUNCATIONS
from rljax.data.values import UNUSABLE
from rljax.registry import FAMILIES

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
