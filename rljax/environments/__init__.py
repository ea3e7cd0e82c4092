"""Environments: what answers the replies of a model, turn by turn. Text in, text out; no jax.

| file | what it holds |
| --- | --- |
| `environment.py` | the two functions of an environment, and what they return |
| `players.py` | the same of several players, each with a conversation of its own |
| `table.py` | environments by name; the user's own |
| `problems.py` | problems of a run as an environment begins them, or makes them |
| `stepping.py` | steps in worker processes, each with a time limit |
| `agents.py` | programs that play episodes by themselves, in worker processes |
| `record.py` | what became of an episode |
| `tools.py` | typed functions as tools: schemas, calls |
| `call_formats.py` | how models write calls |
| `tool_use.py` | an environment of tools |
| `calculator.py` | a calculator as a tool |
| `dictionary.py` | translation with a dictionary to ask |
| `lookup.py` | a table to look things up in, with a budget |
| `retries.py` | any reward of text, with several tries |
| `guess.py` | higher or lower |
| `kuhn.py` | Kuhn poker against oneself |
| `nim.py` | Nim against oneself |
| `games.py` | several such games in one run |
| `proposals.py` | one player makes up sums, others solve them |
| `waltz.py` | a conversation agent and a feedback agent |
"""
