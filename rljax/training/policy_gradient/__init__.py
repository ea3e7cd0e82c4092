"""From the samples of a step to an update, as pure functions that both loops share.

    samples, scores ─► experience.py ─► advantages, masks, weights of tokens ─┐
                                                                              ├─► update.py
    the update's whole batch ─► loss.py: prepare, then the loss of its parts ─┘   (policy, critic)

`training/families/policy_gradient.py` calls them between sampling and scoring on the host;
`training/device_loop/` compiles all of it into one program.
"""
