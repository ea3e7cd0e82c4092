"""rljax: post-training of language models in JAX. README.md says what it is and how to start.

| room or file | what it holds |
| --- | --- |
| `objectives/` | the mathematics: arrays in, arrays out |
| `laboratory/` | bounds and gradient estimators on problems whose truth is enumerated |
| `models/` | networks: one trunk, its heads and adapters, published checkpoints |
| `parallel/` | the device mesh and the table of sharding rules |
| `processes/` | the processes of one run: who they are, whether they fit, how they end together |
| `pods/` | how a run is brought onto a pod: settings become scripts, files and commands |
| `sampling/` | the sampler, and the token distribution that the trainer shares with it |
| `serving/` | a server of one model, exact to the token |
| `tasks/` | problems with checkable answers |
| `rewards/` | verifiers of text, and the processes that run them |
| `verifiers/` | verifiers that are JAX, for the symbol tasks |
| `environments/` | what answers the replies of a model, turn by turn; tools |
| `data/` | tokenizers, chat templates, sources of records, packing |
| `registry/` | the method table: families, rows, fields, cards |
| `config/` | from a config file to a checked config |
| `reporting/` | metric files, progress, the report of a run |
| `training/` | the train loop and what it calls |
| `commands/` | what the commands of launch/ share: flags, errors, exit statuses |
| `comparison/` | methods against each other, over seeds |
| `benchmarks/` | timings of what training runs |
| `chaos/` | runs that are killed in every phase, and what they leave |
| `planning/` | a run planned for a TPU slice that is not there |
| `errors.py` | errors that name the nearest spelling, or what another library said |
| `remarks.py` | what a user is told in passing |
| `user_modules.py` | files of the user, imported as modules; errors that name their line |
"""

__version__ = "0.1.0"
