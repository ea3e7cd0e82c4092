"""Learning from samples of the posterior: completions given that their answer is right."""

from rljax.objectives.curricula import OF_SAMPLES
from rljax.objectives.parts import Field
from rljax.objectives.posterior import CONTROL_VARIATES, right_share
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.shared import (
    CONTEXT_PATTERN_LIMIT,
    CONTEXT_ROOM,
    CURRICULUM_DOC,
    LIKELIHOOD_DOCS,
    LIKELIHOODS,
    ROLLOUT_BATCH,
)

POSTERIOR = Family(
    name="posterior",
    data="prompts with a verifier",
    online=True,
    choices={
        "curriculum": {"shuffled": None, **OF_SAMPLES},
        "posterior": {"chain": None, "fresh": right_share},
        "control_variate": CONTROL_VARIATES,
        "guide": {"none": None, "hinted": None},
        "likelihood": LIKELIHOODS,
    },
    defaults={
        "curriculum": "shuffled",
        "control_variate": "none",
        "guide": "none",
        "likelihood": "autoregressive",
    },
    fields={"guide=hinted": {"context_pattern": Field("{context} {prompt}", str)}},
    docs={
        "curriculum": CURRICULUM_DOC,
        "posterior": "chain: a Markov chain for each prompt, one fresh sample a visit; fresh: the "
        "right ones of several fresh samples (objectives/posterior.py)",
        "control_variate": "what is taken off for the proposals of chains: none, or leave_one_out "
        "(objectives/posterior.py)",
        "guide": "what a chain begins with: none, nothing; hinted, a sample of the prompt that "
        "shows the reference answer",
        "context_pattern": "the hinted prompt, of {context}, the reference answer, and {prompt}",
        **LIKELIHOOD_DOCS,
    },
    limits={"context_pattern": CONTEXT_PATTERN_LIMIT},
    # Samples are of the policy as it is: anything else breaks the acceptance step.
    reads=Reads(batch=ROLLOUT_BATCH, sampling={"max_new_tokens": 64, "stop_strings": ()}),
    adds={
        "posterior=chain": Reads(batch={"samples_per_prompt": 1}),
        "guide=hinted": CONTEXT_ROOM,
    },
    rows_beside={"posterior=chain": 1},  # the state of the chain
    together=Together(in_batch=None, in_row=None, reason="the rows of a prompt stay together"),
    checks=("posterior", "order"),
)
