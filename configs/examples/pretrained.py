"""GRPO on a published model and problems of yours; a TPU slice, a GPU, or patience.

FOLDER is a Hugging Face checkpoint (Qwen 2.5 or 3, Llama 3, Gemma 2 or 3, OLMo 2, Qwen3 MoE) with
its tokenizer; TRAIN and HELDOUT are JSONL files with the columns `prompt` (text, or chat messages
for the tokenizer's own template) and `reference` (the answer, compared by math-verify):

    python launch/train.py \
        --config=configs/examples/pretrained.py:model=FOLDER,train=TRAIN,heldout=HELDOUT

Add `,lora` to train adapters on all projections instead of all parameters, at ten times the
learning rate. Parameters are split over all devices (`mesh.fsdp`); on a pod slice give some of them
to `mesh.tensor`. No figures are promised here: they depend on the model and the problems. Hand the
result back with

    python launch/export.py --checkpoint=WORKDIR/checkpoints/grpo --out=DIR
"""

from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "model=FOLDER,train=FILE,heldout=FILE[,lora]"."""
    given = read_arguments(
        arg, "configs/examples/pretrained.py", ("model", "train", "heldout"), {"lora": ""}
    )
    lora = bool(given["lora"])
    c = ConfigDict()
    c.name = "pretrained-lora" if lora else "pretrained"
    c.stages = ("grpo",)
    # Activations in bfloat16, parameters and moments in float32; blocks are recomputed.
    c.model = dict(init_from=given["model"], dtype="bfloat16", remat="full")
    if lora:
        c.model.lora = dict(rank=32, alpha=32.0)
    c.mesh = dict(data=1, fsdp=-1)
    c.tokenizer = dict(path=given["model"])
    c.data = dict(
        kind="jsonl", path=given["train"], heldout_path=given["heldout"], max_prompt_tokens=512
    )
    c.scoring = dict(rewards=(dict(name="math"),), workers=8)
    c.evaluation = dict(every_steps=20, samples_per_prompt=4, max_new_tokens=1024)
    c.grpo = dict(
        method="grpo",
        steps=200,
        objective=dict(kl_placement="none", aggregation="token_mean"),
        # 512 sequences a step, two updates of 256, each in passes of 64: eight whole groups, whose
        # prompts are computed once.
        batch=dict(
            prompts_per_step=64,
            samples_per_prompt=8,
            sequences_per_update=256,
            sequences_per_micro_batch=64,
        ),
        sampling=dict(max_new_tokens=1024),
        optimizer=dict(learning_rate=1e-5 if lora else 1e-6, warmup_updates=10, weight_decay=0.01),
    )
    return c
