"""From a config file and overrides to a checked, locked config.

schema.py    every field: default, meaning, allowed values
load.py      --config=FILE[:ARG], --config.a.b=value, `:smoke`
validate.py  a whole config, checked and resolved; calls the six below
ranges.py    what one field alone may be
data.py      fields that a source of data reads
resolve.py   a stage with every value filled in; fields that nothing reads
right_score.py  fields that say what a right sample scores: by default what the rewards say
batch.py     batch arithmetic
checks.py    combinations that cannot work
policy_gradient.py  those of policy-gradient parts
stage.py     a resolved stage
mesh.py      whether batches and rows divide over a mesh
model.py     the model section as a ModelConfig: preset, checkpoint, or a small default
graph.py     where stages and the models that they read start from
identity.py  hash, differing fields, versions and devices
runs.py      what the folder of a run says
markdown.py  every field as a table, for configs/README.md
"""
