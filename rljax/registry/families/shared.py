"""What several families have in common."""

from rljax.objectives.masking import MASKINGS
from rljax.objectives.parts import Field
from rljax.registry.families.description import Reads
from rljax.registry.families.limits import (
    COUNT,
    COUNT_OR_0,
    NOT_NEGATIVE,
    POSITIVE,
    Limit,
    one_of,
)

# What a stage samples from.
SAMPLING = {
    "max_new_tokens": 64,
    "stop_strings": (),
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "entropy_theta": 0.0,
    "logit_bias": (),
    "forbidden_tokens": (),
}

# A step of rollouts.
ROLLOUT_BATCH = {
    "prompts_per_step": 16,
    "samples_per_prompt": 8,
    "sequences_per_micro_batch": 0,
    "share_prompts": None,
}

# A file of demonstrations, of pairs, or of other feedback.
ROWS_FILE = Reads(data={"truncation": "refuse"})

# A row may say nothing to learn: two equal sides, an answer none of whose steps is right.
FEEDBACK_FILE = ROWS_FILE | Reads(data={"unusable": "refuse"})

# A file stays the same, and so does what a frozen reference says of it.
REFERENCED_FILE = FEEDBACK_FILE | Reads(data={"reference_cache": ""})

# What a stage on pairs of completions reads, whatever it learns from them.
PAIRS = Reads(
    batch={"sequences_per_update": 32, "sequences_per_micro_batch": 0, "share_prompts": None},
    data={
        "source": "jsonl",
        "path": "",
        "heldout_path": "",
        "heldout_limit": 0,
        "max_completion_tokens": 64,
    },
)

# Rows that the policy of the stage writes and a rule chooses, once or in several rounds.
SAMPLED_ROUNDS = Reads(
    batch={"samples_per_prompt": 8},
    sampling=SAMPLING,
    data={
        "pair_prompts": 256,
        "rounds": 1,
        "unfinished": "left_out",
        "placeholder_pairs": False,
    },
)

# What a language model that judges is asked behind a completion, and what it may say: good, bad.
QUESTION = "\nIs this answer right?"
DEFAULT_VERDICTS = (" Yes", " No")

# Reference answers behind sampled thoughts (training/collect/reference_answers.py).
ANSWER_FORM = {"answer_phrase": Field("<answer>", str), "answer_end": Field("</answer>", str)}
ANSWER_FORM_DOCS = {
    "answer_phrase": "ends the chain of thought; the reference answer is appended after it",
    "answer_end": "text between the reference answer and eos",
}
ANSWER_FORM_LIMITS = {"answer_phrase": Limit(bool, "a text that is not empty")}
ANSWER_DATA = Reads(data={"max_answer_tokens": 16})

# A prompt that tells more than the policy reads (training/collect/told_prompts.py).
CURRICULUM_DOC = "which problems a step samples (objectives/curricula/)"
ROUND_CURRICULUM_DOC = (
    "where the policy writes the rows: which problems a round samples (objectives/curricula/); "
    "in_turn: as they come in the file"
)
CONTEXT_ROOM = Reads(data={"max_context_tokens": 512})
CONTEXT_PATTERN_LIMIT = Limit(
    lambda x: x.count("{prompt}") == 1 and "{context}" in x,
    "a text with {context} and one {prompt}",
)

# A KL to the stage's start in the loss. Estimator and weight differ from family to family.
KL_DOCS = {
    "kl_placement": "where a KL to the stage's start enters: none, loss, reward",
    "kl_estimator": "k1, k2, k2_sequence, k3, k1_plus, k3_plus (objectives/kl.py)",
    "kl_weight": "factor of the KL term; 0 needs no reference policy",
}
KL_LIMITS = {"kl_weight": NOT_NEGATIVE}

# Estimators of log-probabilities; training has the functions (training/update/likelihood.py).
LIKELIHOODS = {"autoregressive": None, "elbo": None}
LIKELIHOOD_FIELDS = {
    "likelihood=elbo": {
        "masking": Field("bernoulli", str),
        "mask_draws": Field(1, int),
        "mask_share_low": Field(1e-3, float),
        "mask_share_high": Field(1.0, float),
        "mask_block": Field(0, int),
        "mask_steps": Field(128, int),
        "trajectory_shrink": Field(1, int),
        "context_mask_rate": Field(0.0, float),
        "guidance_scale": Field(0.0, float),
        "open_canvas": Field(False, bool),
        "plain_logprobs": Field(False, bool),
        "keep_passes": Field(False, bool),
    }
}
LIKELIHOOD_DOCS = {
    "likelihood": "autoregressive: exact; elbo: the bound of masked diffusion, of networks that "
    "see both ways (training/update/likelihood.py)",
    "masking": "which tokens a draw hides: bernoulli, log_linear, uniform_count, full, block, "
    "whole_block, schedule, coupled, complementary, quadrature, quadrature_time, trajectory "
    "(objectives/masking.py)",
    "mask_draws": "M, draws of each completion; quadrature: nodes; trajectory: runs of steps",
    "mask_share_low": "smallest share of tokens that a draw hides: of those that draw a share",
    "mask_share_high": "largest share",
    "mask_block": "block, whole_block: tokens of a block; 0: all",
    "mask_steps": "schedule: levels of noise",
    "trajectory_shrink": "trajectory: steps of the sampler that are scored in one pass",
    "context_mask_rate": "probability that a token of the prompt or of an earlier block is hidden",
    "guidance_scale": "s of classifier-free guidance, as config.sampler.diffusion.cfg_scale",
    "open_canvas": "slots behind a completion are seen as mask tokens, as the sampler saw them",
    "plain_logprobs": "a token's log-probability is that of the draws that hide it, not its share "
    "of the bound",
    "keep_passes": "keep the activations of all draws: faster, and memory grows with mask_draws",
}
LIKELIHOOD_LIMITS = {
    "masking": one_of(MASKINGS),
    "mask_draws": COUNT,
    "mask_share_low": Limit(lambda x: 0 < x <= 1, "in (0, 1]"),
    "mask_share_high": Limit(lambda x: 0 < x <= 1, "in (0, 1]"),
    "mask_block": COUNT_OR_0,
    "mask_steps": COUNT,
    "trajectory_shrink": COUNT,
    "guidance_scale": NOT_NEGATIVE,
    "context_mask_rate": Limit(lambda x: 0 <= x < 1, "in [0, 1)"),
}

AGGREGATION_DOCS = {
    "aggregation": "per-token losses to one number (objectives/aggregation.py)",
    "aggregation_length": "tokens that sequence_mean_token_scale divides by; default: T",
}
AGGREGATION_LIMITS = {"aggregation_length": Limit(POSITIVE.fits, "a positive number of tokens")}

ADVANTAGE_EPSILON_DOC = "added to the deviation that advantages are divided by"
SUPERVISED_WEIGHT_DOC = "factor of the likelihood of the reference answer, or of demonstrations"


def kl_fields(estimator: str, weight: float) -> dict[str, Field]:
    """The fields of a KL term, with their defaults."""
    return {"kl_estimator": Field(estimator, str), "kl_weight": Field(weight, float)}
