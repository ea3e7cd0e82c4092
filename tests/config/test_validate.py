"""Fields that fit alone and not together, and what stages resolve to."""

import pathlib

import jax
import pytest

from rljax.config.load import apply_overrides, complete, load_config
from rljax.config.mesh import check_mesh, check_row_lengths
from rljax.config.stage import BatchSizes
from rljax.config.validate import resolved_dict, validate
from rljax.user_modules import import_file

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted(ROOT.joinpath("configs").rglob("*.py"))
CONFIGS = [path for path in FILES if "def get_config" in path.read_text()]
# Those that need a model folder and data files.
RECIPES = [
    path
    for path in CONFIGS
    if "recipe_arguments" in path.read_text() and path.parent.name == "examples"
]
# Those that take them, and make a small model otherwise.
CHAINS = sorted(ROOT.joinpath("configs/recipes").glob("*.py"))
CHAINS = [path for path in CHAINS if "get_config" in path.read_text()]

STAGES = {
    "sft": {"method": "sft"},
    "grpo": {"method": "grpo"},
    "rloo": {"method": "rloo"},
    "reinforce": {"method": "reinforce"},
    "dpo": {"method": "dpo", "data": {"path": "pairs.jsonl"}},
    "sampled": {"method": "dpo", "data": {"source": "sampled_pairs"}},
    "jepo": {"method": "jepo"},
}


def resolved(stage: str, *words: str):
    """The stage of a one-stage config with overrides of that stage."""
    tasks = ({"name": "chain_sum"},)
    config = complete({"stages": (stage,), stage: STAGES[stage], "data": {"tasks": tasks}})
    (result,) = validate(apply_overrides(config, [f"--config.{stage}.{word}" for word in words]))
    return result


def test_batch_arithmetic():
    sizes = BatchSizes(
        prompts_per_step=32,
        samples_per_prompt=8,
        epochs_per_step=2,
        sequences_per_update=64,
        sequences_per_micro_batch=16,
    )
    assert sizes.sequences_per_step == 256
    assert sizes.updates_per_step == 8
    assert sizes.micro_batches == 4


@pytest.mark.parametrize(
    "stage, words, expected",  # sequences per step, updates, micro-batches
    [
        ("grpo", (), (128, 1, 1)),
        ("grpo", ("batch.sequences_per_update=32",), (128, 4, 1)),
        ("grpo", ("batch.epochs_per_step=3", "batch.sequences_per_update=64"), (128, 6, 1)),
        ("grpo", ("batch.sequences_per_micro_batch=16",), (128, 1, 8)),
        ("sft", ("batch.sequences_per_update=8",), (8, 1, 1)),
        ("sft", ("batch.sequences_per_micro_batch=8",), (32, 1, 4)),
        ("dpo", ("batch.sequences_per_micro_batch=2",), (32, 1, 16)),
        ("sampled", ("batch.samples_per_prompt=4",), (32, 1, 1)),
        ("jepo", ("batch.sequences_per_micro_batch=16",), (128, 1, 8)),
    ],
)
def test_batch_fields_of_each_family(stage, words, expected):
    batch = resolved(stage, *words).batch
    assert (batch.sequences_per_step, batch.updates_per_step, batch.micro_batches) == expected


@pytest.mark.parametrize(
    "stage, words, message",
    [
        ("grpo", ("batch.sequences_per_update=48",), "=48 does not divide the step's 16 prompts"),
        ("grpo", ("batch.sequences_per_micro_batch=3",), "micro_batch=3 does not divide"),
        ("dpo", ("batch.sequences_per_update=15",), "multiple of 2: a pair is two"),
        ("jepo", ("batch.sequences_per_micro_batch=4",), "multiple of 8: a group stays whole"),
        ("grpo", ("batch.samples_per_prompt=1",), r"over the group \(advantage='group_zscore'\)"),
        ("rloo", ("batch.samples_per_prompt=1",), "advantage='group_leave_one_out'.*at least 2"),
        ("jepo", ("batch.samples_per_prompt=1",), "bound='multi_sample'.*at least 2"),
        ("grpo", ("batch.prompts_per_step=0",), "must be >= 1, got 0"),
        ("grpo", ("steps=0",), "config.grpo.steps must be >= 1"),
        ("grpo", ("sampling.temperature=0",), "temperature=0 gives the same sample"),
        ("grpo", ("sampling.top_p=1.5",), r"top_p must be in \(0, 1\]"),
        ("grpo", ("sampling.min_p=inf",), "must be finite"),
        ("grpo", ("method=grop",), "Unknown method 'grop'.*Did you mean 'grpo'"),
        ("grpo", ("objective.advantage=zscore",), "Did you mean 'group_zscore'"),
        ("grpo", ("objective.ratio=none",), "does not go with surrogate='clipped'"),
        ("grpo", ("objective.clip_low=-0.1",), "clip_low must be >= 0, got -0.1"),
        ("grpo", ("objective.dual_clip=1",), "dual_clip must be > 1"),
        ("grpo", ("objective.entropy_weight=nan",), "entropy_weight must be finite, got nan"),
        ("grpo", ("objective.kl_estimator=k9",), "Unknown kl_estimator 'k9'"),
        ("reinforce", ("batch.epochs_per_step=2",), "does not correct for it"),
        ("reinforce", ("objective.ema_decay=2",), r"ema_decay must be in \[0, 1\]"),
        ("dpo", ("objective.beta=0",), "beta must be > 0"),
        ("dpo", ("data.path=",), "needs a file"),
        ("dpo", ("data.source=problems",), "cannot read source='problems'"),
        ("sft", ("data.source=sampled_pairs",), "cannot read source='sampled_pairs'"),
        ("sft", ("data.source=jsonl",), "needs a file"),
        ("sft", ("data.source=json",), "Unknown source 'json'.*Did you mean 'jsonl'"),
        ("sampled", ("sampling.max_new_tokens=99",), "max_completion_tokens=64 is too small"),
        ("jepo", ("objective.norm_scope=row",), "norm_scope must be one of 'batch', 'group'"),
        ("jepo", ("objective.answer_phrase=",), "answer_phrase must be a text"),
    ],
)
def test_each_error_names_value_rule_and_field(stage, words, message):
    with pytest.raises(ValueError, match=message) as caught:
        resolved(stage, *words)
    assert "config." in str(caught.value)


