"""Learning from reference answers, without a verifier.

RA3 is a recipe (configs/recipes/next_segment.py), and an experiment: neither its code nor its
estimator has been seen. Both of its steps are taken in each update: a policy gradient of the bound
on the tokens of the thought (E), and the likelihood of the line behind it (M), where the authors
alternate, and write the thoughts of the first into a corpus for the second. A thought is judged by
the next line, where theirs is by all later ones; and an empty one leaves an empty comment, where
theirs leaves nothing.
"""

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
        "ra3",
        "evidence",
        "arXiv:2509.25810",
        "the next line of a text, and a cost of the thought before it (RA3, of one line at a time)",
        dict(
            bound="single_sample",
            thought_cost=0.05,
            answer_phrase="\n",
            answer_end="",
            format_penalty=1.0,
        ),
    ),
    Method(
        "verifree",
        "evidence",
        "arXiv:2505.21493",
        "the likelihood of the reference answer itself as the reward, leave-one-out, not its log",
        dict(bound="probability", norm_scope="none", format_penalty=1.0),
    ),
)
