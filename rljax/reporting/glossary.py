"""The metrics that the library logs: what each one means and where the report draws it.

A metric that is not listed here is drawn all the same, under its own name, after the known ones.
"""

from __future__ import annotations

from rljax.reporting.answer_metrics import OF_ANSWERS
from rljax.reporting.bound_metrics import OF_BOUNDS
from rljax.reporting.curriculum_metrics import OF_CURRICULA
from rljax.reporting.episode_metrics import OF_EPISODES
from rljax.reporting.feedback_metrics import BY_LENGTH, BY_MARGIN, IDEALISED, OF_FEEDBACK
from rljax.reporting.metric import Metric

ACCURACIES = "Held-out accuracy"
CLIPPED = "Clip fraction"
AGAINST = "Beyond the clip range, against the advantage"
RATIOS = "Spread of the ratio"
GAPS = "Sampler / trainer gap, largest"
OLD_KL, REFERENCE_KL = "KL to the old policy", "KL to the reference"
ERRORS = "{}, standard errors"

# Family -> what its chart shows; every line has a meaning of its own besides.
FAMILIES: dict[str, str] = {
    ACCURACIES: "Shares of the held-out problems that are solved: greedily, by one of several "
    "samples, by their majority.",
    CLIPPED: "Shares of tokens whose ratio is clipped, so that they give no gradient.",
    AGAINST: "Shares of tokens beyond the clip range whose gradient leads back and is kept.",
    RATIOS: "Policy / policy at the step's start, over the tokens of an update: quantiles.",
    GAPS: "Differences of a token's log-probability between sampler and trainer, in nats.",
    OLD_KL: "Three estimates of the KL from the policy at the step's start, per token, in nats.",
    REFERENCE_KL: "Three estimates of the KL from the reference, per token, in nats.",
    IDEALISED: "Share of held-out pairs that the exact minimiser of DPO's loss would rank right.",
    BY_MARGIN: "Held-out pairs in quarters, by how far apart their scores are.",
    BY_LENGTH: "Held-out pairs by which side has more tokens.",
    ERRORS.format(OLD_KL): "Standard errors over sequences of the three estimates.",
    ERRORS.format(REFERENCE_KL): "Standard errors over sequences of the three estimates.",
}


def _kl_estimates(name: str, label: str, meaning: str) -> dict[str, Metric]:
    """Three estimates of one KL, and their standard errors over sequences."""
    how = {
        "k1": "mean log-ratio, unbiased",
        "k2": "half the mean square, biased",
        "k3": "unbiased and never negative",
    }
    values = {
        f"{name}_{k}": Metric(f"{label}, {k}", f"{meaning}, in nats: {text}.", family=label)
        for k, text in how.items()
    }
    errors = {
        f"{name}_{k}_error": Metric(
            f"Error of {k}", f"Standard error of {name}_{k}.", family=ERRORS.format(label)
        )
        for k in how
    }
    return values | errors


