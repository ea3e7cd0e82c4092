"""Problems with checkable answers. Nothing in this room imports jax."""
