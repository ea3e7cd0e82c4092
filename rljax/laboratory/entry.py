"""What the laboratory measures: one entry for each estimator, number of samples and baseline."""

import dataclasses
from collections.abc import Callable

from jax import Array

from rljax.laboratory.problem import Params

Scalar = Callable[[Params], Array]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An estimator of a scalar and of its gradient.

    A draw is `samples` outcomes, one from each slot; an outcome is an index into a finite set: a
    chain of thought, a whole completion, a mask. Entries of other problems bring other outcomes.

    Attributes:
        name: of the method, the same for all numbers of samples and baselines.
        samples: n.
        baseline: what lowers the variance; "none".
        slots: parameters to log-probabilities [draws, outcomes] of the outcome of each slot. Where
            all rows are the same function, the order of a draw must not matter.
        estimate: (parameters, draw [draws] i32) to the value [] and a loss [] whose gradient is
            minus the estimate of the gradient.
        aim: the scalar that value and gradient are held against.
        side: what the expected value is of log p(a* | x): "lower" or "upper" bound, "" neither.
        claims_value: whether the value claims to be `aim` in expectation.
        claims_gradient: whether the gradient claims to be that of `aim` in expectation.
        has_value: whether there is a value at all.
        has_gradient: whether there is a gradient at all.
        cost: of one draw, in forward passes of one token (`latent.py` says how they are counted).
        alike: whether all slots have one distribution.
    """

    name: str
    samples: int
    baseline: str
    slots: Callable[[Params], Array]
    estimate: Callable[[Params, Array], tuple[Array, Array]]
    aim: Scalar
    cost: float
    side: str = ""
    claims_value: bool = True
    claims_gradient: bool = True
    has_value: bool = True
    has_gradient: bool = True
    alike: bool = True
