"""The fields of a run, each with its default and its meaning. A config sets only what differs.

schema_model.py has those of config.model, schema_data.py those of config.data, schema_scoring.py
those of config.scoring, schema_environment.py those of config.environment, schema_stage.py those of
a stage.
"""

import dataclasses
import keyword
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.fields import MOST_ROWS, MOST_TOKENS, Field, Section
from rljax.config.schema_data import DATA
from rljax.config.schema_environment import ENVIRONMENT
from rljax.config.schema_model import MODEL
from rljax.config.schema_scoring import SCORING
from rljax.config.schema_stage import SAMPLING, STAGE
from rljax.data.chat import CLOCK
from rljax.data.control_tokens import RULES
from rljax.errors import shown
from rljax.processes.identity import LAST_PORT, MOST_PROCESSES
from rljax.processes.settings import DEFAULT_PORT

TOKENIZER: Section = {
    "path": Field(
        "",
        "'byte', or a local folder with Hugging Face tokenizer files; '': that of the model which "
        "the run starts from, 'byte' for one from scratch",
        path=True,
    ),
    "special_tokens": Field(
        (),
        "tags that are one token each, e.g. ('<answer>', '</answer>')",
        items=Field("", "a tag"),
    ),
    "add_bos": Field(
        None,
        "bos begins every prompt; by default as the tokenizer says for texts, and the chat "
        "template for conversations",
        value_type=bool,
    ),
    "control_tokens": Field(
        "token",
        "what becomes of control tokens spelt out in texts of rows: that token (as transformers "
        "does), the text that it looks like, or the row is refused",
        choices=RULES,
    ),
    "chat_turn": Field("", "a chat message, e.g. '{role}: {content}\\n'; '': the tokenizer's own"),
    "chat_generation_prompt": Field("", "with chat_turn: what precedes the model's own turn"),
    "template_options": Field(
        (), "variables of the chat template, e.g. (('enable_thinking', False),)"
    ),
    "clock": Field(CLOCK, "the date that chat templates are told, year-month-day"),
}

MESH: Section = {
    "data": Field(-1, "replicas of the parameters; -1 takes the devices that are left", minimum=-1),
    "fsdp": Field(1, "shards of parameters and optimizer state", minimum=-1),
    "expert": Field(1, "shards of the experts; rows are split over it too", minimum=-1),
    "context": Field(1, "shards of the positions of long rows", minimum=-1),
    "tensor": Field(1, "shards of heads, MLP and vocabulary", minimum=-1),
}

# Of networks with causal=False, whose samples are made by masked diffusion.
DIFFUSION: Section = {
    "block_tokens": Field(
        None,
        "positions of a block, which is filled before the next (default: all)",
        value_type=int,
        minimum=1,
        maximum=MOST_TOKENS,
    ),
    "steps": Field(
        None, "denoising steps in all (default: one for each position)", value_type=int, minimum=1
    ),
    "remasking": Field(
        None,
        "which draws are kept first (default: low_confidence)",
        value_type=str,
        choices=("low_confidence", "margin", "entropy", "left_to_right", "random"),
    ),
    "entropy_bound": Field(
        None,
        "nats of what is kept at once, beside its most uncertain position (default: as steps says)",
        value_type=float,
        minimum=0,
    ),
    "stop_confidence": Field(
        None,
        "how sure a stop token counts (default: model)",
        value_type=str,
        choices=("model", "zero", "excluded"),
    ),
    "cfg_scale": Field(
        None, "of classifier-free guidance (default 0: off)", value_type=float, minimum=0
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
        maximum=MOST_ROWS,
    ),
    "refill_every": Field(4, "with slots: steps between two looks at the queue", minimum=1),
    "shrink": Field(
        (2, 8),
        "rows left at the end move into the slots divided by these, in turn; (): never",
        items=Field(2, "a divisor", minimum=2),
    ),
    "prefill_tokens": Field(
        1024, "prompt tokens computed at a time, by each shard", minimum=1, maximum=MOST_TOKENS
    ),
    "weights": Field("", "the sampler's own: '' as trained", choices=("", "bfloat16", "int8")),
    "cache": Field("", "of keys and values: '' as activations", choices=("", "int8")),
    "gather_weights": Field(
        True, "the sampler's weights are whole over fsdp; False gathers them at every step"
    ),
    "mesh": {
        axis: Field(
            None,
            f"{axis} of the sampler's own mesh, over the devices of the run or its own ones",
            value_type=int,
            minimum=-1,
        )
        for axis in MESH
    },
    "diffusion": DIFFUSION,
}

