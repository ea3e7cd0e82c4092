"""Verifiers and how they are run. Nothing in this room imports jax, nor do its processes.

| file | what it holds |
| --- | --- |
| `functions.py` | the built-in rewards by name |
| `user_rewards.py` | a reward of a file, or of a module of the user's |
| `compose.py` | several rewards into one number, and constraints |
| `member.py` | one of them: weight, threshold, clip, gates, where it applies |
| `thresholds.py` | from which value on something counts |
| `pool.py`, `judging.py` | scores: what workers are asked of samples, and the answers |
| `workers.py`, `worker.py` | worker processes; time and memory of each request are limited |
| `share.py` | several processes of a run answer the requests of a step together |
| `guard.py`, `output.py`, `lifeline.py` | what keeps rewards from outliving or disturbing the run |
| `code/` | the reward "python_tests": programs and their tests |
| `sandbox/` | programs that nobody has read, run under limits |
| `right_watch.py` | a word where the scale of a user's reward was probably forgotten |
| `golds.py` | gold answers, read or refused when a file is opened |
| `answers.py`, `references.py` | where an answer stands; what references hold |
| `arithmetic.py` | values of arithmetic in text, without running it |
| `mathematics/` | the reward "math": answers compared by value |
| `math_strings.py`, `reasoning_tags.py` | rewards of papers on MATH and GSM8K |
| `stacks/` | rewards as open-instruct, verl and rllm compute them |
| `countdown.py`, `sudoku.py` | rewards of papers on Countdown and 4 x 4 Sudoku |
| `lengths.py` | how long a completion is, and the box before its end of thinking |
| `tool_calls.py` | a tool call against the gold call, graded |
| `actions.py` | a JSON action, its type and its fields, graded |
| `text_metrics/` | BLEU, chrF and ROUGE against reference texts |
| `judges/` | rewards that a language model gives, and one that trains a judge |
| `instructions/` | IFEval's checks of what a text was asked for |
| `markdown.py` | the table of rewards for the guide |
| `symbols.py` | the reward of the symbol tasks on the host |
"""
