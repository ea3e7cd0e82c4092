"""Learning from samples of the posterior, with a verifier that checks answers."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "trice",
        "posterior",
        "arXiv:2312.02179",
        "a Markov chain of right samples for each prompt, with leave-one-out control variates",
        dict(posterior="chain", control_variate="leave_one_out", guide="hinted"),
    ),
    Method(
        "trice_basic",
        "posterior",
        "arXiv:2312.02179",
        "the same without control variates",
        dict(posterior="chain", guide="hinted"),
    ),
    Method(
        "posterior_fresh",
        "posterior",
        "arXiv:2312.02179",
        "rejection sampling: the right ones of several fresh samples, each prompt weighs the same",
        dict(posterior="fresh"),
    ),
)
