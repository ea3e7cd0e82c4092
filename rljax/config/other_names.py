"""What settings of other libraries are called here.

The table is part of configs/README.md, and an unknown field that stands in it is answered with our
name.
"""

from typing import NamedTuple


class OtherName(NamedTuple):
    """A setting of another library.

    Attributes:
        theirs: its last name, as in `trl` (GRPOConfig and others), `verl` (actor_rollout_ref.*),
            `OpenRLHF` (flags) or `tunix`.
        stack: which of them call it that.
        ours: our field, STAGE standing for the name of a stage; "" where there is none.
        note: what differs, or what to do instead.
    """

    theirs: str
    stack: str
    ours: str
    note: str = ""


_UPDATE = "in sequences of an update: prompts x samples, over all devices"
_PASS = "in sequences of a forward and backward pass, over all devices"

OTHER_NAMES = (
    OtherName("num_generations", "TRL, tunix", "config.STAGE.batch.samples_per_prompt"),
    OtherName("rollout.n", "verl", "config.STAGE.batch.samples_per_prompt"),
    OtherName("n_samples_per_prompt", "OpenRLHF", "config.STAGE.batch.samples_per_prompt"),
    OtherName("train_batch_size", "verl", "config.STAGE.batch.prompts_per_step"),
    OtherName("rollout_batch_size", "OpenRLHF", "config.STAGE.batch.prompts_per_step"),
    OtherName(
        "steps_per_generation",
        "TRL",
        "config.STAGE.batch.sequences_per_update",
        "a step's sequences divided by it",
    ),
    OtherName(
        "per_device_train_batch_size", "TRL", "config.STAGE.batch.sequences_per_micro_batch", _PASS
    ),
    OtherName(
        "gradient_accumulation_steps",
        "TRL",
        "config.STAGE.batch.sequences_per_micro_batch",
        "sequences_per_update divided by it",
    ),
    OtherName(
        "ppo_mini_batch_size",
        "verl",
        "config.STAGE.batch.sequences_per_update",
        "verl counts prompts: times samples_per_prompt",
    ),
    OtherName("mini_batch_size", "tunix", "config.STAGE.batch.sequences_per_update", _UPDATE),
    OtherName(
        "ppo_micro_batch_size_per_gpu",
        "verl",
        "config.STAGE.batch.sequences_per_micro_batch",
        _PASS,
    ),
    OtherName(
        "micro_train_batch_size", "OpenRLHF", "config.STAGE.batch.sequences_per_micro_batch", _PASS
    ),
    OtherName(
        "train_micro_batch_size", "tunix", "config.STAGE.batch.sequences_per_micro_batch", _PASS
    ),
    OtherName("num_iterations", "TRL, tunix", "config.STAGE.batch.epochs_per_step"),
    OtherName("ppo_epochs", "verl", "config.STAGE.batch.epochs_per_step"),
    OtherName("max_steps", "TRL, tunix", "config.STAGE.steps"),
    OtherName("total_training_steps", "verl", "config.STAGE.steps"),
    OtherName(
        "num_train_epochs",
        "TRL",
        "config.STAGE.steps",
        "in steps: epochs x problems / prompts_per_step",
    ),
    OtherName(
        "total_epochs",
        "verl",
        "config.STAGE.steps",
        "in steps: epochs x problems / prompts_per_step",
    ),
    OtherName("max_completion_length", "TRL", "config.STAGE.sampling.max_new_tokens"),
    OtherName("max_response_length", "verl", "config.STAGE.sampling.max_new_tokens"),
    OtherName("generate_max_len", "OpenRLHF", "config.STAGE.sampling.max_new_tokens"),
    OtherName("total_generation_steps", "tunix", "config.STAGE.sampling.max_new_tokens"),
    OtherName("max_prompt_length", "TRL, verl, tunix", "config.data.max_prompt_tokens"),
    OtherName("prompt_max_len", "OpenRLHF", "config.data.max_prompt_tokens"),
    OtherName("max_length", "TRL (SFT)", "config.STAGE.data.row_tokens"),
    OtherName(
        "max_length",
        "TRL (DPO, CPO, KTO, reward)",
        "config.STAGE.data.max_completion_tokens",
        "and data.max_prompt_tokens, instead of their sum",
    ),
    OtherName(
        "truncation_mode",
        "TRL",
        "config.STAGE.data.truncation",
        "'keep_end_of_prompt' or 'keep_start_of_prompt'; answers are never cut",
    ),
    OtherName("packing", "TRL (SFT)", "config.STAGE.data.packed"),
    OtherName(
        "completion_only_loss", "TRL (SFT)", "", "of prompt and completion the latter is learned"
    ),
    OtherName(
        "assistant_only_loss",
        "TRL (SFT)",
        "config.STAGE.data.learn",
        "'all' of the assistant's messages, or the 'last' one",
    ),
    OtherName(
        "precompute_ref_log_probs",
        "TRL (DPO, KTO, BCO)",
        "config.STAGE.data.reference_cache",
        "a folder that keeps them",
    ),
    OtherName("temperature", "all", "config.STAGE.sampling.temperature"),
    OtherName("top_p", "all", "config.STAGE.sampling.top_p"),
    OtherName("top_k", "all", "config.STAGE.sampling.top_k", "0 keeps all tokens, not -1"),
    OtherName(
        "beta",
        "TRL, tunix (GRPO)",
        "config.STAGE.objective.kl_weight",
    ),
    OtherName("beta", "TRL (DPO, CPO, KTO, BCO)", "config.STAGE.objective.beta"),
    OtherName(
        "beta",
        "TRL (GKD)",
        "config.STAGE.objective.other_share",
        "its ends are divergence='forward_kl' for 0 and 'reverse_kl' for 1",
    ),
    OtherName("lmbda", "TRL (GKD)", "config.STAGE.objective.on_policy_share"),
    OtherName("seq_kd", "TRL (GKD)", "config.STAGE.objective.off_policy", "'teacher'"),
    OtherName("teacher_model_name_or_path", "TRL (GKD)", "config.STAGE.models.teacher.start_from"),
    OtherName("label_smoothing", "TRL (DPO, CPO)", "config.STAGE.objective.label_smoothing"),
    OtherName(
        "f_divergence_type",
        "TRL (DPO)",
        "config.STAGE.objective.score",
        "reverse_kl is 'log_ratio', js_divergence 'jensen_shannon'; the others have their names",
    ),
    OtherName(
        "rpo_alpha",
        "TRL (DPO)",
        "config.STAGE.objective.nll_weight",
        "with chosen_nll='token_mean'",
    ),
    OtherName("cpo_alpha", "TRL (CPO)", "config.STAGE.objective.nll_weight", "of cpo"),
    OtherName("simpo_gamma", "TRL (CPO)", "config.STAGE.objective.target_margin"),
    OtherName("ld_alpha", "TRL (DPO)", "config.STAGE.objective.tail_weight", "of ld_dpo"),
    OtherName("use_weighting", "TRL (DPO)", "config.STAGE.objective.pair_weight", "'wpo'"),
    OtherName(
        "loss_weights",
        "TRL (DPO)",
        "config.STAGE.objective.link_weight",
        "then second_weight of second_link, and nll_weight of chosen_nll",
    ),
    OtherName("center_rewards_coefficient", "TRL (reward)", "config.STAGE.objective.center_weight"),
    OtherName("kl_coef", "TRL, verl", "config.STAGE.objective.kl_weight", "kl_placement='reward'"),
    OtherName("kl_loss_coef", "verl", "config.STAGE.objective.kl_weight", "kl_placement='loss'"),
    OtherName("init_kl_coef", "OpenRLHF", "config.STAGE.objective.kl_weight"),
    OtherName(
        "use_kl_loss", "verl, OpenRLHF", "config.STAGE.objective.kl_placement", "'loss' or 'none'"
    ),
    OtherName("use_kl_in_reward", "verl", "config.STAGE.objective.kl_placement", "'reward'"),
    OtherName(
        "kl_loss_type",
        "verl",
        "config.STAGE.objective.kl_estimator",
        "low_var_kl is k3, kl is k1, mse is k2",
    ),
    OtherName("epsilon", "TRL, tunix", "config.STAGE.objective.clip_low", "and clip_high"),
    OtherName("epsilon_high", "TRL, tunix", "config.STAGE.objective.clip_high"),
    OtherName("cliprange", "TRL (PPO)", "config.STAGE.objective.clip_low", "and clip_high"),
    OtherName("clip_ratio", "verl", "config.STAGE.objective.clip_low", "and clip_high"),
    OtherName("clip_ratio_low", "verl", "config.STAGE.objective.clip_low"),
    OtherName("clip_ratio_high", "verl", "config.STAGE.objective.clip_high"),
    OtherName("clip_ratio_c", "verl", "config.STAGE.objective.dual_clip"),
    OtherName("delta", "TRL", "config.STAGE.objective.dual_clip"),
    OtherName("eps_clip", "OpenRLHF", "config.STAGE.objective.clip_low", "and clip_high"),
    OtherName(
        "loss_type",
        "TRL",
        "config.STAGE.objective.aggregation",
        "grpo: sequence_mean_token_mean, bnpo and dapo: token_mean, dr_grpo: "
        "sequence_mean_token_scale; or a method of that name",
    ),
    OtherName("loss_agg_mode", "verl", "config.STAGE.objective.aggregation"),
    OtherName(
        "scale_rewards",
        "TRL",
        "config.STAGE.objective.advantage",
        "False is group_mean, True is group_zscore",
    ),
    OtherName("norm_adv_by_std_in_grpo", "verl", "config.STAGE.objective.advantage"),
    OtherName(
        "adv_estimator", "verl", "config.STAGE.method", "grpo, rloo, ppo (gae), remax and others"
    ),
    OtherName("advantage_estimator", "OpenRLHF, tunix", "config.STAGE.method"),
    OtherName(
        "importance_sampling_level",
        "TRL",
        "config.STAGE.objective.ratio",
        "token or sequence",
    ),
    OtherName("entropy_coeff", "verl", "config.STAGE.objective.entropy_weight"),
    OtherName("entropy_coef", "TRL", "config.STAGE.objective.entropy_weight"),
    OtherName(
        "mask_truncated_completions",
        "TRL",
        "config.STAGE.objective.selection",
        "'finished'",
    ),
    OtherName("filter_groups", "verl", "config.STAGE.objective.group_filter"),
    OtherName("lr", "verl, tunix", "config.STAGE.optimizer.learning_rate"),
    OtherName("actor_learning_rate", "OpenRLHF", "config.STAGE.optimizer.learning_rate"),
    OtherName("critic_learning_rate", "OpenRLHF", "config.STAGE.critic.learning_rate"),
    OtherName("lr_scheduler_type", "TRL", "config.STAGE.optimizer.schedule"),
    OtherName("warmup_steps", "TRL", "config.STAGE.optimizer.warmup_updates"),
    OtherName("lr_warmup_steps", "verl", "config.STAGE.optimizer.warmup_updates"),
    OtherName("warmup_ratio", "TRL", "config.STAGE.optimizer.warmup_updates", "in updates"),
    OtherName("max_grad_norm", "TRL", "config.STAGE.optimizer.clip_norm"),
    OtherName("grad_clip", "verl", "config.STAGE.optimizer.clip_norm"),
    OtherName("adam_beta1", "TRL", "config.STAGE.optimizer.b1"),
    OtherName("adam_beta2", "TRL", "config.STAGE.optimizer.b2"),
    OtherName("adam_epsilon", "TRL", "config.STAGE.optimizer.epsilon"),
    OtherName("optim", "TRL", "config.STAGE.optimizer.name"),
    OtherName("model_name_or_path", "TRL", "config.model.init_from"),
    OtherName("model.path", "verl", "config.model.init_from"),
    OtherName("pretrain", "OpenRLHF", "config.model.init_from"),
    OtherName("torch_dtype", "TRL", "config.model.dtype", "of activations; param_dtype is another"),
    OtherName("bf16", "TRL, OpenRLHF", "config.model.dtype", "'bfloat16'"),
    OtherName("gradient_checkpointing", "TRL, OpenRLHF", "config.model.remat", "'full'"),
    OtherName("enable_gradient_checkpointing", "verl", "config.model.remat", "'full'"),
    OtherName("attn_implementation", "TRL", "config.model.attention"),
    OtherName("lora_r", "TRL", "config.model.lora.rank"),
    OtherName("lora_rank", "verl, OpenRLHF, tunix", "config.model.lora.rank"),
    OtherName("lora_alpha", "TRL, verl, OpenRLHF", "config.model.lora.alpha"),
    OtherName("lora_target_modules", "TRL", "config.model.lora.modules"),
    OtherName("tensor_model_parallel_size", "verl", "config.mesh.tensor"),
    OtherName("vllm_tensor_parallel_size", "TRL", "config.sampler.mesh.tensor"),
    OtherName("ulysses_sequence_parallel_size", "verl", "config.mesh.context"),
    OtherName("max_num_seqs", "verl", "config.sampler.slots"),
    OtherName("max_head_offpolicyness", "AReaL", "config.asynchronous.max_staleness"),
    OtherName("max_off_policy_steps", "prime-rl", "config.asynchronous.max_staleness"),
    OtherName("staleness_threshold", "verl", "config.asynchronous.max_staleness", "in steps"),
    OtherName("partial_rollout", "verl", "config.asynchronous.partial_tokens", "tokens of a piece"),
    OtherName("reward_funcs", "TRL", "config.scoring.rewards"),
    OtherName("reward_weights", "TRL", "config.scoring.rewards", "each one's 'weight'"),
    OtherName("train_files", "verl", "config.data.path"),
    OtherName("val_files", "verl", "config.data.heldout_path"),
    OtherName("prompt_key", "verl", "config.data.prompt_column"),
    OtherName("input_key", "OpenRLHF", "config.data.prompt_column"),
    OtherName("label_key", "OpenRLHF", "config.data.reference_column"),
    OtherName("eval_steps", "TRL, OpenRLHF", "config.evaluation.every_steps"),
    OtherName("test_freq", "verl", "config.evaluation.every_steps"),
    OtherName("eval_every_n_steps", "tunix", "config.evaluation.every_steps"),
    OtherName("save_steps", "TRL, OpenRLHF", "config.checkpoint.every_steps"),
    OtherName("save_freq", "verl", "config.checkpoint.every_steps"),
    OtherName("save_total_limit", "TRL", "config.checkpoint.keep"),
    OtherName("logging_steps", "TRL", "config.reporting.every_steps"),
    OtherName("report_to", "TRL", "config.reporting.writers"),
    OtherName("project_name", "verl", "config.reporting.wandb_project"),
    OtherName("output_dir", "TRL", "", "--workdir=DIR of launch/train.py"),
    OtherName("default_local_dir", "verl", "", "--workdir=DIR of launch/train.py"),
    OtherName("use_vllm", "TRL", "", "the sampler is part of rljax: leave it out"),
    OtherName(
        "gpu_memory_utilization", "TRL, verl, OpenRLHF", "", "sampler and trainer share memory"
    ),
    OtherName(
        "ref_model_sync_steps",
        "TRL",
        "",
        "the reference of a stage is its start: go on with another stage",
    ),
    OtherName(
        "sync_ref_model",
        "TRL",
        "",
        "the reference of a stage is its start: go on with another stage",
    ),
)


def hint(name: str, where: str) -> str:
    """What an unknown field is called here, as a sentence; "" where it is in no table.

    Args:
        name: that was not found.
        where: path of the section that it was looked for in.
    """
    stage = where.split(".")[1] if where.count(".") else "STAGE"
    said = []
    for theirs, stack, ours, note in OTHER_NAMES:
        path = ours.replace("STAGE", stage)
        if theirs.rpartition(".")[2] != name or path == f"{where}.{name}":
            continue
        here = f"is called {path} here" if ours else f"has no field here: {note}"
        more = f" ({note})" if ours and note else ""
        said.append(f"{name} of {stack} {here}{more}.")
    return " ".join(said)


def as_markdown() -> str:
    """The table, for configs/README.md."""
    lines = ["| name | of | here |", "| --- | --- | --- |"]
    for theirs, stack, ours, note in OTHER_NAMES:
        here = "; ".join(filter(None, [f"`{ours.removeprefix('config.')}`" if ours else "", note]))
        lines.append(f"| `{theirs}` | {stack} | {here} |")
    return "\n".join(lines) + "\n"
