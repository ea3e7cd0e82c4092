"""The fields of config.data."""

from rljax.config.fields import MOST_PROBLEMS, MOST_TOKENS, Field, Section

# Entries of a task; a symbol task has fields of its own.
TASK = Field(
    {},
    "{'name', 'weight', 'parameters', 'prompt_pattern'}",
    items={
        "name": Field("", "of the task"),
        "weight": Field(1.0, "share of the problems", above=0),
        "parameters": Field({}, "of the task"),
        "prompt_pattern": Field("", "regex whose group 1 is kept as the prompt"),
    },
)

DATA: Section = {
    "kind": Field(
        "reasoning_gym",
        "where problems come from",
        choices=("reasoning_gym", "symbols", "environment", "jsonl", "parquet"),
    ),
    "tasks": Field(
        (),
        "reasoning_gym: ({'name', 'weight', 'parameters', 'prompt_pattern'}, ...); symbols: one, "
        "({'name', and fields of it},) (rljax/tasks/symbols/)",
        items=TASK,
    ),
    "prompt_pattern": Field("", "reasoning_gym: regex whose group 1 is kept as the prompt"),
    "answer_template": Field("<answer>{answer}</answer>", "how worked demonstrations end"),
    "worked_share": Field(
        1.0, "share of demonstrations with steps; others: answer only", minimum=0, maximum=1
    ),
    "train_seed": Field(
        0, "first item seed of the training problems; symbols: of the draws", minimum=0
    ),
    "heldout_seed": Field(10_000_000, "first item seed of the held-out problems", minimum=0),
    "train_size": Field(
        10_000,
        "reasoning_gym, symbols, environment: number of training problems",
        minimum=1,
        maximum=MOST_PROBLEMS,
    ),
    "heldout_size": Field(
        256,
        "number of held-out problems evaluated",
        minimum=1,
        maximum=1_000_000,
        why="each is read before the run starts, and sampled in every evaluation",
    ),
    "path": Field("", "jsonl, parquet: training file, folder or pattern", path=True),
    "heldout_path": Field("", "jsonl, parquet: held-out file, folder or pattern", path=True),
    "prompt_column": Field("prompt", "jsonl, parquet: text, or a list of chat messages"),
    "reference_column": Field(
        "reference",
        "jsonl, parquet: what the reward compares with; several, with commas: a mapping of them",
    ),
    "difficulty_column": Field(
        "", "a number of each problem that curricula may read; of symbol tasks 'level'"
    ),
    "angle_column": Field(
        "", "mean cosine of each problem's tokens, which curriculum='gain' reads (launch/select.py)"
    ),
    "hint_column": Field("", "a text of each problem that guided samples may read; empty: none"),
    "source_column": Field(
        "", "a label of each problem that curricula may read: 'task' of reasoning-gym, 'level', ..."
    ),
    "max_prompt_tokens": Field(64, "P, tokens of a prompt at most", minimum=1, maximum=MOST_TOKENS),
    "overlong": Field(
        "refuse",
        "problems of a file whose prompt is longer: an error, or dropped and counted",
        choices=("refuse", "drop"),
    ),
    "chat": Field(
        False, "a prompt that is text becomes the user's message, through the chat template"
    ),
    "system_prompt": Field("", "the first message of conversations that have no system message"),
}
