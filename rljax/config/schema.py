"""Every config field with its default and its meaning. A config file sets only what differs.

A default of None in a stage means "what the method or the family says"; such a field may be set
only where the chosen method reads it (config/resolve.py).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.models.config import CHOICES
from rljax.registry import FAMILIES, field_doc, objective_fields


@dataclasses.dataclass(frozen=True)
class Field:
    """One config field.

    Attributes:
        default: its value where the config says nothing.
        doc: meaning and unit.
        value_type: needed where the default is None.
        choices: allowed values, if few.
        minimum: smallest allowed number, if any.
    """

    default: Any
    doc: str
    value_type: type | None = None
    choices: tuple = ()
    minimum: float | None = None

    @property
    def kind(self) -> type:
        """The type of a value."""
        return self.value_type or type(self.default)


Section = Mapping[str, "Field | Section"]

ROPE_SCALING: Section = {
    "kind": Field("", "'': none; linear, llama3 or yarn"),
    "factor": Field(None, "how much longer the context becomes", value_type=float, minimum=1),
    "original_positions": Field(None, "llama3, yarn: the first context", value_type=int, minimum=1),
    "low_frequency_factor": Field(None, "llama3: where blending begins", value_type=float),
    "high_frequency_factor": Field(None, "llama3: where blending ends", value_type=float),
    "beta_fast": Field(None, "yarn: rotations where blending begins", value_type=float),
    "beta_slow": Field(None, "yarn: rotations where blending ends", value_type=float),
    "attention_factor": Field(None, "yarn: of cosines and sines; 0: its formula", value_type=float),
}

LORA: Section = {
    "rank": Field(0, "r; 0: no adapters, everything is trained", minimum=0),
    "alpha": Field(None, "adapters are scaled by alpha / r; by default r", value_type=float),
    "rank_stabilised": Field(None, "scale by alpha / sqrt(r) instead (rsLoRA)", value_type=bool),
    "modules": Field(None, "out of query, key, value, out, gate, up, down", value_type=tuple),
    "kind": Field(
        None, "lora, or lora_sb: trains r x r numbers between fixed bases", value_type=str
    ),
    "base": Field(None, "the frozen matrices: full, int8 or nf4", value_type=str),
}

# The shape of the network. None: what the preset or the checkpoint says, else the small default.
SHAPE: Section = {
    "vocab_size": Field(None, "tokens; by default the tokenizer's", value_type=int, minimum=1),
    "layers": Field(None, "transformer blocks (default 4)", value_type=int, minimum=1),
    "width": Field(None, "size of the residual stream (default 128)", value_type=int, minimum=1),
    "heads": Field(None, "query heads (default 4)", value_type=int, minimum=1),
    "kv_heads": Field(
        None, "key-value heads; divides heads (default 2)", value_type=int, minimum=1
    ),
    "head_dim": Field(None, "size of a head (default width / heads)", value_type=int, minimum=1),
    "mlp_width": Field(
        None, "hidden size of the gated MLP (default 3 * width)", value_type=int, minimum=1
    ),
    "activation": Field(None, "of the MLP's gate: silu or gelu_tanh", value_type=str),
    "tied_embeddings": Field(None, "output matrix = embedding matrix", value_type=bool),
    "embedding_scale": Field(None, "multiplies embedded tokens", value_type=float),
    "causal": Field(None, "False: tokens see both ways", value_type=bool),
    "rope_base": Field(None, "base of the rotary positions", value_type=float, minimum=1),
    "rope_scaling": ROPE_SCALING,
    "local_rope_base": Field(None, "of layers with a window; 0: the same", value_type=float),
    "attention_bias": Field(None, "on query, key and value", value_type=bool),
    "query_key_norm": Field(None, "none, head or projection", value_type=str),
    "attention_scale": Field(None, "of the scores; 0: head_dim ** -0.5", value_type=float),
    "attention_softcap": Field(None, "c of c tanh(scores / c); 0: off", value_type=float),
    "sliding_window": Field(None, "tokens a local layer sees; 0: none is local", value_type=int),
    "global_every": Field(None, "every so many layers one is not local", value_type=int),
    "norm_epsilon": Field(None, "epsilon of RMSNorm", value_type=float, minimum=0),
    "norm_offset": Field(None, "added to the norms' scales (Gemma: 1)", value_type=float),
    "norm_placement": Field(None, "pre, post or both, of each sublayer", value_type=str),
    "logit_softcap": Field(None, "as attention_softcap, for the logits", value_type=float),
    "experts": Field(None, "of each MLP; 0: one dense MLP", value_type=int, minimum=0),
    "experts_per_token": Field(None, "experts that a token is sent to", value_type=int, minimum=1),
    "expert_width": Field(None, "hidden size of an expert", value_type=int, minimum=1),
    "router_score": Field(None, "softmax or sigmoid of the router's logits", value_type=str),
    "normalise_router": Field(None, "gates of the chosen experts sum to 1", value_type=bool),
}

MODEL: Section = {
    "preset": Field("", "a published shape by name (rljax/models/presets.py), e.g. qwen3_0_6b"),
    "init_from": Field(
        "",
        "weights to start from: a Hugging Face folder (its config.json then is the shape), or "
        "CHECKPOINTS/STAGE[/STEP] of another run",
    ),
    **SHAPE,
    "router_bias": Field(
        None, "a bias on the choice of experts, not on their gates", value_type=bool
    ),
    "router_bias_rate": Field(0.0, "its step after an update (arXiv:2408.15664)", minimum=0),
    "router_aux_weight": Field(0.0, "weight of the load-balancing loss", minimum=0),
    "dtype": Field("float32", "of activations", choices=("float32", "bfloat16")),
    "param_dtype": Field("float32", "of parameters", choices=("float32", "bfloat16")),
    "attention": Field(
        "auto",
        "kernel: auto takes splash on TPU, cudnn on GPU where it can, else dense",
        choices=("auto", "dense", "splash", "cudnn"),
    ),
    "decode_attention": Field(
        "auto",
        "kernel for what a row has written itself, token by token: auto takes ragged on TPU where "
        "it is expected to be faster, else dense",
        choices=("auto", "dense", "ragged"),
    ),
    "remat": Field(
        "none",
        "recomputed in the backward pass: nothing, all but matrix products, whole blocks, or whole "
        "blocks whose inputs wait in host memory (offload)",
        choices=("none", "dots", "full", "offload"),
    ),
    "lora": LORA,
}

TOKENIZER: Section = {
    "path": Field("byte", "'byte', or a local folder with Hugging Face tokenizer files"),
    "special_tokens": Field((), "tags that are one token each, e.g. ('<answer>', '</answer>')"),
    "add_bos": Field(False, "begin every prompt with the tokenizer's bos"),
    "chat_turn": Field("", "a chat message, e.g. '{role}: {content}\\n'; '': the tokenizer's own"),
    "chat_generation_prompt": Field("", "with chat_turn: what precedes the model's own turn"),
}

MESH: Section = {
    "data": Field(-1, "replicas of the parameters; -1 takes the devices that are left"),
    "fsdp": Field(1, "shards of parameters and optimizer state"),
    "expert": Field(1, "shards of the experts; rows are split over it too"),
    "context": Field(1, "shards of the positions of long rows"),
    "tensor": Field(1, "shards of heads, MLP and vocabulary"),
}

# Of networks with causal=False, whose samples are made by masked diffusion.
DIFFUSION: Section = {
    "mask_token": Field(
        None, "id of a position that is still to be filled; needed", value_type=int, minimum=0
    ),
    "block_tokens": Field(
        None, "positions of a block, which is filled before the next (default: all)", value_type=int
    ),
    "steps": Field(None, "denoising steps in all (default: one for each position)", value_type=int),
    "remasking": Field(
        None, "which draws are kept first: low_confidence (default) or random", value_type=str
    ),
    "stop_confidence": Field(
        None, "how sure a stop token counts: model (default), zero or excluded", value_type=str
    ),
    "cfg_scale": Field(
        None, "of classifier-free guidance (default 0: off)", value_type=float, minimum=0
    ),
    "shift_logits": Field(
        None, "position i is predicted by output i - 1 (default False)", value_type=bool
    ),
    "forbid_mask_token": Field(
        None, "the mask token cannot be drawn (default True)", value_type=bool
    ),
}

SAMPLER: Section = {
    "slots": Field(
        0,
        "rows decoded at a time on all devices; further samples wait, and take the place of those "
        "that end; 0: all at once",
        minimum=0,
    ),
    "refill_every": Field(4, "with slots: steps between two looks at the queue", minimum=1),
    "shrink": Field(
        (2, 8), "rows left at the end move into the slots divided by these, in turn; (): never"
    ),
    "prefill_tokens": Field(1024, "prompt tokens computed at a time, by each shard", minimum=1),
    "weights": Field("", "the sampler's own: '' as trained", choices=("", "bfloat16", "int8")),
    "cache": Field("", "of keys and values: '' as activations", choices=("", "int8")),
    "gather_weights": Field(
        True, "the sampler's weights are whole over fsdp; False gathers them at every step"
    ),
    "mesh": {
        axis: Field(None, f"{axis} of the sampler's own mesh over the same devices", value_type=int)
        for axis in MESH
    },
    "diffusion": DIFFUSION,
}

DATA: Section = {
    "kind": Field(
        "reasoning_gym",
        "where problems come from",
        choices=("reasoning_gym", "symbols", "jsonl", "parquet"),
    ),
    "tasks": Field(
        (),
        "reasoning_gym: ({'name', 'weight', 'parameters', 'prompt_pattern'}, ...); symbols: one, "
        "({'name', and fields of it},) (rljax/tasks/symbols/)",
    ),
    "prompt_pattern": Field("", "reasoning_gym: regex whose group 1 is kept as the prompt"),
    "answer_template": Field("<answer>{answer}</answer>", "how worked demonstrations end"),
    "worked_share": Field(
        1.0, "share of demonstrations with steps; others: answer only", minimum=0
    ),
    "train_seed": Field(
        0, "first item seed of the training problems; symbols: of the draws", minimum=0
    ),
    "heldout_seed": Field(10_000_000, "first item seed of the held-out problems", minimum=0),
    "train_size": Field(10_000, "reasoning_gym, symbols: number of training problems", minimum=1),
    "heldout_size": Field(256, "number of held-out problems evaluated", minimum=1),
    "path": Field("", "jsonl, parquet: training file"),
    "heldout_path": Field("", "jsonl, parquet: held-out file"),
    "prompt_column": Field("prompt", "jsonl, parquet: text, or a list of chat messages"),
    "reference_column": Field("reference", "jsonl, parquet: what the reward compares with"),
    "max_prompt_tokens": Field(64, "P; a longer prompt is an error", minimum=1),
}

SCORING: Section = {
    "rewards": Field(
        ({"name": "reasoning_gym"},),
        "({'name', 'weight', 'options', 'gate', 'as', 'right_at'}, ...); the first one judges",
    ),
    "workers": Field(2, "scoring processes; 0 scores in the main process", minimum=0),
    "timeout_seconds": Field(5.0, "per sample", minimum=0),
    "failure_reward": Field(0.0, "reward of a sample whose verifier raised or timed out"),
    "failed_samples": Field(
        "failure_reward",
        "they get that reward, or are left_out of their groups, as where no reward applies",
        choices=("failure_reward", "left_out"),
    ),
    "max_failed_share": Field(
        0.5, "share of a step's samples above which the run stops", minimum=0
    ),
    "try_first": Field(True, "ask the rewards about the first problem before anything compiles"),
}

EVALUATION: Section = {
    "every_steps": Field(
        0, "evaluate inside a stage every so many steps; 0: at its ends", minimum=0
    ),
    "samples_per_prompt": Field(8, "k of pass@k and majority@k; 0: greedy only", minimum=0),
    "prompts_per_batch": Field(128, "held-out problems sampled at once", minimum=1),
    "max_new_tokens": Field(64, "T of evaluation samples", minimum=1),
    "temperature": Field(1.0, "of the k samples", minimum=0),
}

CHECKPOINT: Section = {
    "every_steps": Field(50, "save every so many steps; a stage's end is always saved", minimum=1),
    "keep": Field(2, "latest checkpoints kept per stage, besides the best one", minimum=1),
}

REPORTING: Section = {
    "wandb_project": Field("rljax", "Weights & Biases project"),
    "writers": Field(("jsonl", "tensorboard"), "out of jsonl (needed), tensorboard, wandb"),
    "every_steps": Field(1, "read metrics from the device every so many steps", minimum=1),
    "rollout_prompts": Field(8, "prompts kept in a rollout file of the report", minimum=0),
}

SAFETY: Section = {
    "max_skipped_in_a_row": Field(5, "non-finite updates in a row that stop the run", minimum=1),
}

OPTIMIZER: Section = {
    "name": Field("adamw", "adamw, lion, rmsprop, sgd"),
    "learning_rate": Field(1e-3, "peak", minimum=0),
    "schedule": Field("constant", "constant, linear, cosine; over the updates of the stage"),
    "warmup_updates": Field(0, "updates of linear warm-up", minimum=0),
    "clip_norm": Field(1.0, "global gradient norm; 0 never clips", minimum=0),
    "b1": Field(None, "adamw, lion", value_type=float),
    "b2": Field(None, "adamw, lion", value_type=float),
    "epsilon": Field(None, "adamw, rmsprop", value_type=float),
    "weight_decay": Field(None, "adamw, lion", value_type=float),
    "moment_dtype": Field(
        None,
        "adamw, lion: of the first moment",
        value_type=str,
        choices=("float32", "bfloat16"),
    ),
    "decay": Field(None, "rmsprop: of the squared gradient's average", value_type=float),
    "momentum": Field(None, "sgd", value_type=float),
    "end_fraction": Field(None, "linear, cosine: last learning rate / peak", value_type=float),
}

BATCH: Section = {
    "prompts_per_step": Field(None, "prompts sampled in a step", value_type=int, minimum=1),
    "samples_per_prompt": Field(None, "G, samples of each prompt", value_type=int, minimum=1),
    "epochs_per_step": Field(None, "times a step's samples are used", value_type=int, minimum=1),
    "sequences_per_update": Field(
        None,
        "sequences (packed rows; a pair is two) in one optimizer update",
        value_type=int,
        minimum=1,
    ),
    "sequences_per_micro_batch": Field(
        None, "sequences in one forward and backward pass", value_type=int, minimum=1
    ),
    "share_prompts": Field(
        None,
        "one row holds a prompt and all its samples (a pair: both completions), so that the prompt "
        "is computed once; by default where whole groups fit into updates, micro-batches and mesh, "
        "and no fused attention kernel serves separate rows",
        value_type=bool,
    ),
}

SAMPLING: Section = {
    "max_new_tokens": Field(None, "T, tokens of a sample", value_type=int, minimum=1),
    "temperature": Field(
        None, "divides the logits, also in the trainer", value_type=float, minimum=0
    ),
    "top_k": Field(None, "0 keeps all", value_type=int, minimum=0),
    "top_p": Field(None, "1 keeps all", value_type=float, minimum=0),
    "min_p": Field(None, "0 keeps all", value_type=float, minimum=0),
    "entropy_theta": Field(
        None,
        "the temperature falls where the model is sure: temperature * 0.8 ** (theta / H), H the "
        "entropy of the step (arXiv:2403.14541); 0: constant",
        value_type=float,
        minimum=0,
    ),
    "logit_bias": Field(None, "((token id, what is added to its logit), ...)", value_type=tuple),
    "forbidden_tokens": Field(None, "ids that are never sampled", value_type=tuple),
    "stop_strings": Field(
        None, "texts that end a sample, also where they begin inside a token", value_type=tuple
    ),
}

STAGE_DATA: Section = {
    "source": Field(
        None,
        "problems (config.data), jsonl, parquet, or sampled_pairs",
        value_type=str,
        choices=tuple(
            dict.fromkeys(name for family in FAMILIES.values() for name in family.sources)
        ),
    ),
    "path": Field(None, "jsonl, parquet: the file", value_type=str),
    "heldout_path": Field(
        None, "reward: held-out pairs; '': the last tenth of the file", value_type=str
    ),
    "limit": Field(
        None, "supervised: use the first so many demonstrations", value_type=int, minimum=1
    ),
    "row_tokens": Field(None, "supervised: S, tokens of a packed row", value_type=int, minimum=2),
    "packed": Field(None, "supervised: several demonstrations in a row", value_type=bool),
    "max_completion_tokens": Field(
        None, "preference, reward: T of a completion", value_type=int, minimum=1
    ),
    "max_answer_tokens": Field(
        None, "evidence: tokens of a reference answer", value_type=int, minimum=1
    ),
    "pair_prompts": Field(None, "sampled_pairs: prompts sampled", value_type=int, minimum=1),
    "placeholder_pairs": Field(
        None,
        "sampled_pairs: where the samples give no pair at all, go on with made-up ones "
        "(set by :smoke, whose policy knows nothing) instead of stopping",
        value_type=bool,
    ),
}


CRITIC: Section = {
    "trunk": Field(
        None,
        "separate: a copy of the policy's trunk, trained; shared: a head on the policy's own",
        value_type=str,
        choices=("separate", "shared"),
    ),
    "learning_rate": Field(None, "peak, of the critic", value_type=float, minimum=0),
    "clip_norm": Field(None, "of the critic's gradient; 0 never clips", value_type=float),
    "warmup_updates": Field(
        None, "first updates of the critic alone, the policy as it is", value_type=int, minimum=0
    ),
}


def objective_section() -> Section:
    """Choices and fields of all families; None is the method's own value."""
    fields: dict[str, Field] = {}
    for family in FAMILIES:
        for name, field in objective_fields(family).items():
            fields[name] = Field(None, field_doc(family, name), value_type=field.type)
    return fields


