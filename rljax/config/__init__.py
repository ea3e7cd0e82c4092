"""From a config file and overrides to a checked, locked config.

fields.py    what a field is: type, range, items; the check of one value
schema.py    every field of a run; schema_model.py those of its model, schema_stage.py of a stage,
             schema_stage_data.py of its data, schema_data.py of problems, schema_scoring.py of
             rewards, schema_environment.py of an environment
load.py      --config=FILE[:ARG], `:smoke`
arguments.py what a config file does with its ARG; recipe_arguments.py  ARG as words, `name=value`
overrides.py --config.a.b=value
unknown.py   the error for a field that does not exist
other_names.py  what other libraries call our fields
validate.py  a whole config, checked and resolved; calls the eight below
data.py      fields that a source of data reads
resolve.py   a stage with every value filled in; fields that nothing reads
right_score.py  fields that follow the rewards: what a right sample scores, how many there are
composition.py  whether methods and composed rewards fit together
batch.py     batch arithmetic
checks.py    combinations that cannot work
curriculum.py    which problems a stage samples, and what that needs
asynchronous.py  whether samples of a run may be of older weights
policy_gradient.py  those of policy-gradient parts; windows.py  of responses in several steps
preference.py  those of preference parts
distillation.py  those of a teacher
guide.py     those of a guide policy
environment.py  those of episodes
sampled_rounds.py  those of stages whose policy writes its own rows
reward_role.py  those of a reward model beside a policy
teacher_role.py those of a teacher, or of several
posterior.py     those of chains of right samples
stage.py     a resolved stage
decoding.py  how the policy of a stage is judged
mesh.py      whether batches and rows divide over a mesh
lengths.py   whether rows fit into the positions of the model
model.py     the model section as a ModelConfig: preset, checkpoint, or a small default
graph.py     where stages and the models that they read start from
identity.py  hash, differing fields, versions and devices
runs.py      what the folder of a run says
markdown.py  every field as a table, for configs/README.md
"""
