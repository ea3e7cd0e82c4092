"""The first array that is not finite is named, parameters first."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.training.guard import NonFiniteError, guarded, make_guard
from rljax.training.update.state import TrainState

pytestmark = pytest.mark.contract


def state(weight=1.0, moment=0.0, critic=None) -> TrainState:
    zero = jnp.zeros((), jnp.int32)
    params = {"block": {"kernel": jnp.full((2, 3), weight), "scale": jnp.ones(3)}}
    moments = optax.adam(1e-3).init(params)
    moments = optax.tree.set(moments, mu={"block": {"kernel": jnp.full((2, 3), moment)}})
    carried = {"baseline": jnp.float32(np.nan)}  # a statistic, not a parameter
    return TrainState(params, moments, zero, zero, zero, carried | (critic or {}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "where, name",
    [
        (lambda bad: state(weight=bad), "params/block/kernel"),
        (lambda bad: state(moment=bad), "optimizer_state/0/mu/block/kernel"),
        (lambda bad: state(critic={"critic": state(bad)}), "critic/params/block/kernel"),
        (lambda bad: state(weight=bad, moment=bad), "params/block/kernel"),
    ],
)
def test_what_is_not_finite_is_named(where, name, bad):
    with pytest.raises(NonFiniteError) as caught:
        make_guard("rl")(where(bad), 7)
    text = str(caught.value)
    assert text.startswith(f"{name} of stage 'rl' is not finite after step 7")
    assert "config.rl.optimizer" in text and "--workdir" in text and "\n" not in text


def test_a_finite_state_passes_whatever_its_statistics_are():
    check = make_guard("rl")
    check(state(), 1)
    check(state(critic={"critic": state()}), 1)
    names = [name for name, _ in guarded(state())]
    assert names[:2] == ["params/block/kernel", "params/block/scale"]
    assert not any("baseline" in name for name in names)
