"""All methods by name, one file for each kind."""

from rljax.registry.method import Method
from rljax.registry.methods import evidence, group_relative, preference, supervised

METHODS: dict[str, Method] = {
    method.name: method
    for file in (supervised, group_relative, preference, evidence)
    for method in file.ROWS
}
