"""ModelConfig: every bad field is named."""

import pytest

from rljax.models.config import ModelConfig

GOOD = dict(vocab_size=13, layers=2, width=16, heads=4, kv_heads=2, head_dim=8, mlp_width=24)


@pytest.mark.parametrize(
    "field, value",
    [(field, 0) for field in GOOD]
    + [("kv_heads", 3), ("head_dim", 7), ("dtype", "float16"), ("param_dtype", "int8")],
)
def test_bad_field_is_named_with_value_and_config_path(field, value):
    with pytest.raises(ValueError) as error:
        ModelConfig(**{**GOOD, field: value})
    assert f"(config.model.{field})" in str(error.value)
    assert str(value) in str(error.value)


@pytest.mark.parametrize("vocab_size, padded", [(1, 8), (8, 8), (9, 16), (264, 264)])
def test_vocabulary_is_padded_to_the_next_multiple_of_8(vocab_size, padded):
    assert ModelConfig(**{**GOOD, "vocab_size": vocab_size}).padded_vocab_size == padded


@pytest.mark.parametrize(
    "mesh, field",
    [
        ({"fsdp": 1, "tensor": 4}, "kv_heads"),
        ({"fsdp": 1, "tensor": 8}, "heads"),
        ({"fsdp": 3, "tensor": 1}, "width"),
    ],
)
def test_mesh_that_does_not_divide_the_model_names_field_and_axis(mesh, field):
    with pytest.raises(ValueError, match=f"config.model.{field}, config.mesh"):
        ModelConfig(**GOOD).check_mesh(mesh)


def test_mesh_that_does_not_divide_the_mlp_names_it():
    config = ModelConfig(**{**GOOD, "mlp_width": 25})
    with pytest.raises(ValueError, match="mlp_width=25 does not divide by the mesh axis tensor=2"):
        config.check_mesh({"fsdp": 1, "tensor": 2})


def test_mesh_that_divides_everything_passes():
    ModelConfig(**GOOD).check_mesh({"data": 5, "fsdp": 16, "tensor": 2})
