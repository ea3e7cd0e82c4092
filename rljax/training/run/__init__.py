"""What a run is, and where its files are.

| file | what it holds |
| --- | --- |
| `context.py` | what every stage shares: mesh, network, tokenizer, problems, scorer |
| `engines.py` | the sampler that a network has, from the settings of the run |
| `layout.py` | the layout of a stage's rows, once model and mesh are known |
| `start.py` | the parameters that a run starts from |
| `checkpoints.py` | orbax: asynchronous, keep-n and best, exact resume |
| `workdir.py` | the files of a run, and whether a workdir belongs to a config |
| `summary.py` | the final figures of a run |
"""
