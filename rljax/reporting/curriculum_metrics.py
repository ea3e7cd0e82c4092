"""The metrics of curricula and of samples that are drawn in rounds."""

from rljax.reporting.metric import Metric

OF_CURRICULA: dict[str, Metric] = {
    "curriculum/unseen_share": Metric(
        "Unseen problems", "Share of the training problems that were never sampled."
    ),
    "curriculum/pool_value": Metric(
        "Value of candidates", "Mean reward that the critic expects of all candidates (PCL)."
    ),
    "curriculum/chosen_value": Metric(
        "Value of chosen problems", "Mean reward that the critic expects of the chosen ones (PCL)."
    ),
    "curriculum/posterior_success": Metric(
        "Success rate believed", "Posterior mean over all training problems (VADE)."
    ),
    "curriculum/hard_share": Metric(
        "Hard problems", "Share of all that were hard at their last visit (hard_replay)."
    ),
    "curriculum/centre": Metric(
        "Centre", "Rank at which the window over the problems is centred (GAIN-RL)."
    ),
    "curriculum/skipped": Metric(
        "Skipped problems", "Problems that the last call passed over (GRESO)."
    ),
    "curriculum/easy_retry": Metric(
        "Retry of easy problems", "Probability after one visit without a wrong sample (GRESO)."
    ),
    "curriculum/hard_retry": Metric(
        "Retry of hard problems", "Probability after one visit without a right sample (GRESO)."
    ),
    "guided_share": Metric(
        "Guided prompts", "Share of prompts without a right sample, sampled again behind a hint."
    ),
    "guided_accuracy": Metric("Accuracy behind hints", "Of samples behind a hint; learned from."),
    "guided_ratio_mean": Metric(
        "Ratio of guided tokens", "Policy without the hint / policy behind it, mean over tokens."
    ),
    "hinted_share": Metric(
        "Prompts behind hints", "Share without a right sample that were sampled behind hints."
    ),
    "rescued_share": Metric(
        "Rescued prompts", "Share of which a sample behind a hint was right, and is learned from."
    ),
    "hint_level": Metric(
        "Level of help", "Of rescued prompts, mean; 1 is the first part of the vaguest hint."
    ),
    "guided_failures": Metric("Failures behind hints", "Samples that could not be scored."),
    "samples_per_prompt_mean": Metric(
        "Samples per prompt", "Drawn in all rounds of a step, mean over its prompts."
    ),
    "samples_per_prompt_max": Metric(
        "Most samples of a prompt",
        "That the step learns from, where prompts get different numbers.",
    ),
    "allocation_share": Metric(
        "Prompts with samples", "Share of the step's prompts that got any besides pilot samples."
    ),
    "allocation_rounds": Metric("Rounds", "Rounds of samples until all prompts had left."),
    "allocation_left_share": Metric(
        "Prompts that left", "Share of prompts whose samples said enough before the last round."
    ),
}
