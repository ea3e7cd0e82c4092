"""Verifiers and how they are run. Nothing in this room imports jax, nor do its processes.

| file | what it holds |
| --- | --- |
| `functions.py` | the built-in rewards by name; a reward of a file |
| `compose.py` | several rewards into one number: weights and gates |
| `pool.py`, `worker.py` | scoring processes with a time limit for every sample |
| `answers.py`, `references.py` | where an answer stands; references that are mappings |
| `arithmetic.py` | values of arithmetic in text, without running it |
| `math_strings.py`, `reasoning_tags.py` | rewards of papers on MATH and GSM8K |
| `countdown.py`, `sudoku.py` | rewards of papers on Countdown and 4 x 4 Sudoku |
| `symbols.py` | the reward of the symbol tasks on the host |
"""
