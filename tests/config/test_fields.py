"""Types, ranges and items of fields; and what an unknown field is answered with."""

import pytest

from rljax.config.fields import Field, as_json, checked
from rljax.config.load import apply_overrides, complete
from rljax.config.validate import resolved_dict, validate
from rljax.errors import like, shown, slip_of, slips_between
from rljax.models.config import ModelConfig, RopeScaling
from rljax.sampling.distribution import TokenFilter, token_bias
from rljax.training.update.optimizers import OPTIMIZERS, SCHEDULES

SMALL = {
    "stages": ("s",),
    "s": {"method": "grpo"},
    "data": {"tasks": ({"name": "chain_sum"},)},
}


def changed(path: str, value) -> dict:
    """SMALL with a field set."""
    made = {key: dict(entry) if isinstance(entry, dict) else entry for key, entry in SMALL.items()}
    section = made
    *sections, name = path.split(".")
    for part in sections:
        section[part] = dict(section.get(part, {}))
        section = section[part]
    section[name] = value
    return made


DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("s.optimizer.name", None, "config.s.optimizer.name must be str, got None"),
        ("seed", 2**63, "config.seed must be <= 4294967295"),
        ("seed", -1, "config.seed must be >= 0, got -1"),
        ("stages", float("inf"), "stages must be a tuple of one or more names, got inf"),
        ("stages", ("s", None), "None cannot name a stage"),
        ("stages", ("s", "reporting"), "'reporting' cannot name a stage"),
        ("stages", ("s", "network"), "'network' cannot name a stage"),
        ("stages", ("s", "items"), "'items' cannot name a stage"),
        ("stages", ("s", "class"), "'class' cannot name a stage"),
        ("stages", (["s"],), "cannot name a stage"),
        ("s.optimizer.learning_rate", 10**400, "learning_rate must be at most 3.4e[+]38 in size"),
        ("s.optimizer.learning_rate", 10**5000, "got a int too large to print"),
        ("s.optimizer.learning_rate", float("nan"), "must be finite, got nan"),
        ("s.optimizer.b1", 1.0, "config.s.optimizer.b1 must be < 1, got 1.0"),
        ("s.optimizer.b2", 3, "config.s.optimizer.b2 must be < 1, got 3"),
        ("s.optimizer.epsilon", -1, "config.s.optimizer.epsilon must be > 0, got -1"),
        ("s.optimizer.weight_decay", -0.1, "weight_decay must be >= 0"),
        ("s.optimizer.momentum", 1, "momentum must be < 1"),
        ("s.sampling.logit_bias", (None,), r"logit_bias\[0\] must be tuple, got None"),
        ("evaluation.logit_bias", (1, 2), r"evaluation.logit_bias\[0\] must be tuple, got 1"),
        ("evaluation.stop_strings", (5,), r"evaluation.stop_strings\[0\] must be str, got 5"),
        ("s.sampling.logit_bias", ((1, 2, 3),), r"logit_bias\[0\] must be 2 values"),
        ("s.sampling.logit_bias", "ab", "logit_bias must be tuple, got 'ab'"),
        ("s.sampling.forbidden_tokens", ("a",), r"forbidden_tokens\[0\] must be int, got 'a'"),
        ("s.sampling.forbidden_tokens", (-1,), r"forbidden_tokens\[0\] must be >= 0"),
        ("s.sampling.stop_strings", (5,), r"stop_strings\[0\] must be str, got 5"),
        ("s.sampling.temperature", 1e-300, "temperature=1e-300 divides logits"),
        ("s.steps", 2**31, r"config.s.steps must be <= 2147483647 \(32 bits"),
        ("s.objective.advantage_sign", "zzz", "advantage_sign must be one of 'both', 'negative'"),
        ("s.objective.branching", ("a",), r"branching\[0\] must be int"),
        ("sampler.shrink", (float("nan"),), r"config.sampler.shrink\[0\] must be int, got nan"),
        ("sampler.slots", 2**40, "config.sampler.slots must be <= 1048576"),
        ("scoring.workers", 2**31, r"workers must be <= 1024 \(each is a process"),
        ("scoring.rewards", (5,), r"config.scoring.rewards\[0\] must be a mapping, got 5"),
        ("scoring.rewards", ({"name": 5},), r"rewards\[0\]\['name'\] must be str, got 5"),
        ("scoring.rewards", ({"name": "x", "options": 5},), "'options'. must be a mapping, got 5"),
        ("scoring.timeout_seconds", 0, "timeout_seconds must be > 0"),
        ("data.heldout_size", 2**64, r"heldout_size must be <= 1000000 \(each is read before"),
        ("data.train_size", 2**64, "train_size must be <= 10000000"),
        ("data.tasks", ({"name": "x", "parameters": {"a": DEEP}},), "has more than 20 levels"),
        ("data.tasks", ({"name": "x", "parameters": {"a": {1}}},), r"\['a'\] must be text, a fin"),
        ("data.tasks", ({"name": "x", "parameters": {1: 1}},), "has the key 1; keys are texts"),
        ("data.path", "a\0b", "config.data.path must be text without NUL"),
        ("data.path", "a" * 300, "config.data.path must have names of at most 255 bytes"),
        ("name", "a/b", "name must be that of a folder, got 'a/b'"),
        ("name", "\ud83d", "must be text without half characters"),
        ("model.layers", 10**9, "config.model.layers must be <= 1024"),
        ("model.width", True, "config.model.width must be int, got True"),
        ("model.sliding_window", -3, "config.model.sliding_window must be >= 0, got -3"),
        ("model.norm_epsilon", 1e308, r"norm_epsilon must be in \[0, 1\], got 1e[+]308"),
        ("model.norm_epsilon", 2.0, r"norm_epsilon must be in \[0, 1\], got 2.0"),
        ("model.rope_base", 0, "config.model.rope_base must be >= 1"),
        ("model.rope_base", float("inf"), "config.model.rope_base must be finite"),
        ("model", 5, "config.model is a section, got 5"),
    ],
    ids=lambda value: shown(value)[:40],
)
def test_impossible_values_are_refused_when_the_config_is_built(path, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        validate(complete(changed(path, value)))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "method, changes, message",
    [
        (
            "grpo",
            {"steps": 2**30, "batch.epochs_per_step": 4},
            "the optimizer counts to 214748",
        ),
        ("grpo", {"sampling.max_new_tokens": 2**24}, "tokens in a step; it counts to"),
        ("dpo", {"data.source": "sampled_pairs", "sampling.temperature": 0}, "the same sample G"),
    ],
)
def test_numbers_that_are_too_large_together(method, changes, message):
    words = [f"--config.s.method={method}"]
    words += [f"--config.s.{name}={value}" for name, value in changes.items()]
    with pytest.raises(ValueError, match=message):
        validate(apply_overrides(complete(SMALL), words))


