"""What a run is, and where its files are.

| file | what it holds |
| --- | --- |
| `context.py` | what every stage shares: mesh, network, text format, problems, scorer |
| `meshes.py` | which devices of a run train, and which only sample |
| `text_format.py` | the tokenizer, chat template, beginnings and ends of a run |
| `problems.py` | the problems of a run, opened and read before anything compiles |
| `workers.py` | the processes that score samples and answer replies |
| `engines.py` | the sampler that a network has, from the settings of the run |
| `layout.py` | the layout of a stage's rows, once model and mesh are known |
| `roles.py` | what stages of several players need, checked before a run |
| `start.py` | parameters that are drawn, of another run, or of a published checkpoint |
| `models.py` | the models of a stage by role: network, origin, trained or frozen |
| `tokenizers.py` | whether models that read the policy's tokens have its tokenizer |
| `loaded.py` | a model with its tokenizer and templates, outside of any run |
| `inspection.py` | what a model folder or a checkpoint would be loaded as |
| `stages.py` | the stages as a graph: how far each is, what it starts from, what it reads |
| `digests.py` | SHA-256 of files; whether a checkpoint is what was written |
| `storage.py` | folders of checkpoints, on a disk or in an object store |
| `checkpoints.py` | orbax: asynchronous, keep-n and best, exact resume |
| `contents.py` | what a run reads, by content: data, rewards, tokenizer, weights |
| `several.py` | the processes of a run, from its config |
| `workdir.py` | the files of a run, and whether a workdir belongs to a config and its data |
| `phases.py` | what a run is doing now: an account of its time, and marks for who watches it |
| `timeline.py` | what each thread does in some steps |
| `profile.py` | which steps are recorded: an xprof trace, and their timeline |
| `goodput.py` | the wall time of a run over all its processes, and what killed ones lost |
| `lock.py` | one process at a time in a workdir |
| `store.py` | a run with checkpoints in a store: its lock there, a copy of its small files |
| `programs.py` | compiled programs that are kept, and loaded by later runs |
| `summary.py` | the final figures of a run |
"""