NETWORK: Section = {
    "head": Field(
        None,
        "of the stage's network, on the trunk of config.model; by default that of what it starts "
        "from",
        value_type=str,
        choices=CHOICES["head"],
    ),
}

START = "a stage before this one, model (what config.model says), CHECKPOINTS/STAGE[/STEP] of "
START += "another run, or a published folder"

# The models that a stage reads besides its policy.
MODELS: Section = {
    "reference": {
        "start_from": Field(None, f"{START}; by default what the stage starts from", value_type=str)
    },
    "value": {
        "start_from": Field(
            None,
            f"critic with trunk='separate': {START}; by default the policy's trunk and a zero head",
            value_type=str,
        )
    },
    "reward": {
        "start_from": Field(
            None, f"whose score of a sample is its reward: {START}; by default none", value_type=str
        ),
        "weight": Field(None, "factor of its scores (default 1)", value_type=float),
        "text_weight": Field(
            None, "factor of config.scoring's rewards, added (default 0)", value_type=float
        ),
    },
    "teacher": {"start_from": Field(None, f"{START}; by default none", value_type=str)},
    "judge": {"start_from": Field(None, f"{START}; by default none", value_type=str)},
}

STAGE: Section = {
    "method": Field("", "a row of the method table (launch/methods.py)"),
    "steps": Field(100, "steps of the stage", minimum=1),
    "start_from": Field(
        "", "a stage before this one, or model (what config.model says); '': the one before"
    ),
    "network": NETWORK,
    "models": MODELS,
    "reference_kl": Field(
        None, "log the KL to the stage's start (one more forward)", value_type=bool
    ),
    "objective": objective_section(),
    "critic": CRITIC,
    "batch": BATCH,
    "sampling": SAMPLING,
    "data": STAGE_DATA,
    "optimizer": OPTIMIZER,
}

