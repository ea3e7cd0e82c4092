"""All methods by name, one file for each kind."""

from rljax.registry.method import Method
from rljax.registry.methods import (
    baselines,
    critic,
    evidence,
    evolution,
    off_policy,
    preference,
    reward,
    supervised,
    token_level,
)

METHODS: dict[str, Method] = {
    method.name: method
    for file in (
        supervised,
        baselines,
        token_level,
        critic,
        off_policy,
        preference,
        reward,
        evidence,
        evolution,
    )
    for method in file.ROWS
}
