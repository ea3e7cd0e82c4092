"""Methods against each other on small exact tasks: `configs/compare.py:TASK/METHOD`.

    python launch/compare.py --task=sort --methods=grpo,rloo,dapo --seeds=8 --workdir=runs/sort

runs every method with many seeds in one compiled program. One method alone, with the train loop of
the main job:

    python launch/train.py --config=configs/compare.py:sort/grpo

`METHOD+CURRICULUM` is a method whose problems a curriculum chooses: grpo+easy_to_hard.

All methods get the same prompts and samples a step from the same warmed-up policy, which is right
about a third of the time; only what the method says differs. A step's samples are used in two
updates where the method corrects for a policy that has changed since, and in one where not. The
command gives all of them one budget: of updates, unless it is told otherwise.
"""

from ml_collections import ConfigDict

# Task -> its entry, tokens of a prompt and of a completion, steps of the warm-up.
TASKS = {
    "sort": (dict(name="sort", min_length=6, max_length=8), 9, 9, 60),
    "modchain": (dict(name="modchain"), 12, 6, 300),
    "countdown3": (dict(name="countdown3"), 7, 6, 180),
    "countdown4": (dict(name="countdown4"), 8, 8, 300),
    "sudoku4": (dict(name="sudoku4"), 16, 17, 300),
    "edit": (dict(name="edit"), 11, 7, 300),
    "chains": (dict(name="modchain", min_operations=1, max_operations=6), 16, 8, 200),
    "lengths": (dict(name="sort", min_length=2, max_length=8), 9, 9, 60),
}

# Difficulty shows in the prompt: for methods that choose their problems.
MIXED = ("chains", "lengths")

# Levels (operations, digits) that are neither too easy nor too hard, as judged beforehand.
BANDS = {"chains": (2.0, 5.0), "lengths": (4.0, 7.0)}

# Prompts of a step, where they are not 32.
PROMPTS = {"lengths": 16}

# Methods that do not correct for a policy that has changed since it sampled: one update a step.
ON_POLICY = ("reinforce", "reinforce_batch", "rloo", "remax", "gpg", "opo", "ibpo", "pcl")

# What a method needs besides its name. In sampling until a step is full, three rounds are enough.
# Penalties of length have little to do, as completions are as short as can be; the soft one of dapo
# is left out, which would punish right answers that need all of the tokens.
METHODS = {
    **{
        name: dict(objective=dict(filter_rounds=3))
        for name in ("dler", "da_dler", "ngrpo", "hapo", "greso", "balanced_filter")
    },
    "dapo": dict(objective=dict(filter_rounds=3, reward_shaping="none")),
    **{name: dict(critic=dict(warmup_updates=20)) for name in ("ppo", "vc_ppo", "vapo", "ma_rlhf")},
}

# What is the same for all where only the choice of problems is compared: no KL, one clip range.
PLAIN = dict(kl_placement="none", clip_high=0.2)

# Methods with one row more for each prompt.
WITH_DEMONSTRATION = ("hpt", "luffy")


def get_config(arg: str = "sort/grpo") -> ConfigDict:
    """The config of a task and a method; "TASK/" is the warm-up alone."""
    task, _, named = (arg or "sort/grpo").partition("/")
    method, _, curriculum = named.partition("+")
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}; known: {', '.join(TASKS)} (--config=FILE:TASK).")
    entry, prompt_tokens, new_tokens, warmup_steps = TASKS[task]
    c = ConfigDict()
    c.name = f"compare-{task}"
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2, remat="full")
    c.tokenizer = dict(path="symbols")
    c.data = dict(
        kind="symbols",
        tasks=(entry,),
        train_size=4096,
        heldout_size=256,
        max_prompt_tokens=prompt_tokens,
    )
    c.scoring = dict(rewards=({"name": "symbols"},), workers=0)
    c.evaluation = dict(samples_per_prompt=0, max_new_tokens=new_tokens, every_steps=10)
    c.stages = ("warmup", "rl") if method else ("warmup",)
    c.warmup = dict(
        method="sft",
        steps=warmup_steps,
        data=dict(row_tokens=prompt_tokens + new_tokens, packed=False),
        batch=dict(sequences_per_update=64),
        optimizer=dict(learning_rate=2e-3, warmup_updates=20),
    )
    if task in MIXED:
        c.data.update(source_column="level", difficulty_column="level")
    if method:
        c.rl = dict(
            method=method,
            steps=150,
            batch=dict(
                prompts_per_step=PROMPTS.get(task, 32),
                samples_per_prompt=8,
                **_sequences(method, PROMPTS.get(task, 32)),
            ),
            sampling=dict(max_new_tokens=new_tokens),
            optimizer=dict(learning_rate=2e-4, warmup_updates=5),
            **METHODS.get(method, {}),
        )
        objective = {**c.rl.get("objective", {}), **_curriculum(task, curriculum)}
        if task in MIXED and method not in ON_POLICY:
            objective |= PLAIN
        if objective:
            c.rl.objective = objective
    return c


def _curriculum(task: str, name: str) -> dict[str, object]:
    """What chooses the problems; {} for the method's own choice."""
    if name != "band":
        return {"curriculum": name} if name else {}
    low, high = BANDS[task]
    return dict(curriculum="band", difficulty_low=low, difficulty_high=high)


def _sequences(method: str, prompts: int) -> dict[str, int]:
    """An update takes half of a step's prompts, or all of them; a pass 8 prompts."""
    group = 8 + (method in WITH_DEMONSTRATION)
    update = {} if method in ON_POLICY else {"sequences_per_update": prompts // 2 * group}
    return {"sequences_per_micro_batch": 8 * group, **update}