ROOT: Section = {
    "name": Field("run", "of the experiment; part of the default workdir"),
    "seed": Field(0, "of everything random", minimum=0),
    "stages": Field((), "stages in order; each is a section of the config"),
    "model": MODEL,
    "tokenizer": TOKENIZER,
    "mesh": MESH,
    "sampler": SAMPLER,
    "data": DATA,
    "scoring": SCORING,
    "evaluation": EVALUATION,
    "checkpoint": CHECKPOINT,
    "reporting": REPORTING,
    "safety": SAFETY,
}


def check_stages(stages: Any, sections: Mapping[str, Any]) -> None:
    """Raises ValueError unless `stages` are different names, each with a section of its own."""
    if isinstance(stages, str) or not stages:
        raise ValueError(
            f"stages must be a tuple of one or more names, got {stages!r} (config.stages)."
        )
    if len(set(stages)) != len(stages):
        raise ValueError(
            f"Stages must have different names, got {tuple(stages)!r} (config.stages)."
        )
    for stage in stages:
        # A stage's name is also that of its folder of checkpoints.
        if not isinstance(stage, str) or not stage.isidentifier() or stage in ROOT:
            raise ValueError(
                f"{stage!r} cannot name a stage: it must be an identifier and none of the other "
                f"sections {', '.join(ROOT)} (config.stages)."
            )
        if stage not in sections or not isinstance(sections[stage], Mapping | ConfigDict):
            raise ValueError(
                f"Stage {stage!r} has no section: set c.{stage} = dict(method=..., ...) "
                "(config.stages)."
            )


def schema_for(stages: tuple[str, ...]) -> Section:
    """The schema of a config with these stages."""
    return {**ROOT, **{stage: STAGE for stage in stages}}
