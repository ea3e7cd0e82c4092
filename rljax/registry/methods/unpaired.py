"""Learning from labelled completions."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "kto",
        "unpaired",
        "arXiv:2402.01306",
        "desired completions above an estimate of the KL, others below it",
        dict(link="kto", beta=0.1),
    ),
    Method(
        "apo_zero_unpaired",
        "unpaired",
        "arXiv:2408.06266",
        "desired completions up and others down, each by itself",
        dict(link="apo_zero_unpaired", beta=0.1),
    ),
    Method(
        "bco",
        "unpaired",
        "arXiv:2404.04656",
        "a binary classifier of desired completions around the mean reward so far",
        dict(link="bco", beta=0.01),
    ),
    Method(
        "step_kto",
        "unpaired",
        "arXiv:2501.10799",
        "KTO of the whole answer by its outcome, and of each of its steps by the step's label",
        dict(link="step_kto", beta=0.1),
    ),
)
