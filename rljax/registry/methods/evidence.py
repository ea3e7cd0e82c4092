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
    Method(
        "jepo_rloo",
        "evidence",
        "arXiv:2503.19618",
        "JEPO on prompts without a right sample, leave-one-out of the verifier's rewards elsewhere",
        dict(bound="multi_sample", kl_placement="loss", verifier="switch"),
    ),
    Method(
        "verifree",
        "evidence",
        "arXiv:2505.21493",
        "the likelihood of the reference answer itself as the reward, leave-one-out, not its log",
        dict(bound="probability", norm_scope="none", format_penalty=1.0),
    ),
)
