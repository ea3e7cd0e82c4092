"""Metrics of stages that learn from preferences, labels or ratings, and of their held-out rows."""

from __future__ import annotations

from rljax.reporting.metric import Metric

# Families of metrics, as the report titles them.
IDEALISED = "Idealised ranking accuracy"
BY_MARGIN, BY_LENGTH = "Preference accuracy by margin", "Preference accuracy by length"

OF_FEEDBACK = {
    "reward_chosen": Metric(
        "Chosen score", "Mean, beta times its log-ratio to the reference, or its score."
    ),
    "reward_rejected": Metric("Rejected score", "The same of the rejected side."),
    "goal_positive": Metric(
        "Similarity to good endings", "Mean sigmoid of the cosine of states, chosen to chosen."
    ),
    "goal_negative": Metric(
        "Similarity to bad endings", "Mean sigmoid of the cosine of states, chosen to rejected."
    ),
    "score_mean": Metric("Score", "Mean score of a reward model's completions."),
    "length_discrepancy": Metric(
        "Discrepancy of lengths", "How far a reward model's states differ between bins of lengths."
    ),
    "verdict_share": Metric(
        "Share of verdicts", "Probability that a generative reward says one of its two verdicts."
    ),
    "first_error_accuracy": Metric(
        "First error", "Share of held-out answers whose first wrong step a process reward finds."
    ),
    "balanced_accuracy": Metric(
        "Balanced accuracy", "Mean of the accuracies on held-out good and bad labels.", True
    ),
    "outcome_auroc": Metric(
        "Area under the curve, answers",
        "Chance that the lowest score of a right answer's steps is above that of a wrong one's.",
    ),
    "round": Metric("Round", "How often the stage's policy has sampled rows to learn from."),
    "sampled_rows": Metric(
        "Rows of the round", "Pairs or labelled completions that the rule made of its samples."
    ),
    "sampled_score": Metric("Score of samples", "Mean reward of the labelled samples of the step."),
    "sampled_score_chosen": Metric(
        "Score, chosen samples", "Mean reward of the chosen sides of the step's pairs."
    ),
    "sampled_score_rejected": Metric(
        "Score, rejected samples", "Mean reward of the rejected sides of the step's pairs."
    ),
    "squared_error": Metric("Squared error", "Mean square of a score minus its rating."),
    "positive_share": Metric("Good labels", "Share of completions that are labelled good."),
    "auroc": Metric("AUROC", "Chance that a good held-out completion scores above a bad one."),
    "logprob_chosen": Metric("Chosen log-probability", "Mean, of whole completions, in nats."),
    "logprob_rejected": Metric("Rejected log-probability", "Mean, of whole completions, in nats."),
    "reward_desired": Metric(
        "Desired score", "Mean over desired completions, beta times the log-ratio.", True
    ),
    "reward_undesired": Metric("Undesired score", "The same of the other completions.", True),
    "logprob_desired": Metric("Desired log-probability", "Mean, of whole completions, in nats."),
    "logprob_undesired": Metric("Undesired log-probability", "Mean, of the others, in nats."),
    "kl_baseline": Metric(
        "KTO's baseline", "Mean log-ratio of completions behind other prompts, in nats; 0 at least."
    ),
    "step_baseline": Metric(
        "Step-KTO's baseline",
        "Mean log-ratio of steps behind other prompts, in nats.",
    ),
    "reward_right_steps": Metric(
        "Right steps", "Mean over steps that are labelled right, beta times the log-ratio.", True
    ),
    "reward_wrong_steps": Metric("Wrong steps", "The same of the other steps.", True),
    "reward_shift": Metric("BCO's shift", "Mean of all rewards of the stage so far."),
    "ranking_accuracy": Metric(
        "Ranking accuracy", "Share of pairs whose chosen side the policy finds more likely."
    ),
    "ranking_accuracy_per_token": Metric(
        "Ranking accuracy, per token", "The same by the mean log-probability of a token."
    ),
    "reference_ranking_accuracy": Metric(
        "Reference's ranking accuracy", "Share of held-out pairs that the reference ranks right."
    ),
    "flipped_share": Metric(
        "Flipped", "Share of the pairs that the reference ranks wrongly and the policy right."
    ),
    "required_loss": Metric(
        "Required loss", "Mean DPO loss of a pair at which its ranking would be right."
    ),
    **{
        f"idealised_ranking_accuracy{suffix}/{which}": Metric(
            f"{which}{words}", f"The {which} over five values of beta{words}.", family=IDEALISED
        )
        for suffix, words in (("", ""), ("_per_token", ", per token"))
        for which in ("lowest", "median", "highest")
    },
    "calibration_error": Metric(
        "Calibration error", "Mean gap of the accuracy from the confidence sigmoid(|margin|)."
    ),
    **{
        f"accuracy_by_margin/{quarter}": Metric(
            f"quarter {quarter}",
            f"Of quarter {quarter} by |margin|, 4 the surest.",
            family=BY_MARGIN,
        )
        for quarter in range(1, 5)
    },
    **{
        f"accuracy_by_length/{which}": Metric(
            f"chosen {which}", f"Where the chosen side is {which}.", family=BY_LENGTH
        )
        for which in ("longer", "shorter")
    },
    "displaced_share": Metric(
        "Displaced", "Share of chosen sides that became less likely than under the reference."
    ),
    "regularised_reward": Metric(
        "Rating less the KL", "Mean rating minus beta times the log-ratio of a completion."
    ),
    "regularised_spread": Metric(
        "Spread of that within a prompt",
        "Standard deviation over the completions of a prompt; 0 at CoPG's optimum.",
    ),
}