# How the updates of a stage with policy gradients go.
OF_UPDATES: dict[str, Metric] = {
    "gradient_noise_scale": Metric(
        "Gradient noise scale",
        "Sequences whose mean gradient is as much noise as signal: a useful size of an update.",
    ),
    "gradient_variance": Metric(
        "Gradient variance",
        "Variance of one sequence's gradient, all parameters together, from the micro-batches.",
    ),
    "gradient_signal": Metric(
        "Gradient signal", "Squared norm of the gradient without its noise; may be negative."
    ),
    "effective_sample_size": Metric(
        "Effective sample size",
        "Share of the tokens that the weights policy / sampler leave; 1 when on-policy.",
    ),
    "explained_variance": Metric(
        "Explained variance",
        "Share of the returns' variance that the critic explains; 1 is perfect, 0 a constant.",
    ),
    "old_policy_kl": Metric(
        "KL by the method's ratio",
        "KL from the policy that the step started with, mean log-ratio per token.",
    ),
    **_kl_estimates("old_policy_kl", OLD_KL, "From the step's start, per token"),
    **_kl_estimates("kl_to_start", REFERENCE_KL, "From the reference, per token"),
    "ratio_mean": Metric("Mean ratio", "Mean importance ratio; 1 on-policy."),
    "ratio_min": Metric(
        "Smallest ratio", "Policy / step's start, the smallest of all tokens.", family=RATIOS
    ),
    "ratio_q1": Metric("Ratio, 1 %", "1 % of the tokens have a smaller one.", family=RATIOS),
    "ratio_q50": Metric("Median ratio", "Half of the tokens have a smaller one.", family=RATIOS),
    "ratio_q99": Metric("Ratio, 99 %", "1 % of the tokens have a larger one.", family=RATIOS),
    "ratio_max": Metric(
        "Largest ratio", "Policy / step's start, the largest of all tokens.", family=RATIOS
    ),
    "dual_clip_share": Metric("Dual-clipped", "Share of tokens stopped by the dual clip."),
    "clip_share_positive_low": Metric(
        "Wrong way, below",
        "Share of tokens below the clip range in spite of a positive advantage; not stopped.",
        family=AGAINST,
    ),
    "clip_share_negative_high": Metric(
        "Wrong way, above",
        "Share of tokens above the clip range in spite of a negative advantage.",
        family=AGAINST,
    ),
    "token_weight_mean": Metric(
        "Mean token weight", "Mean factor of a token's loss from corrections and weights."
    ),
    "token_weight_zero_share": Metric(
        "Tokens of weight 0", "Share of tokens whose factor in the loss is 0."
    ),
    "sampler_trainer_gap": Metric(
        "Sampler / trainer gap", "Mean absolute difference of a token's two log-probabilities."
    ),
    "sampler_trainer_gap_q99": Metric(
        "Gap, 99 %", "1 % of the tokens have a larger difference, in nats.", family=GAPS
    ),
    "sampler_trainer_gap_max": Metric(
        "Largest gap",
        "Largest difference of a token's two log-probabilities, in nats.",
        family=GAPS,
    ),
    "sampler_trainer_k1": Metric(
        "Sampler / trainer KL, k1",
        "Mean log-ratio of sampler to trainer per token, in nats.",
    ),
    "sampler_trainer_k3": Metric(
        "Sampler / trainer KL, k3", "The same by the estimator that is never negative, in nats."
    ),
    "sampler_unknown": Metric(
        "Unreported", "Share of tokens of which the sampler reported no finite log-probability."
    ),
}

# How old samples are where the sampler is ahead of the trainer; `staleness_share/N` besides.
OF_STALENESS: dict[str, Metric] = {
    "staleness_mean": Metric(
        "Staleness", "Steps that the policy has learned since it drew a token, mean of the tokens."
    ),
    "staleness_max": Metric("Largest staleness", "The same of the oldest token."),
    "staleness_updates_mean": Metric("Staleness in updates", "The same as the first, in updates."),
    "staleness_updates_max": Metric("Largest staleness in updates", "Of the oldest token."),
}

