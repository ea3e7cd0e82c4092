"""Learning from reference answers, without a verifier."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "jepo_single",
        "evidence",
        "arXiv:2503.19618",
        "Jensen's bound: mean log-likelihood of the reference answer",
        dict(bound="single_sample", kl_placement="loss"),
    ),
    Method(
        "jepo",
        "evidence",
        "arXiv:2503.19618",
        "the n-sample bound: log of the mean likelihood of the reference answer",
        dict(bound="multi_sample", kl_placement="loss"),
    ),
)
