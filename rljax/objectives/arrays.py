"""The arrays that parts read by name, and where they come from, a table for each family.

N = B * G rows, one for each completion; T completion slots; C rewards of a composition, H = 1 + C
heads of a critic of the KL and of each, F points of their front and W losses of each; R roles; M
passes of a likelihood that draws masks; K sides of each of B pairs. "step" arrays are constants of
the step that sampled or read them, "batch" arrays those of one optimizer update, "loss" arrays
exist inside the loss only and are differentiated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Described(NamedTuple):
    """What an array is."""

    # "NT", "NTM", "NTC", "NTH", "NC", "N", "C", "FC", "CW", "R" or "" for a scalar; "BKT", "BK" or
    # "B" of preferences, "BM" of M comparisons
    axes: str
    dtype: type
    level: str  # "step", "batch" or "loss"
    meaning: str


# Those of the policy-gradient family.
ARRAYS: dict[str, Described] = {
    "mask": Described("NT", bool, "step", "True on tokens that were sampled and are trained on"),
    "tokens": Described("NT", int, "step", "the sampled tokens"),
    "sampled": Described("NT", bool, "step", "the mask before a switch to demonstrations"),
    "group_ids": Described("N", int, "step", "equal for the samples of one prompt"),
    "scores": Described("N", float, "step", "reward of the whole sample"),
    "correct": Described("N", bool, "step", "right by the task's own measure"),
    "finished": Described("N", bool, "step", "ended by itself, not cut off"),
    "fill_steps": Described("NT", int, "step", "in which masked diffusion filled each token"),
    "token_rewards": Described(
        "NT", float, "step", "reward of each token; an outcome is on the last True slot"
    ),
    "turn_rewards": Described("NT", float, "step", "of a turn, on its last token; else 0"),
    "greedy_scores": Described("N", float, "step", "score of the prompt's greedy completion"),
    "base_scores": Described("N", float, "step", "score of the start's greedy completion"),
    "kl_rewards": Described(
        "NT", float, "step", "minus the weighted KL, where it is in the reward"
    ),
    "component_rewards": Described("NTH", float, "step", "of each token: the KL, each reward"),
    "component_values": Described("NTH", float, "step", "of each of these, by the old critic"),
    "component_advantages": Described("NTH", float, "step", "of each of these, not normalised"),
    "component_returns": Described("NTH", float, "step", "targets of each head of the critic"),
    "rewards_to_go": Described("NTC", float, "step", "what each reward brings from a token on"),
    "multipliers": Described("C", float, "step", "of rewards with thresholds, not squashed"),
    "multiplier_momentum": Described("C", float, "step", "of their updates"),
    "satisfied": Described("N", bool, "step", "all constraints of config.scoring are satisfied"),
    "components": Described("NC", float, "step", "value of each of C rewards, before weights"),
    "component_applies": Described("NC", bool, "step", "the reward judges the sample"),
    "component_weights": Described("C", float, "step", "weights of these rewards"),
    "answer_logprobs": Described("NT", float, "step", "of the reference answer behind a sample"),
    "answer_mask": Described("NT", bool, "step", "True on the reference answer's tokens"),
    "pool_means": Described("N", float, "step", "mean score of all that was drawn of a prompt"),
    "pool_deviations": Described("N", float, "step", "the deviation of these scores"),
    "bare_answer_logprobs": Described("NT", float, "step", "of the answer without a thought"),
    "bare_answer_mask": Described("NT", bool, "step", "True on that answer's tokens"),
    "demonstration": Described("N", bool, "step", "a demonstration, not sampled"),
    "advantages": Described("NT", float, "step", "how much better than expected"),
    "correction": Described("NT", float, "step", "factor of each token's surrogate"),
    "returns": Described("NT", float, "step", "targets of the critic"),
    "old_logprobs": Described("NT", float, "step", "under the policy that the step started from"),
    "old_draw_logprobs": Described("NTM", float, "step", "under that policy, of the same draws"),
    "old_entropy": Described("NT", float, "step", "of that policy, nats"),
    "old_collision": Described("NT", float, "step", "its sum of squared probabilities"),
    "behavior_logprobs": Described("NT", float, "step", "as the sampler reported them"),
    "ref_logprobs": Described("NT", float, "step", "under the frozen reference"),
    "teacher_logprobs": Described("NT", float, "step", "under the frozen teacher"),
    "proxy_logprobs": Described("NT", float, "step", "under the old policy without its noise tail"),
    "value_mask": Described("NT", bool, "step", "where the critic learns"),
    "state_values": Described("NT", float, "step", "of states with rollouts, NaN elsewhere"),
    "values": Described("NT", float, "step", "of the state before each token, by the old critic"),
    "segment_ids": Described("NT", int, "step", "number of the token's segment, from 0"),
    "start_values": Described("NT", float, "step", "of the state at the segment's start"),
    "end_values": Described("NT", float, "step", "of the state at the segment's end"),
    "kl_weights": Described("N", float, "step", "weight of the KL, where it is controlled"),
    "noise": Described("NT", float, "step", "uniform in [0, 1), fresh in every step"),
    "baseline": Described("", float, "step", "moving average of scores"),
    "loss_history": Described("CW", float, "step", "of each reward in the last steps, NaN: none"),
    "objective_weights": Described("C", float, "step", "of rewards, which follow their gradients"),
    "gradient_influences": Described("C", float, "step", "of each reward's gradient on all"),
    "learning_rate": Described("", float, "step", "of the policy's next update"),
    "roles": Described("N", int, "step", "of the player of an episode, from 0"),
    "role_baselines": Described("R", float, "step", "moving average of each role's scores"),
    "role_weights": Described("R", float, "step", "weight of what these averages have seen"),
    "front": Described("FC", float, "step", "reference point and front of rewards, NaN: none"),
    "meta_reward": Described("", float, "step", "by how much the last step enlarged the front"),
    "step": Described("", int, "step", "steps done in the stage"),
    "progress": Described("", float, "step", "their share of all steps of the stage"),
    "current_logprobs": Described("NT", float, "batch", "under the policy before the update"),
    "current_entropy": Described("NT", float, "batch", "of that policy"),
    "high_covariance": Described("NT", bool, "batch", "tokens of the highest covariance"),
    "rare_negatives": Described("NT", bool, "batch", "the least likely punished tokens"),
    "entropy_level": Described("NT", float, "batch", "entropy in [-1, 1] against the batch"),
    "score_weights": Described("NT", float, "batch", "signed weights of right and wrong samples"),
    "kl_pressure": Described("NT", float, "batch", "weight of the hinge on the KL"),
    "logprobs": Described("NT", float, "loss", "of the tokens under the policy"),
    "draw_logprobs": Described("NTM", float, "loss", "of the tokens, given what a draw shows"),
    "draw_weights": Described("NTM", float, "loss", "of hidden tokens, 0 of others (masking.py)"),
    "token_share": Described("NT", float, "loss", "weight of a token, where few are scored"),
    "entropy": Described("NT", float, "loss", "of the policy"),
    "new_values": Described("NT", float, "loss", "of the critic that learns"),
    "new_component_values": Described("NTH", float, "loss", "of that critic, head by head"),
    "log_ratio": Described("NT", float, "loss", "log of policy / denominator (ratios.py)"),
}

# Those of the preference family; the chosen completion of a pair is side 0.
PREFERENCE_ARRAYS: dict[str, Described] = {
    "mask": Described("BKT", bool, "step", "True on the tokens of the completion"),
    "ref_logprobs": Described("BKT", float, "step", "under the frozen reference"),
    "ref_sequence_logprobs": Described("BK", float, "step", "sum over the completion's tokens"),
    "present": Described("BK", bool, "step", "there is such a completion, and it is not empty"),
    "chosen_sides": Described("BK", bool, "step", "the completion is preferred; of a pair side 0"),
    "ratings": Described("BK", float, "step", "score of the data"),
    "usable": Described("B", bool, "step", "no side of the pair is empty"),
    "mean_chosen_length": Described("B", float, "step", "tokens, mean over the batch's prompts"),
    "current_logprobs": Described("BKT", float, "batch", "under the policy before the update"),
    "current_log_collision": Described(
        "BKT", float, "batch", "log of that policy's sum of squared probabilities"
    ),
    "current_sequence_logprobs": Described("BK", float, "batch", "sum over the completion"),
    "matched_margins": Described("B", float, "batch", "margin of the reference of the same rank"),
    "matched_log_ratios": Described("BK", float, "batch", "of the other side, of the same rank"),
    "pair_weights": Described("B", float, "batch", "factor of the links, from all of the above"),
    "logprobs": Described("BKT", float, "loss", "of the tokens under the policy"),
    "entropy": Described("BKT", float, "loss", "of the policy"),
    "greedy": Described("BKT", bool, "loss", "the token is the policy's likeliest one"),
    "sequence_logprobs": Described("BK", float, "loss", "sum over the completion's tokens"),
    "lengths": Described("BK", float, "loss", "tokens of the completion, at least 1"),
    "side_scores": Described("BK", float, "loss", "what the score makes of each side"),
    "margins": Described("B", float, "loss", "score of side 0 minus that of side 1, of two sides"),
    "margin_weights": Described("BM", float, "loss", "of groups: weights of their `margins`, BM"),
    "excess": Described(
        "B", float, "loss", "of groups: what the square of a margin is too large by"
    ),
    "margins_per_token": Described("B", float, "loss", "the same, each divided by its length"),
}

# Those of families that compare whole next-token distributions; rows may be packed.
DISTRIBUTION_ARRAYS: dict[str, Described] = {
    "mask": Described("NT", bool, "step", "True on the tokens to learn"),
    "logprobs": Described("NT", float, "loss", "of the tokens under the policy"),
    "key_tokens": Described("NT", bool, "step", "tokens in which the right tool differs"),
    "value_tokens": Described("NT", bool, "step", "last tokens of arguments' values"),
    "segment_ids": Described("NT", int, "step", "number of the token's example in its row"),
    "ref_divergence": Described("NT", float, "loss", "of the policy and the frozen reference"),
    "teacher_divergence": Described("NT", float, "loss", "of the policy and the teacher"),
    "behavior_logprobs": Described("NT", float, "step", "under the model that sampled"),
}

# Those of the unpaired family.
UNPAIRED_ARRAYS: dict[str, Described] = {
    "mask": Described("NT", bool, "step", "True on the tokens of the completion"),
    "labels": Described("N", bool, "step", "the completion is desired"),
    "labelled": Described("N", bool, "step", "it is known whether it is"),
    "step_ids": Described("NT", int, "step", "number of the token's step, -1 for none"),
    "step_labels": Described("NT", bool, "step", "at slot h: step h is right"),
    "step_counted": Described("NT", bool, "step", "at slot h: there is a step h that has a say"),
    "ref_logprobs": Described("NT", float, "step", "under the frozen reference"),
    "ref_sequence_logprobs": Described("N", float, "step", "sum over the completion's tokens"),
    "kl_baseline": Described("N", float, "step", "estimate of the KL to the reference"),
    "step_baseline": Described("N", float, "step", "the same of a step"),
    "reward_shift": Described("N", float, "step", "mean of all rewards so far"),
    "logprobs": Described("NT", float, "loss", "of the tokens under the policy"),
    "entropy": Described("NT", float, "loss", "of the policy"),
    "greedy": Described("NT", bool, "loss", "the token is the policy's likeliest one"),
    "sequence_logprobs": Described("N", float, "loss", "sum over the completion's tokens"),
}

# Those of the reward family: a head's scores of completions, and what the data say of them.
REWARD_ARRAYS: dict[str, Described] = {
    "side_scores": Described("BK", float, "loss", "what the model says of each completion"),
    "chosen_scores": Described("B", float, "loss", "of pairs: of the chosen completion"),
    "rejected_scores": Described("B", float, "loss", "of pairs: of the rejected one"),
    "present": Described("BK", bool, "step", "there is such a completion, and it is not empty"),
    "rated_margins": Described("B", float, "step", "by how much the chosen side is better"),
    "labels": Described("BK", bool, "step", "the completion is good"),
    "ratings": Described("BK", float, "step", "score of the data"),
    "step_scores": Described("BKT", float, "loss", "what the model says at each token"),
    "step_labels": Described("BKT", bool, "step", "the step is right, where it ends"),
    "step_ends": Described("BKT", bool, "step", "the last token of a step"),
    "mean_steps": Described("B", float, "step", "mean number of steps of the batch's answers"),
    "good_logprobs": Described("BK", float, "loss", "of the verdict that a completion is good"),
    "bad_logprobs": Described("BK", float, "loss", "of the verdict that it is not"),
    "end_states": Described("BKD", float, "loss", "of pairs: last state of each completion"),
    "invariance_slopes": Described("BKD", float, "batch", "gradient of a term of the whole batch"),
    "invariance": Described("B", float, "batch", "the term, the same for all"),
    "goal_positive": Described("B", float, "loss", "mean similarity to goals of the chosen side"),
    "goal_negative": Described("B", float, "loss", "mean similarity to goals of the other side"),
    "goal_positive_mean": Described("B", float, "batch", "the former, over the whole batch"),
    "goal_negative_mean": Described("B", float, "batch", "the latter, over the whole batch"),
}

# A stage keeps a reference policy where a part names one of these.
OF_REFERENCE = frozenset({"ref_logprobs", "ref_sequence_logprobs", "ref_divergence"})

# A stage needs a teacher where a part names one of these.
OF_TEACHER = frozenset({"teacher_logprobs", "teacher_divergence"})


DTYPES = {float: jnp.float32, int: jnp.int32, bool: jnp.bool_}


def abstract(name: str, rows: int = 4, slots: int = 3, components: int = 2) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array; unknown names are [N, T] f32, as all inputs of a batch are."""
    axes, dtype, *_ = ARRAYS.get(name, Described("NT", float, "batch", ""))
    sizes = {"N": rows, "T": slots, "M": 2, "C": components, "H": 1 + components}
    sizes |= {"F": 3, "W": 4, "R": 2}
    return jax.ShapeDtypeStruct(tuple(sizes[axis] for axis in axes), DTYPES[dtype])
