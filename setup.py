"""Packaging: `pip install -e .`; `extras_require` below names the extras."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "rljax/__init__.py").read_text()).group(1)

setup(
    name="rljax",
    version=VERSION,
    description="Post-training of language models in JAX: RLVR, preference and evidence objectives",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["rljax", "rljax.*"]),
    install_requires=[
        "chex",
        "flax>=0.12",
        "grain>=0.2.12",
        "jax>=0.10",
        "math-verify>=0.9",
        "ml-collections>=1.0",
        "numpy",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pyarrow",
        "pyyaml",
        "reasoning-gym>=0.1.25",
        "rich",
        "scipy>=1.15",
        "tensorboardX",
    ],
    extras_require={
        "test": [
            "kubernetes-validate",
            "openai",
            "pytest",
            "pytest-xdist",
            "qwix>=0.1.8",
            "ruff",
            "starlette",
            "uvicorn",
        ],
        "serve": ["starlette", "uvicorn"],
        "tpu": ["jax[tpu]"],
        "gpu": ["jax[cuda12]"],
        "gcs": ["gcsfs", "google-cloud-storage"],
        "hf": ["transformers", "jinja2"],
        "instructions": ["langdetect"],
        "wandb": ["wandb"],
        "plan": ["libtpu"],
        "parity": ["peft", "torch"],
    },
)
