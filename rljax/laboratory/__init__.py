"""The estimator laboratory: bounds and gradient estimators on problems whose truth is enumerated.

| file | what it holds |
| --- | --- |
| `problem.py` | a problem with few chains of thought and answers; its exact likelihood |
| `draws.py` | all draws of n out of a few, whatever their order |
| `entry.py` | what an entry is: draws, an estimate, what it claims, what it costs |
| `latent.py` | the entries of latent chain of thought, by the functions that training uses |
| `entries.py` | all entries by name |
| `measure.py` | bias and variance of an entry: enumerated, and sampled as training samples |
| `report.py` | the results as rows, JSON and a table; the order of the bounds |
| `picture.py` | tightness and variance as SVG |

`launch/estimators.py` is the command, and README.md shows what it finds.
"""
