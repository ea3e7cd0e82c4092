"""GRPO on programs: a completion is Python, and the reward is whether it passes its tests.

FOLDER is a published instruction-tuned model; TRAIN and HELDOUT have the columns of MBPP: `text`,
`test_list` and `test_setup_code`:

    python launch/train.py \
        --config=configs/examples/python_tests.py:model=FOLDER,train=TRAIN,heldout=HELDOUT,lora

A completion's last block ```python is run with the tests in sandboxes, rljax/rewards/sandbox/
README.md says what they promise; `--config.scoring.rewards` takes the options of the reward
`python_tests`, and `sandbox=bubblewrap` asks for one of them. Other data sets name other columns:

| data set | `config.data.prompt_column` | `config.data.reference_column` |
| --- | --- | --- |
| HumanEval | `prompt` | `prompt,test,entry_point` |
| APPS, TACO | `question` | `input_output` |

`partial` gives the share of tests passed, `lora` trains adapters instead of all parameters.
"""

from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments

OPTIONS = {"sandbox": "auto", "partial": "", "lora": ""}


def get_config(arg: str = "") -> ConfigDict:
    """The config.

    Args:
        arg: "model=FOLDER,train=FILE,heldout=FILE[,sandbox=NAME][,partial][,lora]".
    """
    given = read_arguments(
        arg, "configs/examples/python_tests.py", ("model", "train", "heldout"), OPTIONS
    )
    lora = bool(given["lora"])
    c = ConfigDict()
    c.name = "python-tests"
    c.stages = ("grpo",)
    c.model = dict(init_from=given["model"], dtype="bfloat16", remat="full")
    if lora:
        c.model.lora = dict(rank=32, alpha=32.0)
    c.mesh = dict(data=1, fsdp=-1)
    c.data = dict(
        kind="parquet" if given["train"].endswith(".parquet") else "jsonl",
        path=given["train"],
        heldout_path=given["heldout"],
        prompt_column="text",
        reference_column="test_list,test_setup_code",
        chat=True,  # the text is the user's message
        system_prompt="Answer with one block of Python code.",
        max_prompt_tokens=512,
    )
    # Tests start processes: more time for a sample than a verifier of text needs.
    tests = dict(
        partial=bool(given["partial"]),
        sandbox=given["sandbox"],
        test_seconds=2.0,
        total_seconds=10.0,
    )
    c.scoring = dict(
        rewards=(dict(name="python_tests", options=tests),),
        workers=4,
        timeout_seconds=20.0,
    )
    c.evaluation = dict(every_steps=20, samples_per_prompt=4, max_new_tokens=512)
    c.grpo = dict(
        method="grpo",
        steps=200,
        batch=dict(
            prompts_per_step=32,
            samples_per_prompt=8,
            sequences_per_update=128,
            sequences_per_micro_batch=32,
        ),
        objective=dict(kl_placement="none"),
        sampling=dict(max_new_tokens=512),
        optimizer=dict(learning_rate=1e-5 if lora else 1e-6, warmup_updates=10),
    )
    return c
