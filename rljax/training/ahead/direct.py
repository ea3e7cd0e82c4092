"""Weights from device to device; between devices of several processes, without their hosts."""

import jax

from rljax.models.network import Params
from rljax.parallel.halfway import halfway_mesh, moved
from rljax.sampling.engine import Engine


class Direct:
    """From device to device."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._cast = jax.jit(engine.prepared)

    def send(self, params: Params, version: int) -> Params:
        """See `Transfer.send`."""
        trainer, sampler = jax.tree.leaves(params)[0].sharding.mesh, self.engine.mesh
        shared = set(trainer.devices.flat) == set(sampler.devices.flat)
        if jax.process_count() == 1 or shared:
            return jax.block_until_ready(self.engine.load(params))
        halfway = halfway_mesh(trainer, sampler)
        cast = self._cast(params)
        return jax.tree.map(
            lambda leaf, place: moved(leaf, halfway, place), cast, self.engine.placement(cast)
        )

    def receive(self, sent: Params) -> Params:
        """See `Transfer.receive`."""
        return sent

    def forget(self, sent: Params) -> None:
        """Nothing to do: arrays are freed with their last reader."""

    def tidy(self) -> None:
        """Nothing to do."""