# What single parts of an objective log: corrections, surrogates, values.
OF_PARTS: dict[str, Metric] = {
    "correction_weight": Metric(
        "Correction weight", "Mean factor policy / sampler of a token's loss, after its bounds."
    ),
    "correction_share_low": Metric("Correction below", "Share of tokens below the lower bound."),
    "correction_share_high": Metric("Correction above", "Share of tokens above the upper bound."),
    "rejected_share": Metric("Rejected tokens", "Share of tokens that the correction drops."),
    "rejected_sequence_share": Metric(
        "Rejected sequences", "Share of sequences of which the correction drops every token."
    ),
    "divergence_share": Metric(
        "Beyond the divergence", "Share of tokens dropped because they moved too far."
    ),
    "dropped_share": Metric("Dropped tokens", "Share of tokens whose probability moved too far."),
    "dropped_share_low": Metric("Dropped, fallen", "Share of tokens dropped for a fall."),
    "dropped_share_high": Metric("Dropped, risen", "Share of tokens dropped for a rise."),
    "dropped_positive_share": Metric(
        "Dropped, advantage above 0", "Of the dropped tokens, the share with a positive advantage."
    ),
    "dropped_negative_share": Metric(
        "Dropped, advantage below 0", "Of the dropped tokens, the share with a negative advantage."
    ),
    "mismatch_kl_dropped": Metric(
        "KL of dropped tokens", "Sampler / trainer KL of the tokens that were dropped, in nats."
    ),
    "mismatch_kl_kept": Metric(
        "KL of kept tokens", "Sampler / trainer KL of the tokens that were kept, in nats."
    ),
    "reference_kl": Metric(
        "KL in the surrogate", "Mean of policy minus reference log-probability, in nats."
    ),
    "outside_share_positive": Metric(
        "Outside, advantage above 0",
        "Share of tokens beyond the clip range whose advantage is positive.",
    ),
    "outside_share_negative": Metric(
        "Outside, advantage below 0",
        "Share of tokens beyond the clip range whose advantage is negative.",
    ),
    "high_covariance_share": Metric(
        "High covariance", "Share of tokens whose covariance is among those that are held back."
    ),
    "log_ratio_abs": Metric(
        "Size of the log-ratio", "Mean absolute log-ratio of a token, in nats."
    ),
    "log_ratio_squared": Metric(
        "Log-ratio, squared", "Mean square of the log-ratio, in nats squared."
    ),
    "hinge_active": Metric(
        "Constraint active", "1 while the KL constraint is violated, 0 else; mean of updates."
    ),
    "hinge_kl": Metric("KL under the constraint", "KL that the constraint compares, in nats."),
    "pulled_share": Metric("Pulled tokens", "Share of rare tokens that are pulled back."),
    "sequence_weight_mean": Metric("Mean sequence weight", "Mean factor of a sequence's loss."),
    "demonstration_probability": Metric(
        "Probability of demonstrations", "Mean probability of a demonstrated token."
    ),
    "demonstration_entropy": Metric(
        "Entropy at demonstrations", "Of the policy at demonstrated tokens, mean, in nats."
    ),
    "value_scoring_failures": Metric(
        "Scoring failures of values", "Continuations whose verifier failed or timed out."
    ),
}

