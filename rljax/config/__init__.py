"""From a config file and overrides to a checked, locked config.

schema.py    every field: default, meaning, allowed values
load.py      --config=FILE[:ARG], --config.a.b=value, `:smoke`
model.py     the model section as a ModelConfig: preset, checkpoint, or a small default
stage.py     a stage of a run, every value resolved
validate.py  what one field cannot know: stages, batch arithmetic, fields that nothing reads
policy_gradient.py  combinations of policy-gradient parts that cannot work
identity.py  hash, differing fields, versions and devices
runs.py      what the folder of a run says
markdown.py  every field as a table, for configs/README.md
"""