@pytest.mark.parametrize(
    "path, listed, hint",
    [
        ("s.bacth", "'batch', 'critic'", "Did you mean 'batch'"),
        ("s.objective.clip_hihg", "'clip_high', 'clip_low'", "Did you mean 'clip_high'"),
        ("s.sampling.tpo_k", "'top_k', 'top_p'", "Did you mean 'top_k'"),
        ("s.batch.learning_rate", "'samples_per_prompt'", "There is .*config.s.optimizer.learn"),
        ("data.train_szie", "'train_size'", "Did you mean 'train_size'"),
        ("sede", "'seed'", "Did you mean 'seed'"),
        ("s.data.lenght", "none", ""),
        ("model.lora.rnak", "'rank'", "Did you mean 'rank'"),
    ],
)
def test_unknown_fields_list_what_is_read_and_the_nearest(path, listed, hint):
    with pytest.raises(ValueError, match=f"Unknown field.*known: .*{listed}.*{hint}") as caught:
        complete(changed(path, 1))
    said = str(caught.value)
    if path.startswith("s."):  # nothing of other families, nor of other sources
        for other in ("ema_decay", "pair_prompts", "row_tokens", "block_tokens", "hinge_margin"):
            assert f"'{other}'" not in said
    elif path.startswith("data."):
        assert "'prompt_column'" not in said


