"""Rows of the method table against the values that their papers give."""

import pytest

from rljax.registry import (
    METHODS,
    method_table,
    resolve_objective,
)

# Written by hand from the methods' papers (the "unified table" of arXiv:2509.04419 and the papers
# named in the rows) and the code of their authors, not from the table: what defines a method, and
# the numbers that its paper gives.
NO_RATIO = {"ratio": "none", "surrogate": "policy_gradient"}
CLIPPED = {"ratio": "token", "surrogate": "clipped", "clip_low": 0.2, "clip_high": 0.2}
CLIP_HIGHER = CLIPPED | {"clip_high": 0.28}
ZSCORE = {"advantage": "group_zscore", "advantage_epsilon": 1e-6}
NO_KL = {"kl_placement": "none"}
TOKENS = {"aggregation": "token_mean"}
GSPO = {"ratio": "sequence", "surrogate": "clipped", "clip_low": 3e-4, "clip_high": 4e-4}
CANON = CLIP_HIGHER | NO_KL | {"aggregation": "sequence_mean_token_scale", "entropy_weight": 0.0}
DLER = (
    CLIP_HIGHER
    | TOKENS
    | {
        "advantage": "reinforce_plus_plus_baseline",
        "group_filter": "with_signal",
        "dual_clip": 10.0,
    }
    | {"kl_placement": "loss", "kl_estimator": "k2", "kl_weight": 5e-4, "entropy_weight": 0.0}
    | {"whiten_over": "tokens", "whiten_epsilon": 1e-8, "correct_boost": 0.0}
)
DISCO = {"advantage": "none", "surrogate": "disco", "hinge_estimator": "k1"} | {
    "hinge_weight": 1e3,
    "hinge_margin": 1e-4,
    "entropy_weight": 0.0,
}
ADA = (
    CLIP_HIGHER
    | TOKENS
    | NO_KL
    | {"allocation": "successive", "allocation_rounds": 4, "round_samples": 8}
    | {"advantage": "pool_mean", "divide_by_pool_deviation": False, "entropy_weight": 0.0}
)
BY_VARIANCE = (
    CLIPPED
    | {"allocation": "by_variance", "pilot_samples": 8, "damping": 1e-3, "damping_power": 2.0}
    | {"success_limit": 1.0, "least_right": 0.0, "dual_clip": 3.0}
    | {"kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 1e-3}
)
# PPO of MA-RLHF, whose numbers are complete.
PPO = (
    CLIPPED
    | TOKENS
    | {"reward_shaping": "bounded_scores", "reward_clip": 2.5, "value_clip": 0.2, "gamma": 1.0}
    | {"kl_placement": "reward", "kl_estimator": "k1", "kl_weight": 0.05, "gae_lambda": 0.95}
)
GAE = {"advantage": "gae", "gamma": 1.0, "gae_lambda": 0.95, "value_target": "lambda_returns"}
RLGF = (
    CLIPPED
    | TOKENS
    | {"advantage": "gae", "value_target": "lambda_returns", "gamma": 0.99, "gae_lambda": 0.95}
    | {"value_lambda": 0.95, "value_clip": None, "whiten_advantages": False}
    | {"kl_placement": "reward", "kl_estimator": "k1", "kl_weight": 1e-3}
)
SEGMENTS = (
    CLIPPED
    | TOKENS
    | {"advantage": "segment_difference", "value_samples": 9, "unfinished_score": 0.0}
    | {"kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 1e-4}
)
SPO = SEGMENTS | {
    "selection": "uncertain",
    "uncertain_below": 0.9,
    "whiten_advantages": True,
    "whiten_epsilon": 1e-8,
}
ELBO = {"likelihood": "elbo", "open_canvas": True}
ONE_STEP = ELBO | {"masking": "full", "mask_draws": 1, "context_mask_rate": 0.15}
WIDE_CLIP = {"ratio": "token", "surrogate": "clipped", "clip_low": 0.5, "clip_high": 0.5}
DFT = {"token_loss": "probability_weighted", "probability_power": 1.0} | TOKENS
BEHAVIOR = {"ratio": "token", "denominator": "behavior", "correction": "none"} | NO_KL
# A link on log-ratios of whole completions, and nothing else.
PLAIN = {"score": "log_ratio", "link_weight": 1.0, "second_link": "none"} | {
    "chosen_nll": "none",
    "pair_weight": "none",
}

EXPECTED = {
    "sft": {"aggregation": "token_mean", "token_loss": "nll", "anchor": "none"},
    "llada_sft": {"aggregation": "sequence_mean_token_mean", "token_loss": "nll"}
    | {"likelihood": "elbo", "masking": "bernoulli", "mask_draws": 1, "mask_share_low": 1e-3}
    | {"mask_share_high": 1.0, "open_canvas": False},
    "dft": DFT | {"anchor": "none"},
    "tl_sft": TOKENS | {"token_weight": "key_tokens", "key_weight_limit": 9.0},
    # 0.05 is the paper's; the code has 0.1.
    "sft_kl": {"token_loss": "nll", "anchor": "forward_kl", "anchor_weight": 0.05},
    "asft": DFT | {"anchor": "forward_kl", "anchor_weight": 0.05},
    "gkd": {"divergence": "jensen_shannon", "other_share": 0.5, "off_policy": "demonstrations"}
    | {"on_policy_share": 0.5, "support": "full"},
    "reverse_kd": {"divergence": "reverse_kl", "off_policy": "none", "support": "full"},
    # JSD with weight 1/2 and the solution; reverse KL and a demonstration.
    "opsd": {"divergence": "jensen_shannon", "other_share": 0.5, "teacher_context": "reference"}
    | {"off_policy": "none", "support": "full"},
    # alpha 1/2, the student's 100 likeliest tokens and a class of all others (the repository).
    "sdpo": {"divergence": "jensen_shannon", "other_share": 0.5, "support": "policy_top_k"}
    | {"support_tokens": 100, "support_rest": True, "teacher_context": "sample"}
    | {"teacher_update": "moving", "teacher_mixup": 0.05}
    | {"correction": "truncated", "correction_cap": 2.0},
    # lerp(reference, student, .05) of logits in the repository.
    "sdpo_trust_region": {"divergence": "jensen_shannon", "other_share": 0.5}
    | {"support": "policy_top_k", "support_tokens": 100, "support_rest": True}
    | {"teacher_context": "sample", "teacher_update": "mixed", "teacher_mixup": 0.05}
    | {"correction": "truncated", "correction_cap": 2.0},
    "sdft": {"divergence": "reverse_kl", "teacher_context": "demonstration"}
    | {"off_policy": "none", "support": "full"},
    "word_kd": {"divergence": "forward_kl", "off_policy": "demonstrations"}
    | {"on_policy_share": 0.0, "support": "full"},
    # w = .667 and rho = .25, which the sheet calls unverified.
    "salt": {"divergence": "forward_kl", "off_policy": "demonstrations", "on_policy_share": 0.0}
    | {"likelihood_share": 1 / 3, "teacher_temperature": 0.25},
    "sequence_kd": {"divergence": "likelihood", "off_policy": "teacher", "on_policy_share": 0.0},
    "reinforce": NO_RATIO | NO_KL | {"advantage": "ema", "entropy_weight": 0.0},
    "reinforce_batch": NO_RATIO | NO_KL | {"advantage": "batch_mean"},
    "reinforce_pp": CLIPPED
    | TOKENS
    | {"advantage": "reinforce_plus_plus", "whiten_epsilon": 1e-8}
    | {"kl_placement": "reward", "kl_estimator": "k1"},
    "reinforce_pp_baseline": CLIPPED
    | TOKENS
    | {"advantage": "reinforce_plus_plus_baseline", "whiten_over": "tokens"}
    | {"whiten_epsilon": 1e-8, "kl_placement": "loss", "kl_estimator": "k2"},
    "rloo": NO_RATIO | NO_KL | {"advantage": "group_leave_one_out"},
    "copg_on_policy": NO_RATIO
    | {"advantage": "group_leave_one_out", "aggregation": "sequence_mean_token_sum"}
    | {"kl_placement": "reward", "kl_estimator": "k1", "kl_weight": 0.06},
    "remax": NO_RATIO | NO_KL | {"advantage": "remax"},
    "grpo": CLIPPED
    | ZSCORE
    | {"aggregation": "sequence_mean_token_mean", "kl_placement": "loss"}
    | {"kl_estimator": "k3", "kl_weight": 0.04},
    "grpo_without_ties": CLIPPED
    | ZSCORE
    | {"aggregation": "sequence_mean_token_mean", "kl_placement": "loss"}
    | {"kl_estimator": "k3", "kl_weight": 0.04, "group_filter": "with_signal"}
    | {"filter_rounds": 1},
    "dr_grpo": CLIPPED
    | NO_KL
    | {"advantage": "group_mean", "aggregation": "sequence_mean_token_scale"},
    "dapo": CLIP_HIGHER
    | ZSCORE
    | TOKENS
    | NO_KL
    | {"group_filter": "mixed", "filter_rounds": 10, "reward_shaping": "soft_overlong"}
    | {"overlong_length": None, "overlong_buffer": None, "overlong_penalty": 0.5}
    | {"entropy_weight": 0.0},
    "pcl": NO_RATIO
    | NO_KL
    | {"curriculum": "pcl", "pool_factor": 4, "target_value": 0.5, "value_clip": None}
    | {"value_target": "prompt_mean", "advantage": "group_mean"}
    | {"aggregation": "sequence_mean_token_mean", "entropy_weight": 0.0},
    "vade": {"curriculum": "vade", "chosen_decay": 0.2, "other_decay": 0.999}
    | {"information": "variance_room", "advantage": "group_zscore"},
    "dump": {"curriculum": "dump", "window_samples": 300, "choice_temperature": 0.1}
    | {"exploration_weight": 1.0, "kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 1e-3},
    "gain_rl": {"curriculum": "gain", "advantage": "group_zscore", "subset_problems": 256}
    | {"centre_slope": 2.0, "target_accuracy": 0.5}
    | {"kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 5e-3},
    "greso": NO_KL
    | {"curriculum": "greso", "group_filter": "mixed", "easy_reward": 0.98, "hard_reward": 0.11}
    | {"retry_probability": 0.01, "retry_start": 0.5, "retry_step": 0.01},
    "reinforce_ada": ADA | {"allocation_exit": "balanced"},
    "reinforce_ada_positive": ADA | {"allocation_exit": "positive"},
    "speed": CLIPPED
    | NO_KL
    | {"allocation": "screening", "screen_samples": 4, "group_filter": "mixed"}
    | {"advantage": "group_leave_one_out", "entropy_weight": 0.0},
    "gvm_raft_plus_plus": BY_VARIANCE
    | TOKENS
    | {"advantage": "none", "advantage_sign": "positive"},
    "gvm_grpo": BY_VARIANCE | ZSCORE | {"aggregation": "sequence_mean_token_mean"},
    "balanced_filter": {"group_filter": "accuracy_inside", "accuracy_low": 0.2}
    | {"accuracy_high": 0.8, "advantage": "group_zscore"},
    "lite_ppo": CLIPPED | TOKENS | NO_KL | {"advantage": "group_mean_batch_deviation"},
    "gpg": NO_RATIO | TOKENS | NO_KL | {"advantage": "gpg", "f_norm": 1.0},
    "opo": NO_RATIO | NO_KL | {"advantage": "group_length_weighted", "entropy_weight": 0.0},
    "maxrl": CLIPPED
    | NO_KL
    | TOKENS
    | {"advantage": "group_mean_ratio", "punish_failed_groups": False}
    | {"advantage_epsilon": 1e-6, "entropy_weight": 0.0},
    # The script: PPO's clip, no KL, samples without advantage dropped; a decay of .95.
    "spiral": CLIPPED
    | NO_KL
    | {"advantage": "role_baseline", "role_decay": 0.95, "role_bias_correction": False}
    | {"selection": "with_advantage", "entropy_weight": 0.0},
    "hierarchical_grpo": CLIPPED | NO_KL | {"advantage": "role_group_mean"},
    "waltzrl": CLIPPED | NO_KL | {"advantage": "role_turn_zscore", "segmentation": "turns"},
    "pass_at_k": {"advantage": "pass_at_k", "divide_by_deviation": True},
    "raft": NO_RATIO | TOKENS | NO_KL | {"advantage": "none", "advantage_sign": "positive"},
    "raft_plus_plus": CLIPPED
    | TOKENS
    | {"advantage": "none", "advantage_sign": "positive", "dual_clip": 3.0}
    | {"kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 1e-3},
    "filtered": NO_RATIO
    | NO_KL
    | {"advantage": "better_than_group", "aggregation": "sequence_mean_token_sum"},
    "psr": CLIPPED | TOKENS | {"positive_weight": 1.0, "negative_weight": 0.0},
    "nsr": CLIPPED | TOKENS | {"positive_weight": 0.0, "negative_weight": 1.0},
    "w_reinforce": CLIPPED | TOKENS | {"positive_weight": 0.1, "negative_weight": 1.0},
    "grpo_n": CLIPPED | ZSCORE | {"advantage_sign": "negative"},
    "gspo_n": GSPO | ZSCORE | {"advantage_sign": "negative"},
    "ngrpo": TOKENS
    | NO_KL
    | {"advantage": "group_zscore_virtual", "virtual_samples": 1, "virtual_score": 1.0}
    | {"ratio": "token", "surrogate": "clipped", "clip_low": 0.16, "clip_high": 0.24}
    | {"advantage_epsilon": 1e-6, "group_filter": "not_all_correct", "entropy_weight": 1e-3},
    "bnpo": CLIP_HIGHER
    | NO_KL
    | {"advantage": "bnpo", "reward_min": 0.0, "reward_max": 1.0, "dual_clip": 10.0}
    | {"aggregation": "sequence_mean_token_sum", "entropy_weight": 0.0},
    "canon_inter": CANON | {"advantage": "canon_entropy", "inter_weight": 1.0},
    "canon_intra": CANON | {"advantage": "canon_entropy", "inter_weight": 0.0},
    "canon_dynamic": CANON | {"advantage": "canon_entropy", "inter_schedule": "accuracy"},
    "canon_eff": CANON
    | {"advantage": "canon_length", "discouraged": "high", "discouraged_scale": 0.96},
    "dler": DLER | {"reward_shaping": "truncation"},
    "da_dler": DLER
    | {"reward_shaping": "difficulty_truncation"}
    | {"difficulty_thresholds": (0.5,), "difficulty_lengths": (4000, 2000)},
    "ibpo": NO_RATIO | NO_KL | {"advantage": "budgeted", "aggregation": "sequence_mean_token_mean"},
    "crpg": NO_RATIO
    | NO_KL
    | {"advantage": "calibrated_constrained", "aggregation": "sequence_mean_token_sum"}
    | {"kl_factor_limit": None},
    "crraft": NO_RATIO
    | NO_KL
    | {"advantage": "best_constrained", "aggregation": "sequence_mean_token_sum"},
    **{
        method: CLIPPED
        | TOKENS
        | {"advantage": "mixed_components", "value_target": "component_returns"}
        | {"kl_placement": "reward", "kl_estimator": "k1", "kl_weight": 0.2, "clip_low": 0.2}
        | {"threshold_kind": kind, "multiplier_rate": 0.1, "multiplier_decay": 0.1}
        | {"kl_value_weight": 0.2, "reward_value_weight": 0.5, "component_epsilon": 1e-8}
        for method, kind in (("mu_ppo", "at_least"), ("xi_ppo", "equal"))
    },
    "grpo_components": CLIPPED | {"advantage": "component_zscore", "kl_weight": 0.04},
    "grpo_gradient_weighted": CLIPPED
    | ZSCORE
    | {"reward_shaping": "gradient_weighted", "weight_scale": 1e-5, "weight_layers": ()}
    | {"kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 1e-3},
    "recap": CLIPPED
    | NO_KL
    | {"advantage": "reweighted_components", "loss_window": 10, "reweight_temperature": 5.0},
    "rloo_hypervolume": NO_RATIO
    | NO_KL
    | {"advantage": "group_leave_one_out", "reward_shaping": "hypervolume"},
    "tokenbuncher": CLIPPED
    | ZSCORE
    | TOKENS
    | {"reward_shaping": "negative_entropy", "kl_placement": "reward", "kl_estimator": "k1"}
    | {"kl_weight": 1e-3, "entropy_weight": 0.0},
    "gspo": GSPO | ZSCORE | NO_KL | {"aggregation": "sequence_mean_token_mean"},
    "luspo": GSPO | ZSCORE | {"aggregation": "sequence_mean_token_sum"},
    "cispo": ZSCORE
    | TOKENS
    | NO_KL
    | {"ratio": "token", "surrogate": "cispo", "clip_low": None, "clip_high": 0.2},
    "sapo": ZSCORE
    | {"surrogate": "sapo"}
    | {"sapo_temperature_positive": 1.0, "sapo_temperature_negative": 1.05},
    "gmpo": ZSCORE | {"surrogate": "geometric_mean", "log_clip_low": 0.4, "log_clip_high": 0.4},
    "vespo": ZSCORE | {"surrogate": "vespo"},
    "dppo_tv": ZSCORE | {"surrogate": "dppo_tv"},
    "dppo_kl": ZSCORE | {"surrogate": "dppo_kl"},
    "dro": ZSCORE | {"surrogate": "dro"},
    "clip_cov": CLIPPED
    | TOKENS
    | {"token_weight": "clip_cov", "covariance_share": 2e-4}
    | {"covariance_low": 1.0, "covariance_high": 5.0},
    "kl_cov": TOKENS
    | {"surrogate": "kl_cov", "covariance_share": 2e-4, "covariance_kl_weight": 1.0},
    "steer": CLIP_HIGHER
    | TOKENS
    | NO_KL
    | {"token_weight": "steer_linear", "steer_low": 0.8, "steer_high": 1.2, "dual_clip": 10.0},
    # Bounds of the ratio 0 and 10.
    "lp_reg": ZSCORE
    | TOKENS
    | {"surrogate": "lp_reg", "clip_low": 1.0, "clip_high": 9.0, "proxy_weight": 1.0}
    | {"rare_share": 0.01, "rare_among": "negatives", "proxy_threshold": 0.02},
    "hapo": TOKENS
    | NO_KL
    | {"advantage": "group_token_zscore", "advantage_epsilon": 1e-6, "fallback_size": 5.0}
    | {"surrogate": "hapo", "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 10.0}
    | {"entropy_clip": 1.0, "entropy_advantage": 1.0, "entropy_pivot": 0.8}
    | {"entropy_floor": 1e-8, "authors_unsigned_h": False, "group_filter": "mixed"},
    "top_entropy": CLIP_HIGHER | TOKENS | {"selection": "top_entropy", "entropy_share": 0.2},
    "d3s": ZSCORE
    | {"selection": "d3s", "d3s_rows_first": 0.25, "d3s_rows_last": 0.75}
    | {"d3s_tokens_first": 0.2, "d3s_tokens_last": 1.0},
    "disco": DISCO | {"disco_score": "log_likelihood", "disco_temperature": 10.0},
    "disco_b": DISCO | {"disco_score": "log_likelihood", "disco_temperature": None},
    "disco_ratio": DISCO | {"disco_score": "ratio", "disco_temperature": 1.0},
    # Coefficient 1 and discount 0, as in tinker-cookbook.
    "opd": NO_RATIO
    | TOKENS
    | NO_KL
    | {"teacher": "log_ratio", "teacher_weight": 1.0, "teacher_discount": 0.0}
    | {"reward_weight": 0.0, "entropy_weight": 0.0},
    "ppo": PPO | GAE | {"value_lambda": 0.95, "whiten_advantages": True, "whiten_epsilon": 1e-8},
    "vc_ppo": CLIPPED | GAE | {"value_lambda": 1.0},
    "vapo": CLIP_HIGHER
    | TOKENS
    | NO_KL
    | {"advantage": "gae_length_adaptive", "length_alpha": 0.05, "gamma": 1.0}
    | {"value_lambda": 1.0, "likelihood_weight": 0.1},
    "t_ppo": CLIPPED
    | TOKENS
    | NO_KL
    | {"rollouts": "windows", "advantage": "gae", "truncation": "hold"}
    | {"gamma": 1.0, "value_lambda": 1.0},
    # Its sheet: IMDB's numbers.
    "ppo_plus_plus": RLGF | {"rollouts": "guide_roll_in", "guide_share": 0.6},
    "aggrevated": RLGF | {"rollouts": "guide_roll_out", "guide_share": 0.8},
    "lols": RLGF | {"rollouts": "guide_alternating", "guide_share": 0.8, "roll_in_share": 0.8},
    "d2lols": RLGF | {"rollouts": "guide_switching", "guide_share": 0.8, "roll_out_steps": 20},
    "ma_rlhf": PPO
    | {"segmentation": "ngrams", "ngram": 5, "last_alone": True, "advantage": "macro_gae"}
    | {"macro_weights": "equal", "whiten_advantages": False, "value_target": "macro_returns"},
    "spo_chain": SPO
    | {"segmentation": "uncertain", "cut_threshold": 0.9, "cut_interval": 5}
    | {"probability_threshold": 0.9},
    "spo_tree": SPO
    | {"rollouts": "tree", "branching": (6, 6, 6), "segment_tokens": 30}
    | {"edge_style": "rloo", "edge_epsilon": 1e-8},
    "deepsearch": CLIP_HIGHER
    | TOKENS
    | NO_KL
    | {"rollouts": "search", "advantage": "search_mean", "search_deviation": False}
    | {"dual_clip": 10.0, "segment_tokens": 256, "search_width": 8, "exploration": 2.0}
    | {"parent_weight": 0.4, "entropy_bonus": 0.0, "depth_weight": 0.01, "backup_floor": 0.1}
    | {"hard_share": 0.25, "screen_samples": 4, "round_steps": 100},
    "vineppo": SEGMENTS
    | {"segmentation": "steps", "cut_limit": 25, "fill_values": True}
    | {"probability_threshold": None},
    "tis": {"correction": "truncated", "correction_level": "token", "correction_cap": 2.0},
    "mis": {"correction": "truncated", "correction_level": "sequence", "correction_cap": 2.0}
    | {"reject_sequence_statistic": "k1", "reject_sequence_reduction": "sum"}
    | {"reject_sequence_low": 0.5, "reject_sequence_high": 2.0, "rejection": "sequences"},
    "icepop": CLIPPED
    | ZSCORE
    | {"denominator": "old", "correction": "zeroed", "correction_level": "token"}
    | {"correction_floor": 0.5, "correction_cap": 5.0, "rejection": "none"},
    "geo_rs": CLIPPED
    | ZSCORE
    | {"denominator": "old", "correction": "none", "rejection": "sequences"}
    | {"reject_sequence_statistic": "k1", "reject_sequence_reduction": "mean"}
    | {"reject_sequence_low": 0.999, "reject_sequence_high": 1.001},
    # rho of 2 is the lowest that the paper takes, no lower bound.
    "aipo": BEHAVIOR
    | TOKENS
    | {"advantage": "group_mean", "surrogate": "cispo", "clip_low": None, "clip_high": 1.0},
    # The ratio is bounded at 5.
    "pipeline_rl": BEHAVIOR
    | {"advantage": "group_leave_one_out", "aggregation": "sequence_mean_token_sum"}
    | {"surrogate": "cispo", "clip_low": None, "clip_high": 4.0},
    "areal": CLIPPED
    | TOKENS
    | {"advantage": "reinforce_plus_plus", "gamma": 1.0, "denominator": "old"}
    | {"correction": "zeroed", "correction_level": "token", "correction_cap": 5.0},
    "prime_rl": BEHAVIOR
    | {"surrogate": "probability_gap", "probability_low": 0.2, "probability_high": 0.2}
    | {"mismatch_weight": 1e-3},
    "prime_rl_ipo": BEHAVIOR
    | {"surrogate": "probability_gap_both", "probability_bound": 0.1, "mismatch_weight": 1e-3},
    "m2po": {"selection": "second_moment", "denominator": "old"},
    "spg": NO_KL
    | TOKENS
    | ELBO
    | {"advantage": "group_mean", "ratio": "none", "surrogate": "sandwich", "masking": "block"}
    | {"mask_draws": 2, "context_mask_rate": 0.15, "upper_power": 1.5, "upper_weight": 0.5}
    | {"negative_bound": "mixture", "entropy_weight": 0.0},
    "bgpo": NO_KL
    | ELBO
    | {"advantage": "group_zscore", "ratio": "none", "surrogate": "boundary"}
    | {"aggregation": "sequence_mean_token_mean", "masking": "bernoulli", "mask_draws": 16}
    | {"boundary_terms": "both", "bound_per_token": False},
    "diffu_grpo": ONE_STEP
    | TOKENS
    | WIDE_CLIP
    | {"advantage": "group_mean", "kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 0.04},
    "wd1": ONE_STEP
    | NO_RATIO
    | NO_KL
    | {"advantage": "group_softmax", "softmax_scale": 1.0}
    | {"aggregation": "sequence_mean_token_sum"},
    "unigrpo": ZSCORE
    | ELBO
    | {"ratio": "token", "surrogate": "clipped", "masking": "schedule", "plain_logprobs": True}
    | {"aggregation": "sequence_mean_token_mean", "kl_placement": "loss", "kl_estimator": "k3"},
    "coupled_grpo": TOKENS
    | ELBO
    | WIDE_CLIP
    | {"advantage": "group_leave_one_out", "masking": "coupled", "mask_draws": 1}
    | {"mask_share_low": 0.2, "mask_share_high": 0.8}
    | {"kl_placement": "loss", "kl_estimator": "k3", "kl_weight": 0.01},
    "espo": ELBO
    | {"advantage": "group_mean", "ratio": "sequence", "surrogate": "clipped"}
    | {"clip_low": 0.2, "clip_high": 0.2, "aggregation": "sequence_mean_token_mean"}
    | {"masking": "complementary", "mask_draws": 2}
    | {"kl_placement": "loss", "kl_estimator": "k2_sequence", "kl_weight": 1e-2},
    "gdpo": NO_KL
    | ELBO
    | WIDE_CLIP
    | {"advantage": "group_mean", "ratio": "sequence"}
    | {"aggregation": "sequence_mean_token_mean", "masking": "quadrature", "mask_draws": 3},
    "tracerl": ZSCORE
    | ELBO
    | {"ratio": "token", "surrogate": "clipped_old_kl", "clip_low": 0.2, "clip_high": 0.2}
    | {"old_kl_weight": 0.01, "aggregation": "sequence_mean_token_scale", "kl_placement": "none"}
    | {"masking": "trajectory", "mask_draws": 64, "trajectory_shrink": 1},
    "tracerl_value": ELBO
    | {"ratio": "token", "surrogate": "clipped_old_kl", "clip_low": 0.2, "clip_high": 0.2}
    | {"old_kl_weight": 0.01, "aggregation": "sequence_mean_token_scale", "kl_placement": "none"}
    | {"masking": "trajectory", "mask_draws": 64, "trajectory_shrink": 1, "value_clip": 0.2}
    | {"segmentation": "trajectory", "advantage": "trajectory_gae", "gamma": 1.0}
    | {"value_target": "trajectory_returns", "gae_lambda": 1.0, "advantage_epsilon": 1e-6},
    "hpt": NO_KL
    | {"advantage": "group_mean", "ratio": "token", "surrogate": "unclipped"}
    | {"aggregation": "sequence_mean_token_scale", "entropy_weight": 1e-3}
    | {"demonstrations": "switch", "switch_threshold": 0.0, "supervised_weight": 1.0},
    "guide_grpo": CLIPPED
    | ZSCORE
    | NO_KL
    | {"demonstrations": "guided", "guided_cap": None, "aggregation": "sequence_mean_token_mean"},
    "scaf_grpo": CLIPPED
    | ZSCORE
    | NO_KL
    | {"demonstrations": "scaffolded", "exempt_share": 0.15, "hint_levels": 12}
    | {"aggregation": "sequence_mean_token_mean", "entropy_weight": 0.0},
    "luffy": NO_KL
    | {"advantage": "group_mean", "ratio": "token", "surrogate": "unclipped"}
    | {"demonstrations": "in_group", "shaping": 0.1, "demonstration_nll": 0.0},
    # hpt.md: 0.5 exp(-H) of the supervised term, 0.1 exp(H) of right samples, -1 of wrong ones.
    "srft": NO_KL
    | {"advantage": "signed_beside_demonstrations", "token_weight": "srft", "srft_right": 0.1}
    | {"ratio": "token", "surrogate": "unclipped"}
    | {"demonstrations": "in_group", "shaping": None, "demonstration_nll": 0.5},
    "bradley_terry": {
        "reward_loss": "bradley_terry",
        "score_margin": 0.0,
        "center_weight": 0.0,
        "label_smoothing": 0.0,
        "representation": "none",
    },
    "rated_margin": {
        "reward_loss": "rated_margin",
        "margin_scale": 1.0,
        "center_weight": 0.0,
        "label_smoothing": 0.0,
        "representation": "none",
    },
    "goal_conditioned": {"reward_loss": "bradley_terry", "representation": "goal_conditioned"}
    | {"goal_weight": 0.5, "goal_samples": 16, "goal_average": False}
    | {"source_percentile": 0.0, "goal_percentile": 0.0},
    "causal_reward": {"reward_loss": "bradley_terry", "representation": "length_invariance"}
    | {"invariance_weight": 1.0, "invariance_bins": 4, "conditional": True},
    "binary_reward": {"reward_loss": "binary", "representation": "none", "positive_weight": 1.0},
    "process_reward": {"reward_loss": "step_binary", "representation": "none"}
    | {"last_step_only": False},
    "generative_reward": {"reward_loss": "verdict", "representation": "none"},
    "reward_regression": {"reward_loss": "regression", "representation": "none"},
    "all_pairs": {"reward_loss": "all_pairs", "representation": "none"},
    "plackett_luce": {"reward_loss": "plackett_luce", "representation": "none"},
    "dpo": PLAIN | {"link": "logistic", "beta": 0.1, "label_smoothing": 0.0},
    "cdpo": PLAIN | {"link": "logistic", "beta": 0.1, "label_smoothing": 0.1},
    "robust_dpo": PLAIN | {"link": "robust", "beta": 0.1, "label_smoothing": 0.1},
    "dpo_norm": PLAIN | {"link": "logistic_per_token", "beta": 5.0, "label_smoothing": 0.0},
    "ld_dpo": PLAIN | {"score": "length_desensitised", "link": "logistic", "tail_weight": 0.5},
    "ipo": PLAIN | {"link": "squared_per_token"},
    "ipo_sum": PLAIN | {"link": "squared"},
    "hinge": PLAIN | {"link": "hinge", "beta": 0.05},
    "exo": PLAIN | {"link": "exo", "beta": 0.1, "label_smoothing": 1e-3},
    "nca": PLAIN | {"link": "nca", "beta": 0.01},
    "bco_pair": PLAIN | {"link": "binary", "beta": 0.01},
    "sppo": PLAIN | {"link": "squared_sides", "beta": 1e-3},
    "aot": PLAIN | {"link": "aot", "beta": 0.01, "label_smoothing": 0.0},
    "aot_unpaired": PLAIN | {"link": "aot_unpaired", "beta": 0.01, "label_smoothing": 0.0},
    "apo_zero": PLAIN | {"link": "apo_zero", "beta": 0.1},
    "apo_down": PLAIN | {"link": "apo_down", "beta": 0.1},
    "discopop": PLAIN | {"link": "discovered", "beta": 0.05, "blend_temperature": 0.05},
    "f_dpo": PLAIN | {"score": "jensen_shannon", "link": "logistic"},
    "chi_po": PLAIN | {"score": "chi_squared", "link": "logistic_clipped"},
    "rpo": PLAIN | {"link": "logistic", "chosen_nll": "sequence_mean", "nll_weight": 1.0},
    "codpo": PLAIN | {"link": "logistic", "chosen_nll": "sequence_mean", "beta": 0.1},
    "vrpo": PLAIN
    | {"link": "logistic", "beta": 0.2, "chosen_nll": "sequence_mean", "nll_weight": 0.05}
    | {"likelihood": "elbo", "masking": "bernoulli", "mask_draws": 8},
    "mpo": PLAIN
    | {"link": "logistic", "link_weight": 0.8, "second_link": "binary", "second_weight": 0.2}
    | {"chosen_nll": "token_mean", "nll_weight": 1.0},
    "wpo": PLAIN | {"link": "logistic", "beta": 0.01, "pair_weight": "wpo"},
    "cpo": PLAIN
    | {"score": "log_likelihood", "link": "logistic", "beta": 0.1, "label_smoothing": 0.0}
    | {"chosen_nll": "token_mean", "nll_weight": 1.0},
    "simpo": PLAIN
    | {"score": "mean_log_likelihood", "link": "logistic_with_margin", "beta": 2.0}
    | {"target_margin": 1.0, "label_smoothing": 0.0},
    "alphapo": PLAIN
    | {"score": "alpha_likelihood", "alpha": 0.25, "link": "logistic_with_margin", "beta": 2.5}
    | {"target_margin": 0.1},
    "orpo": PLAIN
    | {"score": "mean_log_likelihood", "link": "odds_ratio", "link_weight": 0.1}
    | {"chosen_nll": "token_mean", "nll_weight": 1.0},
    "genarm": PLAIN
    | {"score": "log_likelihood", "link": "logistic_with_margin", "beta": 0.05}
    | {"target_margin": 0.0, "label_smoothing": 0.0},
    # The soft update with the figures of the paper.
    "tr_dpo": PLAIN
    | {"link": "logistic", "beta": 0.05, "reference_update": "moving"}
    | {"reference_update_steps": 512, "reference_mixup": 0.6},
    # The link of the group's margins; beta is DPO's and IPO's, as the paper's was not seen.
    "mdpo": PLAIN | {"link": "logistic", "beta": 0.1, "group_estimator": "plugin"},
    "mipo": PLAIN | {"link": "squared", "beta": 0.1, "group_estimator": "unbiased"},
    "copg": PLAIN | {"link": "contrastive", "beta": 0.06, "group_estimator": "none"},
    "kto": {"link": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
    "apo_zero_unpaired": {"link": "apo_zero_unpaired", "beta": 0.1},
    "bco": {"link": "bco", "beta": 0.01},
    "step_kto": {"link": "step_kto", "beta": 0.1, "desirable_weight": 1.0}
    | {"undesirable_weight": 1.0, "outcome_weight": 1.0, "step_weight": 1.0}
    | {"step_reduction": "mean", "first_error_only": False, "step_baseline_from": "mismatched"},
    "jepo_single": {"bound": "single_sample", "kl_placement": "loss", "kl_weight": 1e-3},
    "jepo": {"bound": "multi_sample", "kl_placement": "loss", "kl_weight": 1e-3},
    "jepo_rloo": {"bound": "multi_sample", "verifier": "switch", "kl_weight": 1e-3},
    "ra3": {"bound": "single_sample", "thought_cost": 0.05, "supervised_weight": 1.0}
    | {"answer_phrase": "\n", "answer_end": "", "format_penalty": 1.0, "kl_placement": "none"},
    "verifree": {"bound": "probability", "norm_scope": "none", "supervised_weight": 1.0} | NO_KL,
    "trice": {"posterior": "chain", "control_variate": "leave_one_out", "guide": "hinted"},
    "trice_basic": {"posterior": "chain", "control_variate": "none", "guide": "hinted"},
    "posterior_fresh": {"posterior": "fresh", "control_variate": "none", "guide": "none"},
    "eggroll": {"fitness": "group_mean", "fitness_epsilon": 1e-5, "sigma": 1e-3, "rank": 1}
    | {"noise_reuse": 1, "freeze_vectors": True},
}

# Methods with a KL to the stage's start, or a reward relative to it.
USES_REFERENCE = {
    *("mu_ppo", "xi_ppo", "grpo_gradient_weighted"),
    *(
        "grpo",
        "grpo_without_ties",
        "dump",
        "gain_rl",
        "raft_plus_plus",
        "gvm_raft_plus_plus",
        "gvm_grpo",
        "reinforce_pp",
        "reinforce_pp_baseline",
        "dler",
        "da_dler",
        "tokenbuncher",
    ),
    *("ppo_plus_plus", "aggrevated", "lols", "d2lols"),
    *("ppo", "ma_rlhf", "spo_chain", "spo_tree", "vineppo", "dpo", "jepo", "jepo_single"),
    "jepo_rloo",
    *("cdpo", "robust_dpo", "dpo_norm", "ld_dpo", "ipo", "ipo_sum", "hinge", "exo", "nca"),
    *("bco_pair", "sppo", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "f_dpo"),
    *("sft_kl", "asft", "diffu_grpo", "unigrpo", "coupled_grpo", "espo", "vrpo"),
    *("chi_po", "rpo", "mpo", "wpo", "kto", "apo_zero_unpaired", "bco", "mdpo", "mipo", "copg"),
    *("copg_on_policy", "step_kto", "tr_dpo", "crpg", "crraft", "codpo", "grpo_components"),
}


def test_every_method_has_an_expectation():
    assert set(EXPECTED) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_presets_are_those_of_the_papers(name):
    found = resolve_objective(name, {}).as_dict()
    assert {field: found[field] for field in EXPECTED[name]} == EXPECTED[name]


def test_the_table_says_what_reads_a_reference():
    for row in method_table():
        assert ("reference policy" in row["needs"]) == (row["method"] in USES_REFERENCE)
