"""Reports of benchmarks as text."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_report(report: dict[str, Any], console: Console) -> None:
    """A table of a report, with a line on what was timed and where."""
    if report["benchmark"] == "ahead":
        _print_ahead(report, console)
        return
    if report["benchmark"] == "serve":
        _print_serving(report, console)
        return
    settings, machine = report["settings"], report["machine"]
    console.print(
        f"{report['parameters'] / 1e6:.1f} M parameters, {report['model']['dtype']}; "
        f"{settings['prompts']} prompts x {settings['samples']} samples, "
        f"{settings['prompt_tokens']} + {settings['new_tokens']} tokens; {machine['devices']} x "
        f"{machine['device']}, {_giga(machine['matmul_flops_per_second'])} GFLOP/s in large matrix "
        "products on one",
        soft_wrap=True,
    )
    kinds = {
        "sample": _sample_rows,
        "batch-size": _batch_size_rows,
        "step": _step_rows,
        "dpo": _step_rows,
        "update": _update_rows,
        "evolution": _evolution_rows,
        "diffusion": _diffusion_rows,
    }
    rows = kinds[report["benchmark"]](report)
    table = Table()
    for name in rows[0]:
        table.add_column(name, justify="left" if name == next(iter(rows[0])) else "right")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    if report["benchmark"] == "dpo":
        console.print(f"{report['tokens_per_second']:.0f} tok/s of sides with their prompts")
        for name, peer in report["peers"].items():
            rate, ratio = peer["tokens_per_second"], peer["ratio"]
            console.print(f"{name}: {rate:.0f} tok/s; ours is {ratio:.2f} times as fast")
    if report["benchmark"] == "sample":
        _print_sampling(report, console)
    if report["benchmark"] == "batch-size":
        _print_knee(report, console)
    if report["benchmark"] in ("sample", "batch-size", "evolution", "diffusion"):
        return
    nominal = machine["nominal_flops_per_second"]
    if nominal:
        rates = [row["GFLOP/s"] for row in rows if row["GFLOP/s"]]
        shares = [f"{float(rate) * 1e9 / machine['devices'] / nominal:.1%}" for rate in rates]
        console.print(f"of the nominal rate, from top to bottom: {', '.join(shares)}")


def _sample_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """Ours, the bounds, the same sampler without refill, and the peers."""
    ours = report["tokens_per_second"]
    rates = {
        "ours": ours,
        "bound: matrix products": report["bound_tokens_per_second"],
        "bound: memory": report["memory_bound_tokens_per_second"],
    }
    if "without_refill" in report:
        rates["without refill"] = report["tokens"] / report["without_refill"]["seconds"]
    ratios = {name: ours / rate for name, rate in rates.items()}
    for name, peer in report["peers"].items():
        rates[name], ratios[name] = peer["tokens_per_second"], peer["ratio"]
    return [
        {"sampler": name, "tokens/s": f"{rate:.0f}", "ours / it": f"{ratios[name]:.2f}"}
        for name, rate in rates.items()
    ]


def _print_serving(report: dict[str, Any], console: Console) -> None:
    settings, rates = report["settings"], report["tokens_per_second"]
    console.print(
        f"{report['parameters'] / 1e6:.1f} M parameters, {report['model']['dtype']}; "
        f"{report['requests']} requests of {settings['prompts']} clients, "
        f"{settings['prompt_tokens']} + {settings['new_tokens']} tokens"
    )
    console.print(
        f"server {rates['server']:.0f} tokens/s, generator {rates['generator']:.0f}: "
        f"{report['ratio']:.2f} of its rate"
    )
    cpu = report["cpu_seconds"]
    console.print(
        f"CPU seconds of a round: server {cpu['server']:.1f}, generator {cpu['generator']:.1f}: "
        f"{cpu['generator'] / cpu['server']:.2f}"
    )
    table = Table()
    names = list(next(iter(report["latency"].values())))
    for name in ("seconds until", *names):
        table.add_column(name, justify="left" if name not in names else "right")
    shown = {"first_token": "the first token", "token": "each further token", "request": "the end"}
    for name, label in shown.items():
        table.add_row(label, *(f"{report['latency'][name][each]:.3f}" for each in names))
    console.print(table)


def _print_sampling(report: dict[str, Any], console: Console) -> None:
    error = report["logprob_error"]
    lines = [
        f"useful slot-steps: {report['useful_slot_steps']:.1%}",
        f"weights into the sampler's layout: {report['load_seconds']:.4f} s per update",
        "log-probabilities, against the trainer's: "
        f"mean {error['mean']:.1e}, max {error['max']:.1e}",
    ]
    if "without_refill" in report:
        share = report["without_refill"]["useful_slot_steps"]
        lines.insert(1, f"useful slot-steps without refill: {share:.1%}")
    console.print("\n".join(lines), soft_wrap=True)


def _batch_size_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "prompts": str(size["prompts"]),
            "samples": str(size["samples"]),
            "seconds": f"{size['seconds']:.4f}",
            "tokens/s": f"{size['tokens_per_second']:.0f}",
            "seconds to read the candidates": f"{size['value_seconds']:.4f}",
            "of sampling": f"{size['value_share']:.1%}",
        }
        for size in report["sizes"]
    ]


def _print_knee(report: dict[str, Any], console: Console) -> None:
    fixed, each, knee = (report[name] for name in ("fixed_seconds", "seconds_per_sample", "knee"))
    console.print(
        f"sampling takes about {fixed:.3f} s + {each:.2e} s for each sample: "
        + ("nothing grows yet" if knee is None else f"the knee is at {knee:.0f} samples"),
        soft_wrap=True,
    )


def _step_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    seconds = {**report["split"], "step": report["seconds_per_step"]}
    return [
        {
            "phase": phase,
            "seconds": f"{seconds[phase]:.4f}",
            "share": f"{seconds[phase] / seconds['step']:.1%}",
            "GFLOP": _giga(report["flops"].get(phase)),
            "GFLOP/s": _giga(report["flops_per_second"].get(phase)),
            "of matmul rate": _percent(report["share_of_matmul_rate"].get(phase)),
            "temporary GiB": f"{report['memory']['update_temporary_gib']:.3f}"
            if phase == "update"
            else "",
        }
        for phase in seconds
    ]


def _update_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "prompts": name,
            "seconds": f"{result['seconds']:.4f}",
            "tokens/s": f"{result['tokens_per_second']:.0f}",
            "GFLOP": _giga(result["flops"]),
            "GFLOP/s": _giga(result["flops_per_second"]),
            "of matmul rate": _percent(result["share_of_matmul_rate"]),
            "temporary GiB": f"{result['memory']['update_temporary_gib']:.3f}",
        }
        for name, result in report["layouts"].items()
    ]


def _evolution_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """A population beside the same rows without noise."""
    rows = []
    for kind in ("forward", "sample"):
        for name, seconds in report[f"{kind}_seconds"].items():
            ratio = report["ratios"].get(f"{kind}, {name}")
            rows.append(
                {
                    f"{report['members']} rows": f"{kind}, {name}",
                    "seconds": "too large" if seconds is None else f"{seconds:.4f}",
                    "it / plain": "" if ratio is None else f"{ratio:.2f}",
                }
            )
    return rows


def _diffusion_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """Rates of both samplers, then the memory of both gradients by the number of draws."""
    plain = report["plain_tokens_per_second"]
    found = {
        f"sampling, {count} a step": ("tok/s, plain", f"{rate:.0f}", f"{plain[count]:.0f}")
        for count, rate in report["tokens_per_second"].items()
    }
    again, kept = (report["memory_gib"][name] for name in ("run again", "kept"))
    for draws in again:
        unit = "GiB, passes kept"
        found[f"gradient, {draws} draws"] = (unit, f"{again[draws]:.3f}", f"{kept[draws]:.3f}")
    names = ("unit, beside", "ours", "beside")
    return [
        {"masked diffusion": name} | dict(zip(names, values, strict=True))
        for name, values in found.items()
    ]


def _giga(value: float | None) -> str:
    return "" if value is None else f"{value / 1e9:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _print_ahead(report: dict[str, Any], console: Console) -> None:
    """Step times in turn and ahead, and both learning curves in ten parts."""
    console.print(
        f"{report['staleness']} steps ahead; the verifier waits "
        f"{report['verifier_seconds_per_sample']:.4f} s for each sample, and without it a step "
        f"takes {report['seconds_without_waiting']:.3f} s",
        soft_wrap=True,
    )
    table = Table()
    for name in ("run", "s/step", "age of tokens", "mean reward of each tenth of the run"):
        table.add_column(name)
    for name, run in report["runs"].items():
        rewards, parts = run["rewards"], 10
        size = max(1, len(rewards) // parts)
        means = [rewards[i : i + size] for i in range(0, len(rewards), size)]
        ages = [f"{lag}: {share:.0%}" for lag, share in run["staleness"].items()]
        table.add_row(
            name,
            f"{report['seconds_per_step'][name]:.3f}",
            ", ".join(ages) or "0: 100%",
            " ".join(f"{sum(part) / len(part):.2f}" for part in means),
        )
    console.print(table)
    console.print(f"ahead / in turn: {report['ratio']:.2f}")
