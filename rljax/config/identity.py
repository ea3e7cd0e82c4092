"""What makes a run the same run: the resolved config, its hash, versions and devices."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

import jax

from rljax import __version__

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "reasoning-gym")


def config_hash(config: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of the canonical JSON text."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def without_prefixes(config: Mapping[str, Any], prefixes: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a config in which some texts lack their beginning.

    Args:
        config: nested mappings and lists.
        prefixes: "config.a.0.b" -> the beginning of the text in that place.
    """

    def copy(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            return {name: copy(item, f"{path}.{name}") for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [copy(item, f"{path}.{index}") for index, item in enumerate(value)]
        return value.removeprefix(prefixes.get(path, "")) if isinstance(value, str) else value

    return copy(config, "config")


def differing_fields(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str = "config"
) -> list[str]:
    """Lines "config.a.b: 1 -> 2" for every field that differs."""
    lines: list[str] = []
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differing_fields(before, after, f"{path}.{name}")
        elif before != after:
            lines.append(f"{path}.{name}: {before!r} -> {after!r}")
    return lines


def environment() -> dict[str, Any]:
    """Versions and devices, as saved with a run."""
    versions = {"rljax": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        versions[package] = importlib.metadata.version(package)
    devices = [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()]
    return {"versions": versions, "devices": devices}
