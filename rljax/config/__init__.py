"""From a config file and overrides to a checked, locked config.

schema.py    every field: default, meaning, allowed values
load.py      --config=FILE[:ARG], --config.a.b=value, `:smoke`
model.py     the model section as a ModelConfig: preset, checkpoint, or a small default
runs.py      what the folder of a run says
validate.py  what one field cannot know: stages, batch arithmetic, fields that nothing reads
graph.py     where stages and the models that they read start from
identity.py  hash, differing fields, versions and devices
"""
