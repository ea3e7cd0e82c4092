"""Distillation in one run: a teacher learns from demonstrations, a student learns from the teacher.

`teacher` is trained first, on demonstrations of sorting four letters. `student` starts from nothing
again (`start_from="model"`): the method, a row of the distillation family, decides what it learns
of the teacher. With `reverse_kd` it sees no demonstration and no reward, only what the teacher says
of its own samples:

    python launch/train.py --config=configs/distillation.py:reverse_kd

Expect, on held-out problems and with seed 0: greedy accuracy 1.000 and pass@1 0.977 after
`teacher`, 1.000 and 0.953 after `student`; with `:gkd` 0.578 and 0.555 after `student`.

`opsd`, `sdft`, `sdpo` and `sdpo_trust_region` show how a teacher is told more. A model that never
met a prompt with its solution answers worse behind it, and what it then says as a teacher makes the
student worse: so the start learns prompts of both kinds (told.jsonl), and few enough to leave
something to learn. Expect, with seed 0, greedy accuracy 0.969 before and 1.000 after each of them,
and pass@1 0.691 before, 0.742 after `:opsd`, 0.738 after `:sdft`, 0.660 after `:sdpo`, whose
teacher follows the student, and 0.754 after `:sdpo_trust_region`. With
--config.teacher.data.path=configs/examples/problems.jsonl --config.teacher.steps=20
--config.student.optimizer.learning_rate=2e-3 the start has met none, and greedy accuracy falls from
0.609 to 0.234 with `:opsd` and to 0.000 with `:sdpo`.

`salt` learns demonstrations and the teacher at once. It is meant for the first steps, with a
teacher smaller than the student; a stage of `sft` follows (arXiv:2410.18779: 36 K of 208 K steps).

A bigger teacher of your own is a published folder, or a checkpoint of another run, with the
student's tokenizer: --config.student.models.teacher.start_from=FOLDER
"""

from ml_collections import ConfigDict

PROBLEMS, HELDOUT = "configs/examples/problems.jsonl", "configs/examples/heldout.jsonl"
TOLD = "configs/examples/told.jsonl"

METHODS = ("gkd", "reverse_kd", "word_kd", "salt", "sequence_kd", "opsd", "sdft", "sdpo")
METHODS += ("sdpo_trust_region",)
# Their teacher begins as the student does and reads more.
SELF = ("opsd", "sdft", "sdpo", "sdpo_trust_region")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is the method, by default reverse_kd."""
    method = arg or "reverse_kd"
    if method not in METHODS:
        raise ValueError(
            f"Unknown method {method!r} (--config=FILE:METHOD); here: {', '.join(METHODS)}."
        )
    c = ConfigDict()
    c.name = f"distillation-{method}"
    c.stages = ("teacher", "student")
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2)
    c.data = dict(
        kind="jsonl", path=PROBLEMS, heldout_path=HELDOUT, max_prompt_tokens=10, heldout_size=64
    )
    c.scoring = dict(rewards=(dict(name="exact_match"),))
    c.evaluation = dict(max_new_tokens=6, samples_per_prompt=4, prompts_per_batch=64)
    c.teacher = dict(
        method="sft",
        # With SELF a start that still has something to learn, and that has met told prompts.
        steps=28 if method in SELF else 60,
        data=dict(source="jsonl", path=TOLD if method in SELF else PROBLEMS, row_tokens=64),
        batch=dict(sequences_per_update=32),
        optimizer=dict(learning_rate=2e-3, warmup_updates=10),
    )
    c.student = dict(
        method=method,
        steps=60,
        # From the teacher, the stage before, only where that is the student itself.
        start_from="teacher" if method in SELF else "model",
        # One sample of a prompt, as it has one demonstration: all methods see the same number.
        batch=dict(prompts_per_step=128, samples_per_prompt=1),
        sampling=dict(max_new_tokens=6),
        optimizer=dict(learning_rate=5e-4 if method in SELF else 2e-3, warmup_updates=10),
    )
    if method != "sdpo":  # whose teacher follows the student
        c.student.models = dict(teacher=dict(start_from="teacher"))
    if method in SELF:
        c.student.data = dict(max_context_tokens=6)
    if method.startswith("sdpo"):
        # Eight samples of a prompt, so that a right one is often among the others (the authors'
        # 32 x 8); and a pattern that a model of letters has room for.
        c.student.batch = dict(prompts_per_step=16, samples_per_prompt=8)
        c.student.data = dict(max_context_tokens=8)
        c.student.objective = dict(context_pattern="{context} {prompt}")
    return c
