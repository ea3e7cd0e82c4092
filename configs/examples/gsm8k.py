"""GRPO on GSM8K, as the hub has it: columns `question`, and `answer` with its last line `#### 72`.

FOLDER is a published instruction-tuned model; TRAIN and HELDOUT are the two files of the data set,
Parquet or JSONL, as they are. A question becomes the user's message in the model's own chat
template:

    python launch/train.py \
        --config=configs/examples/gsm8k.py:model=FOLDER,train=TRAIN,heldout=HELDOUT,lora

`lora` trains adapters instead of all parameters, at ten times the rate. A sample is right if its
last number is the gold one (open-instruct's rule), so no form of answer is asked for. `reward=NAME`
takes another of rljax/data/README.md: `reward=gsm8k_verl_strict` wants "#### NUMBER", and
`reward=math` a box; ask for the form then, for example with

    --config.data.system_prompt="Put the final answer into \\boxed{}."

No figures are promised: they depend on the model. The guide has all commands, from the files to an
exported model: configs/README.md.
"""

from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments

OPTIONS = {"reward": "gsm8k_open_instruct", "lora": ""}


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "model=FOLDER,train=FILE,heldout=FILE[,reward=NAME][,lora]"."""
    given = read_arguments(arg, "configs/examples/gsm8k.py", ("model", "train", "heldout"), OPTIONS)
    lora = bool(given["lora"])
    c = ConfigDict()
    c.name = "gsm8k-lora" if lora else "gsm8k"
    c.stages = ("grpo",)
    # Activations in bfloat16, parameters and moments in float32; blocks are recomputed.
    c.model = dict(init_from=given["model"], dtype="bfloat16", remat="full")
    if lora:
        c.model.lora = dict(rank=32, alpha=32.0)
    c.mesh = dict(data=1, fsdp=-1)
    c.data = dict(
        kind="parquet" if given["train"].endswith(".parquet") else "jsonl",
        path=given["train"],
        heldout_path=given["heldout"],
        prompt_column="question",
        reference_column="answer",
        chat=True,  # the question is the user's message
        max_prompt_tokens=512,
    )
    c.scoring = dict(rewards=(dict(name=given["reward"]),), workers=4)
    c.evaluation = dict(every_steps=20, samples_per_prompt=4, max_new_tokens=512)
    c.grpo = dict(
        method="grpo",
        steps=200,
        # 64 questions with 8 samples each, two updates a step, passes of eight whole groups.
        batch=dict(
            prompts_per_step=64,
            samples_per_prompt=8,
            sequences_per_update=256,
            sequences_per_micro_batch=64,
        ),
        # Without a KL term no reference policy is kept.
        objective=dict(kl_placement="none"),
        sampling=dict(max_new_tokens=512),
        optimizer=dict(learning_rate=1e-5 if lora else 1e-6, warmup_updates=10),
    )
    return c
