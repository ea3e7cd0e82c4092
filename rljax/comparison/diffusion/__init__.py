"""The table of policy gradients of masked diffusion models, on countdown and 4x4 sudoku.

methods.py  the config of each method, from one supervised checkpoint
study.py    what is measured, under which decodings, and what papers claim

`launch/diffusion.py` is the command; comparison/from_start/ runs it.
"""