@pytest.mark.parametrize(
    "word, message",
    [
        ("--config.s.sampling.stop_strings=(((", "a tuple in Python's words, .* is needed"),
        ("--config.s.sampling.stop_strings=" + "(" * 100_000, "is needed"),
        ("--config.model.tied_embeddings=maybe", "true or false is needed"),
        ("--config.seed=" + "9" * 5000, "a whole number is needed"),
        ("--config.s.sampling.logit_bias=(('a', 1),)", r"logit_bias\[0\]\[0\] must be int"),
        ("--config.s.optimizer.name=adma", "Did you mean 'adamw'"),
        ("--config.", "Missing value"),
        ("--config..=3", "Unknown field ''"),
    ],
)
def test_overrides_that_cannot_be_read(word, message):
    with pytest.raises(ValueError, match=message) as caught:
        apply_overrides(complete(SMALL), [word])
    assert len(str(caught.value)) < 2000


def test_an_override_may_take_back_what_a_file_says():
    config = complete(changed("s.objective.kl_weight", 0.5))
    apply_overrides(config, ["--config.s.objective.kl_weight=None"])
    assert config.s.objective.kl_weight is None
    assert validate(config)[0].objective.values["kl_weight"] == 0.04


def test_every_token_forbidden_is_an_error():
    with pytest.raises(ValueError, match="forbidden_tokens names all 8 tokens of the vocabulary"):
        token_bias(TokenFilter(forbidden_tokens=tuple(range(8))), 8)
    assert token_bias(TokenFilter(forbidden_tokens=(0, 0, 1)), 3) is not None


SHAPE = dict(vocab_size=8, layers=1, width=8, heads=2, kv_heads=1, head_dim=4, mlp_width=8)


@pytest.mark.parametrize(
    "field, value",
    [
        ("layers", 10**9),
        ("width", 0),
        ("rope_base", 0.0),
        ("rope_base", float("inf")),
        ("norm_epsilon", 1e308),
        ("norm_epsilon", float("nan")),
        ("norm_epsilon", -1e-6),
        ("sliding_window", -3),
        ("logit_softcap", -1.0),
        ("embedding_scale", float("nan")),
    ],
)
def test_a_model_checks_its_own_numbers(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .*\(config.model.{field}\)"):
        ModelConfig(**(SHAPE | {field: value}))


def test_a_scaling_that_blends_needs_a_range():
    with pytest.raises(ValueError, match="0 < low_frequency_factor < high_frequency_factor"):
        RopeScaling(kind="llama3", factor=2.0, low_frequency_factor=4.0, high_frequency_factor=4.0)
    with pytest.raises(ValueError, match="0 < beta_slow < beta_fast"):
        RopeScaling(kind="yarn", factor=2.0, beta_slow=40.0)


def test_choices_of_the_schema_are_those_of_the_code():
    from rljax.config.schema_stage import OPTIMIZER

    assert set(OPTIMIZER["name"].choices) == set(OPTIMIZERS)
    assert set(OPTIMIZER["schedule"].choices) == set(SCHEDULES)


def test_values_take_the_type_of_their_field():
    assert type(checked(Field(0.0, "x"), 3, "config.x")) is float
    assert checked(Field((), "x", items=Field(0.0, "y")), [1, 2], "config.x") == (1.0, 2.0)
    assert as_json({"a": (1, [2.0, None])}, "config.x") == {"a": (1, [2.0, None])}


def test_what_was_accepted_is_saved_whole():
    config = complete(changed("s.sampling.logit_bias", [[3, 1]]))
    assert resolved_dict(config, validate(config))["s"]["sampling"]["logit_bias"] == [[3, 1.0]]


@pytest.mark.parametrize(
    "one, other, count", [("lenght", "length", 1), ("bacth", "batch", 1), ("", "ab", 2)]
)
def test_swapped_letters_are_one_slip(one, other, count):
    assert slips_between(one, other) == slips_between(other, one) == count


def test_the_nearest_name():
    assert slip_of("lenght", ["length", "light"]) == "length"
    assert slip_of("ab", ["xy", "ax"]) is None
    assert like("samples", ["samples_per_prompt", "steps"]) == "samples_per_prompt"
