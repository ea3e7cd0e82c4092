"""Problems with checkable answers. Nothing in this room imports jax.

| room or file | what it holds |
| --- | --- |
| `problem.py` | the record that every task produces |
| `reasoning_gym.py` | problems of the reasoning-gym package, alone or mixed |
| `seeds.py` | whether the seeds of two sets of problems meet |
| `worked.py` | worked demonstrations: short solutions step by step |
| `symbols/` | small exact tasks over one alphabet, for the device and the host |
"""
