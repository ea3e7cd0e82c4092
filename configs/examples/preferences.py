"""DPO on a preference file of the hub: `chosen` and `rejected` as whole conversations.

FOLDER is a published instruction-tuned model, TRAIN a JSONL or Parquet file of pairs. What the two
conversations share is the prompt; the last messages are compared. Columns of text (`prompt`,
`chosen`, `rejected`) are read as well. HELDOUT holds questions with answers, in GSM8K's columns:
the model is judged by them before and after.

    python launch/train.py \
        --config=configs/examples/preferences.py:model=FOLDER,train=TRAIN,heldout=HELDOUT,lora

The reference policy is the model that the run starts from: with `lora` the base without its
adapters, in the same memory. The first loss is ln 2, since policy and reference are equal then.
"""

from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "model=FOLDER,train=FILE,heldout=FILE[,lora]"."""
    given = read_arguments(
        arg, "configs/examples/preferences.py", ("model", "train", "heldout"), {"lora": ""}
    )
    lora = bool(given["lora"])
    c = ConfigDict()
    c.name = "preferences-lora" if lora else "preferences"
    c.stages = ("dpo",)
    c.model = dict(init_from=given["model"], dtype="bfloat16", remat="full")
    if lora:
        c.model.lora = dict(rank=32, alpha=32.0)
    c.mesh = dict(data=1, fsdp=-1)
    # Problems are for the evaluation alone; the stage has a file of its own.
    c.data = dict(
        kind="parquet" if given["heldout"].endswith(".parquet") else "jsonl",
        path=given["heldout"],
        heldout_path=given["heldout"],
        prompt_column="question",
        reference_column="answer",
        chat=True,
        max_prompt_tokens=512,
    )
    c.scoring = dict(rewards=(dict(name="gsm8k_open_instruct"),), workers=4)
    c.evaluation = dict(every_steps=100, samples_per_prompt=0, max_new_tokens=512)
    c.dpo = dict(
        method="dpo",
        steps=200,
        objective=dict(beta=0.1),
        data=dict(
            source="parquet" if given["train"].endswith(".parquet") else "jsonl",
            path=given["train"],
            max_completion_tokens=512,
        ),
        # In sequences, and a pair is two: 32 pairs an update, 8 of them in a pass.
        batch=dict(sequences_per_update=64, sequences_per_micro_batch=16),
        optimizer=dict(learning_rate=5e-6 if lora else 5e-7, schedule="linear", warmup_updates=20),
    )
    return c
