"""The value model: its network, its own TrainState, its values and its loss.

With `trunk="separate"` it is a copy of the policy's trunk with a value head, all of it trained.
With `trunk="shared"` it is a head alone, on the hidden states of the policy, which it does not
change. Either has its own optimizer and counters, sharded as the policy's are. Beside a policy of
masked diffusion it values what the sampler saw when it filled each token.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.sharding import Mesh

from rljax.models.heads import value_network
from rljax.models.network import Network, Params
from rljax.objectives.parts import apply
from rljax.parallel.rules import replicated
from rljax.training.learner.arrays import flat, per_token
from rljax.training.update.logprobs import states_before
from rljax.training.update.state import TrainState, first_moments, state_shardings
from rljax.training.update.train_step import Batch, Metrics, make_train_step
from rljax.training.update.trajectory_values import trajectory_values

HEAD = "value_head"  # of a shared trunk


@dataclasses.dataclass(frozen=True)
class Critic:
    """A value model on the trunk of a policy."""

    policy: Network
    network: Network | None  # None: the trunk is the policy's
    optimizer: optax.GradientTransformation
    loss: Callable  # objectives/values.py or credit/component_gae.py, fields bound
    settings: Mapping[str, Any]  # config.<stage>.critic
    micro_batches: int
    trajectory: Mapping[str, Any] | None = None  # fields of the likelihood, of masked diffusion
    heads: int | None = None  # values of several rewards; None: one value, without an axis

    @classmethod
    def create(
        cls,
        policy: Network,
        optimizer: optax.GradientTransformation,
        loss: Callable,
        settings: Mapping[str, Any],
        micro_batches: int,
        trajectory: Mapping[str, Any] | None = None,
        heads: int | None = None,
    ) -> "Critic":
        """Its structure; nothing is allocated.

        Raises:
            ValueError: for a separate trunk of a policy with adapters.
        """
        if settings["trunk"] == "shared":
            return cls(policy, None, optimizer, loss, settings, micro_batches, trajectory, heads)
        if policy.config.lora is not None:
            raise ValueError(
                "trunk='separate' would train a whole second model beside adapters on a frozen "
                "one: set trunk='shared' (config.<stage>.critic.trunk, config.model.lora)."
            )
        network = value_network(policy, heads or 1)
        return cls(policy, network, optimizer, loss, settings, micro_batches, trajectory, heads)

    def first_params(self, params: Params) -> Params:
        """Zero head, so that every value is 0 first; and a copy of the policy's trunk."""
        width, heads = self.policy.config.width, self.heads or 1
        if self.network is None:
            return {HEAD: {"kernel": jnp.zeros((width, heads)), "bias": jnp.zeros((heads,))}}
        trunk = {name: params[name] for name in self.network.shapes if name in params}
        head = {
            name: jnp.zeros(shape.shape, shape.dtype)
            for name, shape in self.network.shapes.items()
            if name not in trunk
        }
        return trunk | head

    def first_state(self, params: Params) -> TrainState:
        """Its TrainState, given all parameters of the policy."""
        own = self.first_params(params)
        zeros = [jnp.zeros((), jnp.int32) for _ in range(3)]  # donated buffers are not shared
        return TrainState(own, first_moments(self.optimizer, own), *zeros)

    def shardings(self, mesh: Mesh) -> TrainState:
        """The sharding of each leaf of its TrainState."""
        if self.network is not None:
            return state_shardings(self.network, self.optimizer, mesh)
        whole = replicated(mesh)
        abstract = jax.eval_shape(lambda: self.first_state({}))
        return jax.tree.map(lambda _: whole, abstract)

    def values(self, params: Params, policy_params: Params, rows: Batch) -> Array:
        """The value of the state before each completion token; of masked diffusion, around it.

        Args:
            params: its own.
            policy_params: all of the policy's; read with a shared trunk only, and not changed.
            rows: of `completion_statistics` (training/update/logprobs.py).

        Returns:
            f32, with the axes of the mask; and one of the heads, where there are several.
        """
        trunk, own_trunk = self.policy.bind(policy_params), self.network is not None
        if self.trajectory is not None:

            def value(params: Params, *inputs: Array) -> Array:
                model = self.network.bind(params) if own_trunk else trunk
                return self._scores(params, model(*inputs).hidden)

            mask_token = self.policy.config.mask_token
            return trajectory_values(
                value, params, rows, mask_token=mask_token, fields=self.trajectory
            )
        model = self.network.bind(params) if own_trunk else trunk
        scores = self._scores(params, states_before(model, rows)[0])
        own = () if self.heads is None else (self.heads,)
        return scores.reshape(*rows["mask"].shape, *own)

    def _scores(self, params: Params, states: Array) -> Array:
        """[..., D] -> [...] f32: its head's score of each state; of several heads [..., H]."""
        if self.network is not None:
            scores = self.network.bind(params).scores(states)
        else:
            head, states = params[HEAD], jax.lax.stop_gradient(states).astype(jnp.float32)
            scores = states @ head["kernel"] + head["bias"]
        return scores[..., 0] if self.heads is None else scores

    def step(
        self, state: TrainState, policy_params: Params, batch: Batch
    ) -> tuple[TrainState, Metrics]:
        """One update of it; none where `value_mask` is False everywhere.

        Args:
            state: its own.
            policy_params: see `values`.
            batch: rows, with `returns`, old `values` and `value_mask`.
        """
        # The mask is the policy's; whether there is something to learn is another question here.
        batch = {**batch, "mask": batch["value_mask"]}
        count = jnp.maximum(batch["value_mask"].sum(), 1)

        def loss_fn(params: Params, part: Batch) -> tuple[Array, Metrics]:
            arrays = flat(part)
            values = per_token(self.values(params, policy_params, part), part["mask"].shape)
            name = "new_values" if self.heads is None else "new_component_values"
            loss, metrics = apply(self.loss, arrays | {name: values})
            return loss.sum() / count, metrics

        update = make_train_step(loss_fn, self.optimizer, micro_batches=self.micro_batches)
        state, metrics = update(state, {}, batch)
        names = ("loss", "gradient_norm", "gradient", "updates_skipped", "learning_rate")
        return state, {
            (f"critic/{name}" if name in names else name): metric
            for name, metric in metrics.items()
        }