@pytest.mark.parametrize(
    "stage, word",
    [
        ("sft", "batch.prompts_per_step=4"),
        ("sft", "sampling.temperature=0.5"),
        ("sft", "data.max_answer_tokens=4"),
        ("sft", "objective.aggregation_length=4"),  # token_mean has no constant
        ("sft", "reference_kl=true"),
        ("sft", "data.path=x.jsonl"),  # problems come from config.data
        ("grpo", "data.limit=3"),
        ("grpo", "objective.ema_decay=0.5"),
        ("grpo", "objective.aggregation_length=7"),
        ("rloo", "objective.clip_low=0.1"),
        ("rloo", "objective.kl_weight=0.1"),
        ("dpo", "sampling.max_new_tokens=4"),
        ("dpo", "data.pair_prompts=4"),
        ("dpo", "batch.samples_per_prompt=4"),
        ("sampled", "data.path=x.jsonl"),
        ("jepo", "batch.epochs_per_step=2"),
        ("jepo", "sampling.temperature=0.5"),
        ("jepo", "batch.sequences_per_update=128"),
    ],
)
def test_a_field_that_nothing_reads_is_refused(stage, word):
    with pytest.raises(ValueError, match="is never read") as caught:
        resolved(stage, word)
    assert word.split("=")[0] in str(caught.value)


@pytest.mark.parametrize(
    "stage, words, name",
    [
        ("grpo", ("objective.kl_placement=reward", "objective.kl_weight=0.1"), "kl_weight"),
        ("reinforce", ("objective.ema_decay=0.5",), "ema_decay"),
        ("sft", ("objective.aggregation=sequence_mean_token_scale",), "aggregation_length"),
    ],
)
def test_a_choice_brings_its_fields(stage, words, name):
    assert name in resolved(stage, *words).objective.values


def test_a_field_of_another_family_is_named_as_such():
    with pytest.raises(ValueError, match="Unknown field of the policy_gradient family 'beta'"):
        resolved("grpo", "objective.beta=0.1")


@pytest.mark.parametrize(
    "kind, field, value",
    [
        ("jsonl", "tasks", ({"name": "gcd"},)),
        ("jsonl", "train_size", 5),
        ("reasoning_gym", "path", "x"),
        ("reasoning_gym", "prompt_column", "question"),
    ],
)
def test_data_fields_of_another_kind_are_refused(kind, field, value):
    config = complete({"stages": ("s",), "s": STAGES["sft"], "data": {"kind": kind, field: value}})
    with pytest.raises(ValueError, match=f"config.data.{field}=.* is never read with kind"):
        validate(config)


@pytest.mark.parametrize(
    "stage, words, expected",
    [
        ("grpo", (), True),
        ("grpo", ("sequences_per_update=64", "sequences_per_micro_batch=16"), True),
        ("grpo", ("sequences_per_update=64", "sequences_per_micro_batch=4"), False),
        ("grpo", ("sequences_per_update=4",), False),
        ("grpo", ("share_prompts=False",), False),
        ("grpo", ("share_prompts=True", "sequences_per_micro_batch=8"), True),
        ("reinforce", ("samples_per_prompt=1",), False),  # nothing to share
        ("jepo", ("sequences_per_micro_batch=16",), True),
        ("dpo", ("sequences_per_micro_batch=2",), True),
        ("dpo", ("share_prompts=False",), False),
        ("sft", (), False),
    ],
)
def test_prompts_are_shared_where_groups_stay_whole(stage, words, expected):
    found = resolved(stage, *(f"batch.{word}" for word in words))
    assert found.batch.share_prompts is expected
    assert found.as_dict()["batch"]["share_prompts"] is expected