# What overlaps sampling with training (training/ahead/).
ASYNCHRONOUS: Section = {
    "max_staleness": Field(
        0,
        "steps that a policy may have learned since it sampled what it learns from; 0: it samples "
        "anew in every step",
        minimum=0,
        maximum=1000,
        why="the sampler keeps the weights of as many steps",
    ),
    "schedule": Field(
        "fixed",
        "weights of the samples of step s: those after step s - 1 - max_staleness, so that a run "
        "repeats bit for bit; or the newest ones within max_staleness, which depends on timing",
        choices=("fixed", "latest"),
    ),
    "queue_steps": Field(
        0,
        "steps of experience that may wait for the trainer; 0: max_staleness of them",
        minimum=0,
        maximum=1000,
        why="all of them are part of every checkpoint",
    ),
    "sampler_devices": Field(
        0,
        "devices that only sample, the last ones of the run; 0: sampler and trainer have the same "
        "devices in turn",
        minimum=0,
    ),
    "transfer": Field(
        "direct",
        "how weights reach the sampler: from device to device, through host memory, or through "
        "files in transfer_folder",
        choices=("direct", "host", "storage"),
    ),
    "transfer_folder": Field(
        "", "with transfer='storage': a shared folder; '': WORKDIR/weights", path=True
    ),
    "offload_optimizer": Field(
        False, "the optimizer's state is in host memory while samples are drawn or awaited"
    ),
    "partial_tokens": Field(
        0,
        "tokens of a piece: samples pause after so many, and go on with newer weights; 0: whole "
        "samples are drawn with the same weights",
        minimum=0,
        maximum=MOST_TOKENS,
    ),
    "allow_uncorrected": Field(
        False, "a method without a correction for older weights may run, to be compared"
    ),
}

EVALUATION: Section = {
    "every_steps": Field(
        0, "evaluate inside a stage every so many steps; 0: at its ends", minimum=0
    ),
    "samples_per_prompt": Field(
        8, "k of pass@k and majority@k; 0: greedy only", minimum=0, maximum=MOST_ROWS
    ),
    "prompts_per_batch": Field(
        128, "held-out problems sampled at once", minimum=1, maximum=MOST_ROWS
    ),
    "max_new_tokens": Field(64, "T of evaluation samples", minimum=1, maximum=MOST_TOKENS),
    "temperature": Field(1.0, "of the k samples", minimum=0),
    "answer_samples": Field(
        0,
        "chains of thought of each held-out problem behind which the reference answer is scored, "
        "answer_nll (training/answer_evaluation.py); 0: not scored",
        minimum=0,
        maximum=MOST_ROWS,
    ),
    "answer_phrase": Field("<answer>", "answer_samples: ends the chain of thought"),
    "answer_end": Field("</answer>", "answer_samples: text between the answer and eos"),
    "max_answer_tokens": Field(
        16, "answer_samples: tokens of a reference answer", minimum=1, maximum=MOST_TOKENS
    ),
    **{
        name: dataclasses.replace(SAMPLING[name], doc=f"{SAMPLING[name].doc}; default: the stage's")
        for name in ("stop_strings", "logit_bias", "forbidden_tokens")
    },
}

CHECKPOINT: Section = {
    "every_steps": Field(50, "save every so many steps; a stage's end is always saved", minimum=1),
    "keep": Field(2, "latest checkpoints kept per stage, besides the best one", minimum=1),
    "folder": Field(
        "",
        "where checkpoints go, gs://BUCKET/PATH, which no other run uses; '': WORKDIR/checkpoints",
        path=True,
    ),
    "grace_seconds": Field(
        0.0,
        "after SIGTERM or a notice: a step that has not ended and been saved by then is given up, "
        "the last checkpoint counts; 0: however long it takes",
        minimum=0,
        maximum=86_400,
        why="a day",
    ),
    "notice": Field(
        "",
        "what tells that the machine will be taken away, besides SIGTERM: 'gce' (the metadata "
        "server of Google's virtual machines), or a file that then appears; '': nothing",
        path=True,
    ),
}

REPORTING: Section = {
    "wandb_project": Field("rljax", "Weights & Biases project"),
    "writers": Field(
        ("jsonl", "tensorboard"),
        "out of jsonl (needed), tensorboard, wandb",
        items=Field("", "a writer"),
    ),
    "every_steps": Field(1, "read metrics from the device every so many steps", minimum=1),
    "rollout_prompts": Field(
        8, "prompts kept in a rollout file of the report", minimum=0, maximum=100_000
    ),
}

