"""Learning from pairs."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "dpo",
        "preference",
        "arXiv:2305.18290",
        "logistic loss on the margin of log-ratios to the reference",
        dict(score="log_ratio", link="logistic", beta=0.1),
    ),
    Method(
        "simpo",
        "preference",
        "arXiv:2405.14734",
        "logistic loss on the margin of mean log-probabilities, less a target; no reference",
        # Of Llama-3-Base: gamma / beta is 0.5.
        dict(score="mean_log_likelihood", link="logistic_with_margin", beta=2.0, target_margin=1.0),
    ),
    Method(
        "genarm",
        "preference",
        "arXiv:2410.08193",
        "a reward model whose reward is its log-probability, so that it can guide the sampler",
        dict(score="log_likelihood", link="logistic_with_margin", beta=0.05, target_margin=0.0),
    ),
)