@pytest.mark.parametrize(
    "word", ["sequences_per_micro_batch=4", "sequences_per_micro_batch=2", "sequences_per_update=4"]
)
def test_sharing_prompts_needs_whole_groups(word):
    fields = r"share_prompts, .*\.sequences_per_update, .*\.sequences_per_micro_batch"
    with pytest.raises(ValueError, match=rf"share_prompts=True needs whole groups of 8.*{fields}"):
        resolved("grpo", "batch.share_prompts=True", f"batch.{word}")


def test_supervised_rows_have_no_prompts_to_share():
    with pytest.raises(ValueError, match="batch.share_prompts=True is never read"):
        resolved("sft", "batch.share_prompts=True")


def test_a_mesh_must_divide_every_batch():
    stages = (resolved("grpo", "batch.sequences_per_micro_batch=4"),)
    check_mesh(stages, 4, 128)
    with pytest.raises(ValueError, match=r"4 rows .*sequences_per_micro_batch .* 8 shards"):
        check_mesh(stages, 8, 128)
    shared = (resolved("grpo", "batch.sequences_per_micro_batch=32"),)
    check_mesh(shared, 4, 128)
    with pytest.raises(ValueError, match=r"4 rows .*groups .* 8 shards .*share_prompts"):
        check_mesh(shared, 8, 128)
    with pytest.raises(ValueError, match="config.evaluation.prompts_per_batch"):
        check_mesh((), 8, 12)
    with pytest.raises(ValueError, match=r"config.jepo.batch.prompts_per_step|2 rows"):
        check_mesh((resolved("jepo", "batch.sequences_per_micro_batch=16"),), 4, 128)


@pytest.mark.parametrize(
    "stage, words, slots, field",
    [
        ("grpo", (), 10 + 8 * 64, "config.grpo.sampling.max_new_tokens"),
        ("grpo", ("batch.share_prompts=False",), 10 + 64, "config.data.max_prompt_tokens"),
        ("jepo", (), 10 + 8 * (64 + 16), "config.jepo.data.max_answer_tokens"),
        ("dpo", (), 10 + 2 * 64, "config.dpo.data.max_completion_tokens"),
        ("sft", (), 256, "config.sft.data.row_tokens"),
    ],
)
def test_rows_divide_over_the_context_axis(stage, words, slots, field):
    stages = (resolved(stage, *words),)
    check_row_lengths(stages, {"context": 2}, 10)
    with pytest.raises(ValueError, match=f"Rows of {slots} slots .*context=7 .*{field}"):
        check_row_lengths(stages, {"context": 7}, 10)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
@pytest.mark.parametrize("argument", ["", "smoke"])
def test_every_config_file_is_valid(path, argument):
    needed = "model=m,train=t.jsonl,heldout=h.jsonl," if path in RECIPES else ""
    config = load_config(f"{path}:{needed}{argument}")
    stages = validate(config)
    check_mesh(stages, 1, config.evaluation.prompts_per_batch)
    values = resolved_dict(config, stages)
    assert set(config.stages) <= set(values)
    if argument:
        check_mesh(stages, 2, config.evaluation.prompts_per_batch)
        for stage in stages:
            assert stage.steps <= 2 and stage.batch.sequences_per_step <= 32


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "argument, message",
    [
        ("model=somewhere", "train, heldout not given; write --config=.*model=...,train=..."),
        ("model=m,train=,heldout=h", "train takes a value, got 'train='"),
        ("model=m,train=t,heldout=h,lora=0", "lora takes no value, got 'lora=0'"),
        ("model=m,train=t,heldout=h,lora,full", "Unknown argument 'full'; write "),
    ],
)
def test_recipes_say_what_they_need(path, argument, message):
    with pytest.raises(ValueError, match=message):
        load_config(f"{path}:{argument}")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_recipes_train_everything_or_adapters(path):
    given = f"{path}:model=model,train=t.jsonl,heldout=h.jsonl"
    assert load_config(given).model.lora.rank == 0
    assert load_config(f"{given},lora").model.lora.rank == 32


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.name)
def test_chains_take_a_published_model(path):
    module = import_file(str(path), field="--config", again=True)
    files = ",".join(f"{name}={name}.parquet" for name in module.FILES)
    config = load_config(f"{path}:{files}")
    validate(config)
    assert config.model.init_from.endswith("model.parquet")
    assert config.data.kind == "parquet"
    # A stage that samples reads the problems of the run alone.
    assert config[config.stages[0]].data.source in ("parquet", None)
    # With other files than a small model's nothing of the small model is left.
    assert not config.model.layers and config.data.max_prompt_tokens >= 512
    with pytest.raises(ValueError, match=f"not given; write --config=configs/recipes/{path.name}"):
        load_config(f"{path}:{files.rpartition(',')[0]}")


def test_recipes_read_parquet_by_the_name_of_a_file():
    config = load_config(f"{ROOT / 'configs/examples/gsm8k.py'}:model=m,train=t.parquet,heldout=h")
    assert config.data.kind == "parquet"


def test_validation_touches_no_device(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a device was asked for")

    monkeypatch.setattr(jax, "devices", refuse)
    monkeypatch.setattr(jax, "jit", refuse)
    resolved("grpo")
