"""Files, arguments, defaults and overrides."""

import pytest

from rljax.config.load import apply_overrides, complete, load_config, shorten
from rljax.config.validate import validate

SPARSE = {
    "stages": ("first", "second"),
    "first": {"method": "sft", "batch": {"sequences_per_update": 8}},
    "second": {"method": "grpo", "optimizer": {"learning_rate": 1}},
    "data": {"tasks": ({"name": "chain_sum"},)},
}


@pytest.fixture
def config_file(tmp_path):
    """config_file(text) -> path of a file with that text."""

    def write(text: str) -> str:
        path = tmp_path / "config.py"
        path.write_text(text)
        return str(path)

    return write


def test_defaults_are_filled_in_and_given_values_stay():
    config = complete(SPARSE)
    assert config.first.batch.sequences_per_update == 8
    assert config.model.layers is None  # what the preset, the checkpoint or the small default says
    assert config.second.optimizer.name == "adamw"
    # A whole number passes as a float, and becomes one.
    assert type(config.second.optimizer.learning_rate) is float
    assert config.second.batch.prompts_per_step is None


def test_the_config_is_locked():
    config = complete(SPARSE)
    with pytest.raises(AttributeError, match="layers"):
        config.model.layerz = 3
    with pytest.raises(TypeError):
        config.model.layers = "four"


@pytest.mark.parametrize(
    "word, path, value",
    [
        ("--config.seed=3", "seed", 3),
        ("--config.model.tied_embeddings=false", "model.tied_embeddings", False),
        ("--config.second.optimizer.learning_rate=1e-4", "second.optimizer.learning_rate", 1e-4),
        ("--config.second.batch.samples_per_prompt=4", "second.batch.samples_per_prompt", 4),
        ("--config.second.objective.advantage=ema", "second.objective.advantage", "ema"),
        ("--config.reporting.writers=('jsonl',)", "reporting.writers", ("jsonl",)),
        ("--config.tokenizer.special_tokens=('<a>','</a>')", "tokenizer.special_tokens", None),
        ("--config.stages=('second',)", "stages", ("second",)),
    ],
)
def test_overrides_are_typed(word, path, value):
    config = apply_overrides(complete(SPARSE), [word])
    for name in path.split("."):
        config = config[name]
    expected = ("<a>", "</a>") if value is None else value
    assert config == expected and type(config) is type(expected)


def test_a_tuple_of_tasks_can_be_overridden():
    word = "--config.data.tasks=({'name': 'gcd', 'weight': 2.0},)"
    assert apply_overrides(complete(SPARSE), [word]).data.tasks[0]["weight"] == 2.0


@pytest.mark.parametrize(
    "word, message",
    [
        ("--config.seeed=1", r"Unknown field 'seeed'.*\(config.seeed\). Did you mean 'seed'\?"),
        ("--config.model.layrs=1", r"config.model.layrs\). Did you mean 'layers'"),
        ("--config.second.batch.samples_per_promt=1", "Did you mean 'samples_per_prompt'"),
        ("--config.first.objective.agregation=x", "Did you mean 'aggregation'"),
        ("--config.seed.deeper=1", r"Unknown field 'deeper'.*config.seed.deeper"),
        ("--config.seed=many", "--config.seed=many"),
        ("--config.seed=1.5", "--config.seed=1.5"),
        ("--config.model=3", "--config.model=3"),
        ("--config.seed", "Missing value"),
        ("--seed=1", r"Unknown argument '--seed=1'; overrides read --config.a.b=value"),
        ("seed=1", "Unknown argument 'seed=1'"),
    ],
)
def test_bad_overrides_name_the_word(word, message):
    with pytest.raises(ValueError, match=message):
        apply_overrides(complete(SPARSE), [word])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"modle": {}}, r"Unknown field 'modle'.*\(config.modle\). Did you mean 'model'"),
        ({"model": {"layrs": 2}}, r"config.model.layrs\). Did you mean 'layers'"),
        ({"model": 3}, "config.model is a section, got 3"),
        ({"seed": "0"}, "config.seed must be int, got '0'"),
        ({"seed": True}, "config.seed must be int, got True"),
        ({"model": {"layers": 2.5}}, "config.model.layers must be int, got 2.5"),
        ({"second": {"method": "grpo", "stepz": 1}}, "Did you mean 'steps'"),
        ({"stages": ()}, r"one or more names, got \(\) \(config.stages\)"),
        ({"stages": "second"}, "one or more names, got 'second'"),
        ({"stages": ("first", "third")}, "Stage 'third' has no section"),
        ({"stages": ("first", "first")}, "Stages must have different names"),
        ({"stages": ("model",), "model": {"method": "sft"}}, "'model' cannot name a stage"),
        ({"stages": ("a/b",), "a/b": {}}, "'a/b' cannot name a stage"),
    ],
)
def test_bad_files_name_the_field(change, message):
    with pytest.raises(ValueError, match=message):
        complete({**SPARSE, **change})


def test_a_stage_may_be_left_out_and_an_unknown_one_not_added():
    validate(apply_overrides(complete(SPARSE), ["--config.stages=('second',)"]))
    config = apply_overrides(complete(SPARSE), ["--config.stages=('second','more')"])
    with pytest.raises(ValueError, match="Stage 'more' has no section"):
        validate(config)


def test_the_argument_reaches_the_file_without_smoke(config_file):
    path = config_file(
        "def get_config(arg):\n"
        "    stage = dict(method='sft', steps=500)\n"
        "    return dict(name=arg, stages=('s',), s=stage)\n"
    )
    assert load_config(f"{path}:a,b").name == "a,b"
    short = load_config(f"{path}:a,smoke", ["--config.seed=1"])
    assert (short.name, short.s.steps, short.seed) == ("a", 2, 1)
    assert load_config(f"{path}:smoke", ["--config.s.steps=7"]).s.steps == 7


def test_missing_files_and_functions_are_named(config_file):
    with pytest.raises(ValueError, match=r"No config file 'nowhere.py'"):
        load_config("nowhere.py")
    with pytest.raises(ValueError, match="has no function get_config"):
        load_config(config_file("x = 1"))


@pytest.mark.parametrize("updates", [1, 2, 8])
@pytest.mark.parametrize("method", ["grpo", "jepo"])
@pytest.mark.parametrize("samples", [2, 4, 16])
def test_shortened_batches_still_divide(updates, method, samples):
    batch = {"prompts_per_step": 32, "samples_per_prompt": samples}
    if method == "grpo":
        batch["sequences_per_update"] = 32 * samples // updates
    batch["sequences_per_micro_batch"] = 32 * samples // updates // 2
    if method == "jepo" and updates == 8:
        batch["sequences_per_micro_batch"] = samples
    sparse = {**SPARSE, "stages": ("second",), "second": {"method": method, "batch": batch}}
    del sparse["first"]
    config = complete(sparse)
    with config.unlocked():
        shorten(config)
    (stage,) = validate(config)
    assert stage.batch.sequences_per_step <= 32
    assert stage.batch.updates_per_step == (2 if updates > 1 and method == "grpo" else 1)
