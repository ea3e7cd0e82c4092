import json
def test_run(tiny_run):
    run = tiny_run("grpo")
    print(run.output); print(sorted(run.compiled))
def test_dpo(tiny_run):
    run = tiny_run("dpo")
    print(run.output); print(sorted(run.compiled))
def test_jepo(tiny_run):
    run = tiny_run("jepo")
    print(run.output); print(sorted(run.compiled))
def test_re(tiny_run):
    run = tiny_run("reinforce")
    print(run.output); print(sorted(run.compiled))
