"""SFT on conversations: a file of the hub with the column `messages` (or ShareGPT's
`conversations`).

FOLDER is a published model with a chat template, TRAIN a JSONL or Parquet file of conversations.
Every message of the assistant is learned, each with the token that the template closes it with;
what others say is read and not learned. Rows of `prompt` and `completion` are read as well; a
prompt that is text becomes the user's message (`data.chat`). HELDOUT holds questions with answers,
in GSM8K's columns: the model is judged by them before and after.

    python launch/train.py \
        --config=configs/examples/messages.py:model=FOLDER,train=TRAIN,heldout=HELDOUT,lora

`lora` trains adapters instead of all parameters, at ten times the rate. The first batch is shown as
the model reads it: what is learned, and where it ends.
"""

from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "model=FOLDER,train=FILE,heldout=FILE[,lora]"."""
    given = read_arguments(
        arg, "configs/examples/messages.py", ("model", "train", "heldout"), {"lora": ""}
    )
    lora = bool(given["lora"])
    c = ConfigDict()
    c.name = "messages-lora" if lora else "messages"
    c.stages = ("sft",)
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
    c.sft = dict(
        method="sft",
        steps=500,
        data=dict(
            source="parquet" if given["train"].endswith(".parquet") else "jsonl",
            path=given["train"],
            learn="all",  # "last": only the assistant's last message
            row_tokens=2048,  # conversations are packed into rows of this length
        ),
        batch=dict(sequences_per_update=32, sequences_per_micro_batch=8),
        optimizer=dict(
            learning_rate=1e-4 if lora else 1e-5, schedule="linear", warmup_updates=20, b2=0.95
        ),
    )
    return c
