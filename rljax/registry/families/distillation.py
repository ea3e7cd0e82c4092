"""Learning from a teacher: its next-token distributions, or what it writes."""

from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.distillation import SAMPLER_CORRECTIONS, teacher_loss
from rljax.objectives.divergences import DIVERGENCES, SUPPORTS
from rljax.objectives.parts import Field
from rljax.objectives.supervised import nll
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import COUNT, POSITIVE, SHARE, Limit
from rljax.registry.families.shared import (
    AGGREGATION_DOCS,
    AGGREGATION_LIMITS,
    CONTEXT_PATTERN_LIMIT,
    CONTEXT_ROOM,
    ROLLOUT_BATCH,
    SAMPLING,
)

# What a teacher is told of each sample by itself, which is then judged by the verifiers.
OF_SAMPLES = ("sample", "feedback", "sample_and_feedback")

_PATTERN = {"context_pattern": Field("{context} {prompt}", str)}
_FEEDBACK = {"feedback_pattern": Field("{context} {prompt}", str)}
# Every sample has a prompt of its own.
_APART = CONTEXT_ROOM | Reads(batch={"share_prompts": False})
_SHARE = {"on_policy_share": Field(0.5, float)}

DISTILLATION = Family(
    name="distillation",
    data="prompts, and a teacher",
    online=True,
    choices={
        "divergence": {**DIVERGENCES, "likelihood": None},
        "support": SUPPORTS,
        "teacher_context": dict.fromkeys(
            ("same", "demonstration", "reference", "column", *OF_SAMPLES)
        ),
        "teacher_update": {"none": None, "moving": None, "mixed": None},
        "off_policy": {"none": None, "demonstrations": None, "teacher": None},
        "correction": SAMPLER_CORRECTIONS,
        "aggregation": AGGREGATIONS,
    },
    defaults={"support": "full", "off_policy": "none", "aggregation": "token_mean"}
    | {"teacher_context": "same", "teacher_update": "none", "correction": "none"},
    fields={
        **{
            f"divergence={name}": {"teacher_temperature": Field(1.0, float)} for name in DIVERGENCES
        },
        "off_policy=demonstrations": _SHARE,
        "off_policy=teacher": _SHARE,
        "teacher_context=demonstration": _PATTERN,
        "teacher_context=reference": _PATTERN,
        "teacher_context=column": {**_PATTERN, "context_column": Field("feedback", str)},
        "teacher_context=sample": _PATTERN,
        "teacher_context=feedback": _FEEDBACK,
        "teacher_context=sample_and_feedback": {**_PATTERN, **_FEEDBACK},
        "teacher_update=moving": {"teacher_mixup": Field(0.05, float)},
        "teacher_update=mixed": {"teacher_mixup": Field(0.05, float)},
    },
    functions={
        **{f"divergence={name}": {"token_loss": teacher_loss} for name in DIVERGENCES},
        "divergence=likelihood": {"token_loss": nll},
    },
    docs={
        "divergence": "how far policy and teacher are apart (objectives/divergences.py); "
        "likelihood: of the completions themselves, which the teacher wrote",
        "support": "tokens that are compared (objectives/divergences.py)",
        "teacher_context": "what the teacher reads besides the prompt: nothing, the problem's "
        "demonstration, its reference answer, the text of a column; or of each sample another one "
        "of the step that is right, what the verifiers say of the sample itself (feedback), or "
        "both (samples of which nothing is told are not learned)",
        "context_column": "column of the problems that holds what is told",
        "teacher_update": "moving: the teacher begins as the policy does and follows it, an "
        "exponential moving average that is saved with the state "
        "(training/update/moving_copy.py); mixed: its logits are mixed with those of the policy "
        "as it is, which stays near the teacher (SDPO's trust region)",
        "teacher_mixup": "share of the policy: that the moving teacher takes over after an update, "
        "or that its logits have among the mixed ones; 1: the teacher is the policy itself",
        "teacher_temperature": "of the teacher's distribution, where it is compared",
        "context_pattern": "the teacher's prompt, of {context} and {prompt}",
        "feedback_pattern": "the same where {context} is the feedback of the verifiers; with both, "
        "its text is the {prompt} of context_pattern",
        "off_policy": "completions of the steps that learn from no sample of the policy: none, the "
        "problems' demonstrations, or samples of the teacher",
        "on_policy_share": "lambda: probability that a step learns from samples of the policy",
        "correction": "for samples of an earlier policy, or of a sampler that is not quite the "
        "trainer: none, or a factor of each token's loss (objectives/distillation.py)",
        **AGGREGATION_DOCS,
    },
    limits={
        "on_policy_share": SHARE,
        "support_tokens": COUNT,
        "teacher_temperature": POSITIVE,
        "context_pattern": CONTEXT_PATTERN_LIMIT,
        "feedback_pattern": CONTEXT_PATTERN_LIMIT,
        "context_column": Limit(bool, "the name of a column"),
        "teacher_mixup": Limit(lambda x: 0 < x <= 1, "in (0, 1]"),
        **AGGREGATION_LIMITS,
    },
    reads=Reads(batch=ROLLOUT_BATCH, sampling=SAMPLING),
    # A prompt has one demonstration.
    adds={
        "off_policy=demonstrations": Reads(batch={"samples_per_prompt": 1}),
        "teacher_context=demonstration": CONTEXT_ROOM,
        "teacher_context=reference": CONTEXT_ROOM,
        "teacher_context=column": CONTEXT_ROOM,
        **{f"teacher_context={told}": _APART for told in OF_SAMPLES},
    },
    together=Together(in_batch=1, in_row=None),
    checks=("distillation",),
)
