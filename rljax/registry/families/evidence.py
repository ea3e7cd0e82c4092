"""Learning from reference answers: a bound on their likelihood behind sampled thoughts."""

from rljax.objectives.curricula import OF_SAMPLES
from rljax.objectives.evidence import BOUNDS, NORM_SCOPES, evidence_advantages, evidence_loss
from rljax.objectives.parts import fields_of
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import NOT_NEGATIVE, POSITIVE, one_of
from rljax.registry.families.shared import (
    ADVANTAGE_EPSILON_DOC,
    ANSWER_DATA,
    ANSWER_FORM,
    ANSWER_FORM_DOCS,
    ANSWER_FORM_LIMITS,
    CURRICULUM_DOC,
    KL_DOCS,
    KL_LIMITS,
    LIKELIHOOD_DOCS,
    LIKELIHOODS,
    ROLLOUT_BATCH,
    SUPERVISED_WEIGHT_DOC,
    kl_fields,
)

EVIDENCE = Family(
    name="evidence",
    data="prompts with a reference answer",
    online=True,
    choices={
        "curriculum": {"shuffled": None, **OF_SAMPLES},
        "bound": BOUNDS,
        "likelihood": LIKELIHOODS,
        "kl_placement": {"none": None, "loss": None},
        "verifier": {"none": None, "switch": None},
    },
    defaults={
        "curriculum": "shuffled",
        "likelihood": "autoregressive",
        "kl_placement": "none",
        "verifier": "none",
    },
    fields={
        "": {
            **ANSWER_FORM,
            **fields_of(evidence_advantages, leave_out=("bound",)),
            **fields_of(evidence_loss, leave_out=("bound", "kl", "kl_weight")),
        },
        "kl_placement=loss": kl_fields("k3_plus", 1e-3),
    },
    docs={
        "curriculum": CURRICULUM_DOC,
        "bound": "lower bound on the answer's log-likelihood, or the likelihood itself "
        "(objectives/evidence.py)",
        "verifier": "none; switch: prompts with a right sample are learned from config.scoring's "
        "rewards, by leave-one-out, in place of the bound",
        **ANSWER_FORM_DOCS,
        "norm_scope": "deviation of the advantages over the batch or over each group; none: they "
        "are not divided",
        "advantage_epsilon": ADVANTAGE_EPSILON_DOC,
        "advantage_clip": "bound on the normalised advantages",
        "format_penalty": "lost by a sample without the answer phrase",
        "thought_cost": "of bound=single_sample: nats that a sample loses for writing anything "
        "before the answer phrase",
        "supervised_weight": SUPERVISED_WEIGHT_DOC,
        **KL_DOCS,
        **LIKELIHOOD_DOCS,
    },
    limits={
        **ANSWER_FORM_LIMITS,
        "norm_scope": one_of(NORM_SCOPES),
        "advantage_epsilon": NOT_NEGATIVE,
        "advantage_clip": POSITIVE,
        "format_penalty": NOT_NEGATIVE,
        "thought_cost": NOT_NEGATIVE,
        "supervised_weight": NOT_NEGATIVE,
        **KL_LIMITS,
    },
    reads=Reads(
        stage={"reference_kl": False},
        batch=ROLLOUT_BATCH,
        sampling={"max_new_tokens": 64},
    )
    | ANSWER_DATA,
    together=Together(in_batch=None, in_row=None, reason="a group stays whole"),
    completion_slots=("sampling.max_new_tokens", "data.max_answer_tokens"),
    group_baselines={"bound": frozenset(BOUNDS)},
    checks=("thoughts_cost_nats", "order"),
)
