"""Metrics of stages that learn from reference answers, or from right samples alone."""

from __future__ import annotations

from rljax.reporting.metric import Metric

OF_ANSWERS = {
    "answer_nll": Metric(
        "Answer NLL", "Minus log mean likelihood of the answer over a group's samples, in nats."
    ),
    "accepted_share": Metric("Accepted proposals", "Share of chains that took their fresh sample."),
    "chains_right": Metric("Right chains", "Share of the step's chains whose state is right."),
    "chain_age": Metric("Age of chains", "Visits since a right chain's state was sampled, mean."),
    "updates_without_right": Metric(
        "Steps without an update", "1 where no sample was right, or all weights cancel."
    ),
    "sequence_logprob": Metric("Right samples", "Log-probability of a whole completion, nats."),
    "answer_share": Metric("Answers scored", "Share of held-out problems in answer_nll."),
    "answer_reward": Metric("Answer reward", "Mean likelihood score of the samples."),
    "solved_share": Metric("Solved prompts", "Share of prompts with a right sample."),
    "format_share": Metric("Format", "Share of samples that contain the answer phrase."),
    "think_share": Metric("Thinks", "Share of samples with a thought, where that has a cost."),
    "valid_share": Metric("Valid prompts", "Share of prompts with at least one valid sample."),
}
