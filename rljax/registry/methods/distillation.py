"""Learning from a teacher."""

from rljax.registry.method import Method

ROWS = (
    Method(
        "gkd",
        "distillation",
        "arXiv:2306.13649",
        "Jensen-Shannon divergence from a teacher, half of the steps on the policy's own samples",
        dict(
            divergence="jensen_shannon",
            other_share=0.5,
            off_policy="demonstrations",
            on_policy_share=0.5,
        ),
    ),
    Method(
        "reverse_kd",
        "distillation",
        "arXiv:2306.13649",
        "reverse KL to a teacher over the whole vocabulary, on the policy's own samples",
        dict(divergence="reverse_kl"),
    ),
    Method(
        "opsd",
        "distillation",
        "arXiv:2601.18734",
        "self-distillation: the teacher, the policy's own start, also reads the reference answer",
        dict(divergence="jensen_shannon", other_share=0.5, teacher_context="reference"),
    ),
    Method(
        "sdpo",
        "distillation",
        "arXiv:2601.20802",
        "self-distillation: the teacher, a moving average of the policy, also reads another "
        "sample, one that the verifier finds right",
        dict(
            divergence="jensen_shannon",
            other_share=0.5,
            support="policy_top_k",
            support_tokens=100,
            teacher_context="sample",
            context_pattern="{prompt}\n\nCorrect solution:\n\n{context}\n\n"
            "Correctly solve the original question.",
            teacher_update="moving",
            teacher_mixup=0.05,
            correction="truncated",
            correction_cap=2.0,
        ),
    ),
    Method(
        "sdpo_trust_region",
        "distillation",
        "arXiv:2601.20802",
        "SDPO whose teacher is the policy's start, mixed with the policy as it is",
        dict(
            divergence="jensen_shannon",
            other_share=0.5,
            support="policy_top_k",
            support_tokens=100,
            teacher_context="sample",
            context_pattern="{prompt}\n\nCorrect solution:\n\n{context}\n\n"
            "Correctly solve the original question.",
            teacher_update="mixed",
            teacher_mixup=0.05,
            correction="truncated",
            correction_cap=2.0,
        ),
    ),
    Method(
        "sdft",
        "distillation",
        "arXiv:2601.19897",
        "self-distillation: the teacher also reads a demonstration; reverse KL",
        dict(divergence="reverse_kl", teacher_context="demonstration"),
    ),
    Method(
        "word_kd",
        "distillation",
        "arXiv:1606.07947",
        "forward KL from a teacher over the whole vocabulary, on demonstrations",
        dict(divergence="forward_kl", off_policy="demonstrations", on_policy_share=0.0),
    ),
    Method(
        "salt",
        "distillation",
        "arXiv:2410.18779",
        "likelihood of demonstrations and forward KL from a small teacher, for the first steps",
        dict(
            divergence="forward_kl",
            off_policy="demonstrations",
            on_policy_share=0.0,
            likelihood_share=1 / 3,
            teacher_temperature=0.25,
        ),
    ),
    Method(
        "sequence_kd",
        "distillation",
        "arXiv:1606.07947",
        "likelihood of what a teacher writes",
        dict(divergence="likelihood", off_policy="teacher", on_policy_share=0.0),
    ),
)