# The order is the order of the charts.
METRICS: dict[str, Metric] = {
    # Online stages.
    "reward": Metric(
        "Reward", "Mean reward of the step's samples; with a group filter, of those it kept.", True
    ),
    "accuracy": Metric(
        "Accuracy",
        "Share of the step's samples whose answer is right; with a group filter, of those it kept.",
        True,
    ),
    "constraints_satisfied": Metric(
        "Constraints satisfied", "Share of the step's samples that satisfy all constraints.", True
    ),
    "sampled_reward": Metric(
        "Reward, all rounds", "Mean reward of all samples of a step, before the filter chose.", True
    ),
    "sampled_accuracy": Metric(
        "Accuracy, all rounds", "Share of right samples of a step, before the filter chose.", True
    ),
    # Evidence stages.
    "bound": Metric("Evidence bound", "Lower bound on the reference's log-probability.", True),
    "answer_logprob": Metric(
        "Answer log-probability", "Log-probability of the reference answer, in nats.", True
    ),
    # Preference stages.
    "reward_accuracy": Metric(
        "Preference accuracy", "Share of pairs whose chosen side has the higher score.", True
    ),
    "reward_margin": Metric(
        "Preference margin", "Mean score of the chosen minus that of the rejected side.", True
    ),
    # Critics.
    "value": Metric("Value", "Mean value that the critic gives to the state before a token."),
    "return": Metric("Return", "Mean target of the critic."),
    "return_square": Metric("Return, squared", "Mean square of the critic's targets."),
    "value_error": Metric("Value error", "Mean squared distance of a value from its target."),
    "value_residual": Metric("Value residual", "Mean of value minus target."),
    "value_clip_share": Metric("Clipped values", "Share of tokens whose value moved too far."),
    "critic/loss": Metric("Critic loss", "The value that the critic's update differentiates."),
    "critic/gradient_norm": Metric("Critic gradient", "Global norm before clipping."),
    "critic/gradient_noise_scale": Metric(
        "Critic noise scale", "The same of the critic: a useful size of its update, in sequences."
    ),
    "critic/gradient_variance": Metric(
        "Critic gradient variance", "Variance of one sequence's gradient of the critic."
    ),
    "critic/gradient_signal": Metric(
        "Critic gradient signal", "Squared norm of the critic's gradient without its noise."
    ),
    "critic/learning_rate": Metric(
        "Critic learning rate", "Step size that the critic's optimizer used."
    ),
    "critic/updates_skipped": Metric(
        "Skipped critic updates", "Updates of the critic dropped for a non-finite gradient."
    ),
    # All stages that train.
    "loss": Metric("Loss", "The value that the step differentiates.", True),
    "token_accuracy": Metric(
        "Token accuracy", "Target tokens that are the most probable ones.", True
    ),
    "entropy": Metric("Entropy", "Mean entropy of the next-token distribution, in nats.", True),
    "kl_to_start": Metric(
        "KL to the start", "KL from the policy that the stage started with, in nats.", True
    ),
    "completion_tokens": Metric("Completion length", "Mean tokens per completion.", True),
    "clip_share_low": Metric(
        "Clipped below", "Share of tokens whose ratio is clipped from below.", True, CLIPPED
    ),
    "clip_share_high": Metric(
        "Clipped above", "Share of tokens whose ratio is clipped from above.", True, CLIPPED
    ),
    "gradient_norm": Metric("Gradient norm", "Global norm before clipping.", True),
    "truncated_share": Metric("Truncated", "Share of completions that ran into the token budget."),
    "end_learned_share": Metric(
        "Ends learned", "Share of the examples whose end token is learned; less than 1 is a fault."
    ),
    "degenerate_share": Metric(
        "Degenerate",
        "Share of completions in which over 80 % of all phrases of four tokens are repetitions; "
        "none has fewer than 24 tokens. A policy that collapses looks like this.",
    ),
    "trained_token_share": Metric(
        "Tokens trained on", "Share of the sampled tokens that filters and selections leave."
    ),
    "sampling_rounds": Metric(
        "Sampling rounds", "Times that prompts were sampled until enough groups had a signal."
    ),
    "sampled_tokens": Metric("Sampled tokens", "Tokens of all that a step sampled, kept or not."),
    "filled_prompts": Metric(
        "Filled prompts", "Prompts without signal that fill a step, kept out of the loss."
    ),
    "finished_responses": Metric(
        "Finished responses", "Completions that ended in this window; the others go on."
    ),
    "partial_share": Metric("Partial responses", "Share of the slots whose completion goes on."),
    "window_age": Metric("Age of responses", "Windows that a completion has been going on for."),
    "decode_steps": Metric("Decode steps", "Tokens that the longest slot decoded in this step."),
    "cuts_per_completion": Metric("Cuts", "States of a completion whose value is sampled."),
    "value_states": Metric("Value states", "Different states whose value was sampled."),
    "value_tokens": Metric("Value tokens", "Tokens sampled for values, not trained on."),
    "value_truncated_share": Metric(
        "Truncated values", "Share of continuations that ran into the token budget."
    ),
    "search_share": Metric("Searched", "Prompts that a tree search answered."),
    "search_expansions": Metric("Expansions", "Nodes that got children, of a searched prompt."),
    "search_trajectories": Metric("Trajectories", "Completions that a search ended with."),
    "trees_without_success": Metric("Trees without success", "Searches that found no right one."),
    "hard_problems": Metric("Hard problems", "In this round, solved seldom at its start."),
    "kept_solutions": Metric("Kept solutions", "Right completions of hard problems."),
    "tree_leaves": Metric("Leaves", "Completions at the ends of the trees."),
    "tree_edges": Metric("Edges", "Segments of the trees."),
    "trained_edge_share": Metric("Edges trained on", "Share of the edges with an advantage."),
    "population_deviation": Metric(
        "Deviation of scores", "Between perturbed policies, before the update."
    ),
    "nll": Metric("Negative log-likelihood", "Nats per demonstrated token."),
    "token_weight": Metric("Token weight", "Constant factor of a demonstrated token's loss, mean."),
    "anchor_divergence": Metric(
        "Anchor", "Divergence from the reference over the whole vocabulary, nats per token."
    ),
    "teacher_divergence": Metric(
        "Divergence from the teacher", "Over the compared tokens, nats per token; trained on."
    ),
    "on_policy": Metric("On-policy", "1 where a step learned from samples of the policy."),
    "told_share": Metric(
        "Told",
        "Share of a step's samples of which the teacher was told something: another, right one, "
        "or feedback; others are not learned.",
    ),
    "kl": Metric("KL term", "The KL estimate that the loss penalises, per token."),
    "balance_loss": Metric(
        "Balance loss", "Load-balancing loss of the experts before its weight; 1 at even load."
    ),
    "max_violation": Metric(
        "Expert overload", "By what share the fullest expert is above the mean load; of all layers."
    ),
    **OF_CURRICULA,
    **OF_EPISODES,
    **OF_BOUNDS,
    **OF_ANSWERS,
    **OF_FEEDBACK,
    "groups_without_signal": Metric(
        "Groups without signal", "Share of prompts all of whose samples got the same reward."
    ),
    **{
        name: metric._replace(updates=True)
        for name, metric in (OF_UPDATES | OF_STALENESS | OF_PARTS).items()
    },
    "scoring_failures": Metric("Scoring failures", "Samples whose verifier failed or timed out."),
    "left_out_samples": Metric(
        "Samples left out", "Samples without a verdict: out of their groups and of all means."
    ),
    "updates_skipped": Metric("Skipped updates", "Updates dropped for a non-finite gradient."),
    "learning_rate": Metric(
        "Learning rate", "Mean step size of the policy's updates in the step; none: no update."
    ),
    "tokens_per_second": Metric(
        "Tokens per second", "Completion tokens trained on per second of the step.", True
    ),
    "goodput": Metric(
        "Goodput", "Share of the run's wall time so far in which the model was updated."
    ),
    # Held-out evaluation.
    "accuracy_greedy": Metric(
        "Greedy accuracy", "Held-out problems solved by greedy decoding.", True, ACCURACIES
    ),
    "pass@1": Metric(
        "pass@1", "Chance that one sample solves a held-out problem.", True, ACCURACIES
    ),
}

