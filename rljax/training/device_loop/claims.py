"""Orderings that papers claim, as far as a small task can test them."""

from rljax.reporting.comparison import Claim

CLAIMS = (
    Claim("rloo", ">", "reinforce", "accuracy", "RLOO, arXiv:2402.14740"),
    Claim("dapo", ">", "grpo", "accuracy", "DAPO, arXiv:2503.14476, table 1"),
    Claim("dapo", "<", "grpo", "updates_to_threshold", "DAPO, arXiv:2503.14476, figure 6"),
    Claim("dr_grpo", "=", "grpo", "accuracy", "Dr. GRPO, arXiv:2503.20783, figure 5"),
)
