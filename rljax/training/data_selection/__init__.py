"""Which examples of a file are worth learning, and how much: an offline choice, into another file.

| file | what it holds |
| --- | --- |
| `sets.py` | files of demonstrations as examples, and the chosen ones as a file with weights |
| `passes.py` | losses and gradients of single examples |
| `projection.py` | random signs that keep inner products |
| `warmup.py` | the checkpoints of a warm-up: trained parameters, Adam's moments, learning rates |
| `losses.py` | losses of examples, and weights by them |
| `angles.py` | how parallel the token vectors of problems are |
| `less.py` | examples whose updates go where a target's gradients point |
"""