PROCESSES: Section = {
    "count": Field(
        None,
        "processes of the run; by default as what starts them says; 1: alone, whatever it says",
        value_type=int,
        minimum=1,
        maximum=MOST_PROCESSES,
        why="process 0 has a connection to each",
    ),
    "id": Field(None, "of this process, from 0; differs for each", value_type=int, minimum=0),
    "coordinator": Field("", "name or address of the machine of process 0"),
    "port": Field(
        None,
        f"of jax's coordinator there (default {DEFAULT_PORT})",
        value_type=int,
        minimum=1,
        maximum=LAST_PORT,
        why="ports have 16 bits",
    ),
    "roll_call_port": Field(
        None,
        "of the roll call there (default: the one after port)",
        value_type=int,
        minimum=1,
        maximum=LAST_PORT,
        why="ports have 16 bits",
    ),
    "connect_seconds": Field(60.0, "within which all processes have come", above=0, maximum=86_400),
    "lost_seconds": Field(
        60.0, "without a sign of life after which a process is lost", minimum=2, maximum=86_400
    ),
    "step_seconds": Field(
        1800.0,
        "that one part of a step may take (sampling, update, evaluation, ...) until the process "
        "counts as hung; 0: no limit",
        minimum=0,
        maximum=10_000_000,
    ),
    "compile_seconds": Field(
        3600.0, "the same where programs are compiled first", minimum=0, maximum=10_000_000
    ),
}

SAFETY: Section = {
    "max_skipped_in_a_row": Field(5, "non-finite updates in a row that stop the run", minimum=1),
}

CHECKS: Section = {
    "tokens": Field(True, "ids of prompt and completion together are those of the whole text"),
    "ends": Field(True, "the token that ends a completion is learned"),
    "logprobs": Field(True, "log-probabilities are finite and <= 0; the layer that is not, named"),
    "sampler_gap": Field(True, "sampler and trainer agree within the rounding of the dtype"),
    "ratio": Field(True, "before any update the policy is the one that the step started from"),
    "closed_form": Field(True, "losses and KL where the policy is still what its reference is"),
    "example": Field(True, "one example is shown, and kept in the report"),
}

ROOT: Section = {
    "name": Field("run", "of the experiment; part of the default workdir", path=True),
    "seed": Field(
        0,
        "of everything random",
        minimum=0,
        maximum=2**32 - 1,
        why="keys hold 32 bits of it: seeds beyond would repeat the first ones",
    ),
    "stages": Field(
        (), "stages in order; each is a section of the config", items=Field("", "a name")
    ),
    "model": MODEL,
    "tokenizer": TOKENIZER,
    "mesh": MESH,
    "processes": PROCESSES,
    "sampler": SAMPLER,
    "asynchronous": ASYNCHRONOUS,
    "data": DATA,
    "environment": ENVIRONMENT,
    "scoring": SCORING,
    "evaluation": EVALUATION,
    "checkpoint": CHECKPOINT,
    "reporting": REPORTING,
    "safety": SAFETY,
    "checks": CHECKS,
}


# Names that a resolved config, as saved, has besides its sections.
SAVED = ("network", "points", "seeds")


def check_stages(stages: Any, sections: Mapping[str, Any]) -> None:
    """Raises ValueError unless `stages` are different names, each with a section of its own."""
    if not isinstance(stages, list | tuple) or not stages:
        raise ValueError(
            f"stages must be a tuple of one or more names, got {shown(stages)} (config.stages)."
        )
    for stage in stages:
        if not can_name_stage(stage):
            raise ValueError(
                f"{shown(stage)} cannot name a stage: it must be an identifier of at most 64 "
                f"letters, and none of {', '.join((*ROOT, *SAVED))} (config.stages)."
            )
        if not isinstance(sections.get(stage), Mapping | ConfigDict):
            raise ValueError(
                f"Stage {stage!r} has no section: set c.{stage} = dict(method=..., ...) "
                "(config.stages)."
            )
    if len(set(stages)) != len(stages):
        raise ValueError(
            f"Stages must have different names, got {tuple(stages)!r} (config.stages)."
        )


def can_name_stage(name: Any) -> bool:
    """Whether a name can be an attribute of the config, and a folder of checkpoints."""
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 64:
        return False
    taken = name in ROOT or name in SAVED or hasattr(ConfigDict, name)
    return not (taken or keyword.iskeyword(name) or name.startswith("_"))


def schema_for(stages: tuple[str, ...]) -> Section:
    """The schema of a config with these stages."""
    return {**ROOT, **{stage: STAGE for stage in stages}}
