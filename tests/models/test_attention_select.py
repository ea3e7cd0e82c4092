"""Which kernel serves, and what the message says where none can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from rljax.models.attention import cudnn as cudnn_module
from rljax.models.attention.select import platform, resolve_kernel
from tests.tolerance import assert_same_sums


@pytest.mark.parametrize(
    "changes, device, slots, kernel",
    [
        ({}, "cpu", 128, "dense"),
        ({}, "tpu", 128, "splash"),
        (dict(attention="dense"), "tpu", 128, "dense"),
        ({}, "gpu", 128, "dense"),  # float32
        (dict(dtype="bfloat16"), "gpu", 128, "cudnn"),
        (dict(dtype="bfloat16"), "gpu", 127, "dense"),
        (dict(dtype="bfloat16", attention_softcap=50.0), "gpu", 128, "dense"),
        (dict(dtype="bfloat16", head_dim=256), "gpu", 128, "dense"),
        (dict(dtype="bfloat16", attention_softcap=50.0), "tpu", 127, "splash"),
    ],
)
def test_auto_takes_the_fused_kernel_that_can(tiny_network, changes, device, slots, kernel):
    assert resolve_kernel(tiny_network(**changes).config, device, slots) == kernel


@pytest.mark.parametrize(
    "changes, device, words",
    [
        (dict(attention="splash"), "cpu", "TPU, not on cpu"),
        (dict(attention="cudnn", dtype="bfloat16"), "tpu", "GPU, not on tpu"),
        (dict(attention="cudnn"), "gpu", "config.model.dtype"),
        (
            dict(attention="cudnn", dtype="bfloat16", attention_softcap=1.0),
            "gpu",
            "config.model.attention_softcap",
        ),
        (dict(attention="cudnn", dtype="bfloat16", head_dim=12), "gpu", "config.model.head_dim"),
    ],
)
def test_a_kernel_that_cannot_serve_says_why(tiny_network, changes, device, words):
    with pytest.raises(ValueError, match=r"config.model.attention\)") as error:
        resolve_kernel(tiny_network(**changes).config, device, 128)
    assert words in str(error.value)


def test_platform_is_that_of_the_mesh_and_not_of_this_machine():
    assert platform() == jax.default_backend()
    described = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")
    mesh = AbstractMesh((1,), ("data",), abstract_device=described)
    with jax.sharding.use_abstract_mesh(mesh):
        assert platform() == "tpu"


def test_cudnn_is_given_scale_causality_and_mask(tiny_network, monkeypatch):
    # Its kernels need a GPU; XLA's attention, of the same signature, stands in for them.
    attention, asked = jax.nn.dot_product_attention, {}

    def stand_in(q, k, v, *, implementation, **options):
        asked.update(options, implementation=implementation)
        return attention(q, k, v, implementation="xla", **options)

    monkeypatch.setattr(cudnn_module.jax.nn, "dot_product_attention", stand_in)
    config = tiny_network(attention_scale=0.3).config
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(1, 4, n, 8)), jnp.float32) for n in (4, 2, 2))
    mask = jnp.tril(jnp.ones((1, 1, 4, 4), bool)) & (jnp.arange(4) > 0)
    mixed = cudnn_module.cudnn(q, k, v, mask, config)
    assert asked["implementation"] == "cudnn" and asked["is_causal"] and asked["scale"] == 0.3
    expected = attention(q, k, v, mask=mask, scale=0.3)
    assert_same_sums(mixed[:, 1:], expected[:, 1:], terms=8 + 4)
