"""Learning from a teacher: its next-token distributions, or what it writes."""

from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.distillation import teacher_loss
from rljax.objectives.divergences import DIVERGENCES, SUPPORTS
from rljax.objectives.parts import Field
from rljax.objectives.supervised import nll
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import COUNT, POSITIVE, SHARE
from rljax.registry.families.shared import (
    AGGREGATION_DOCS,
    AGGREGATION_LIMITS,
    CONTEXT_PATTERN_LIMIT,
    CONTEXT_ROOM,
    ROLLOUT_BATCH,
    SAMPLING,
)

_PATTERN = {"context_pattern": Field("{context} {prompt}", str)}
_SHARE = {"on_policy_share": Field(0.5, float)}

DISTILLATION = Family(
    name="distillation",
    data="prompts, and a teacher",
    online=True,
    choices={
        "divergence": {**DIVERGENCES, "likelihood": None},
        "support": SUPPORTS,
        "teacher_context": dict.fromkeys(("same", "demonstration", "reference", "sample")),
        "off_policy": {"none": None, "demonstrations": None, "teacher": None},
        "aggregation": AGGREGATIONS,
    },
    defaults={"support": "full", "off_policy": "none", "aggregation": "token_mean"}
    | {"teacher_context": "same"},
    fields={
        **{
            f"divergence={name}": {"teacher_temperature": Field(1.0, float)} for name in DIVERGENCES
        },
        "off_policy=demonstrations": _SHARE,
        "off_policy=teacher": _SHARE,
        "teacher_context=demonstration": _PATTERN,
        "teacher_context=reference": _PATTERN,
        "teacher_context=sample": _PATTERN,
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
        "demonstration, its reference answer, or a right sample of the same step (others are not "
        "learned)",
        "teacher_temperature": "of the teacher's distribution, where it is compared",
        "context_pattern": "the teacher's prompt, of {context} and {prompt}",
        "off_policy": "completions of the steps that learn from no sample of the policy: none, the "
        "problems' demonstrations, or samples of the teacher",
        "on_policy_share": "lambda: probability that a step learns from samples of the policy",
        **AGGREGATION_DOCS,
    },
    limits={
        "on_policy_share": SHARE,
        "support_tokens": COUNT,
        "teacher_temperature": POSITIVE,
        "context_pattern": CONTEXT_PATTERN_LIMIT,
        **AGGREGATION_LIMITS,
    },
    reads=Reads(batch=ROLLOUT_BATCH, sampling=SAMPLING),
    # A prompt has one demonstration.
    adds={
        "off_policy=demonstrations": Reads(batch={"samples_per_prompt": 1}),
        "teacher_context=demonstration": CONTEXT_ROOM,
        "teacher_context=reference": CONTEXT_ROOM,
        # Every sample has a prompt of its own.
        "teacher_context=sample": CONTEXT_ROOM | Reads(batch={"share_prompts": False}),
    },
    together=Together(in_batch=1, in_row=None),
    checks=("distillation",),
)
