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
    "guide_rolls_in": Metric(
        "Guide begins",
        "1 where the guide policy begins the samples of a step, 0 where it ends them.",
    ),
    "guide_token_share": Metric("Tokens of the guide", "Share of tokens that the guide wrote."),
    "prefix_share": Metric(
        "Samples of two policies", "Share of samples that one policy begins and the other ends."
    ),
    "guide_free_accuracy": Metric(
        "Accuracy without the guide", "Of the step's samples that are the policy's alone."
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
