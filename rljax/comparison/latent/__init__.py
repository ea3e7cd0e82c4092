"""The table of latent chain of thought: methods that need no verifier beside those that have one.

problems.py  chained modular arithmetic with short and long answers, as files
methods.py   the config of each method, from one warmed-up policy
study.py     what is measured, and what papers claim

`launch/latent.py` is the command; comparison/from_start/ runs it. What it found is in short.json,
its table.json, and in README.md of the room above.
"""
