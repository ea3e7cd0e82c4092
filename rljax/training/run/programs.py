"""Compiled programs that are kept, and loaded by later runs: jax's persistent cache in a folder.

Its key is the lowered program itself, the kind and number of devices, the compiler's version and
its flags. So a program that has changed in anything is compiled anew, whatever the change came
from.
"""

import jax


def keep_programs(folder: str) -> None:
    """Keeps all programs that are compiled from now on, also small ones, and loads what is there.

    Args:
        folder: on a disk, or in a store (gs://BUCKET/PATH).
    """
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