# Parts of a step's wall time and what each holds, in the order in which they are stacked.
TIME_PARTS: dict[str, str] = {
    "sampling": "Drawing completions from the policy.",
    "scoring": "Verifying the completions and composing rewards.",
    "update": "Gradient steps, including the passes for old and reference log-probabilities.",
    "evaluation": "Held-out problems.",
    "other": "Everything else.",
}


def describe(name: str) -> Metric:
    """The entry of `name`; for an unknown name one made from the name itself."""
    if name in METRICS:
        return METRICS[name]
    stem, at, count = name.partition("@")
    if at and count.isdigit():
        meaning = {
            "pass": f"At least one of {count} samples solves the problem.",
            "majority": f"The most frequent answer of {count} samples is right.",
        }.get(stem)
        if meaning:
            return Metric(name, meaning, True, ACCURACIES)
    stem, _, label = name.partition("/")
    if stem == "reward" and label:
        return Metric(f"Reward {label}", f"Mean value of the reward {label}, before its weight.")
    if stem == "role_reward" and label:
        return Metric(f"Reward of {label}", f"Mean score of the samples of the role {label}.")
    if stem == "episode" and label:
        return Metric(label.capitalize(), f"What the environment measures as {label}, on average.")
    if stem == "teacher_divergence" and label:
        return Metric(f"Divergence from {label}", f"As {stem}, of the prompts that {label} has.")
    if stem == "staleness_share" and label.isdigit():
        return Metric(f"{label} steps old", f"Share of tokens drawn {label} steps earlier.")
    return Metric(name.replace("_", " ").capitalize(), f"Logged as {name}.")


def as_markdown() -> str:
    """All metrics as a table, in the order of the charts."""
    lines = ["| metric | title of its chart | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {m.label} | {m.meaning} |" for name, m in METRICS.items()]
    return "\n".join(lines) + "\n"


def is_share(name: str) -> bool:
    """Whether a metric is a share of something, so that no value beyond [0, 1] can occur."""
    stem, at, _ = name.partition("@")
    if at:
        return stem in ("pass", "majority")
    return name == "groups_without_signal" or bool({"accuracy", "share"} & set(name.split("_")))


def sort_names(names: set[str]) -> list[str]:
    """Known metrics in the order of `METRICS`, then the others by name (pass@8 after pass@1)."""
    order = {name: index for index, name in enumerate(METRICS)}

    def key(name: str) -> tuple:
        stem, at, count = name.partition("@")
        number = int(count) if at and count.isdigit() else 0
        return (order.get(name, len(order)), not number, stem == "majority", stem, number, name)

    return sorted(names, key=key)
