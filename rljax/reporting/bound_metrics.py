"""The metrics of likelihoods that are bounds only, of masked diffusion models."""

from rljax.reporting.metric import Metric

OF_BOUNDS: dict[str, Metric] = {
    "heldout_bound": Metric(
        "Held-out bound", "Lower bound of a held-out demonstrated token's log-likelihood, in nats."
    ),
    "lower_bound": Metric("Lower bound", "ELBO of a sample per token, in nats."),
    "upper_bound": Metric("Upper bound", "Upper bound of a sample per token, in nats (SPG)."),
    "bound_log_ratio": Metric(
        "Bound's log ratio", "Bound of a sample now minus before the step, in nats."
    ),
}
