"""The tables of a run."""

from __future__ import annotations

from functions import ALL

FUNCTIONS = {function.name: function for function in ALL}
MODES = {
    "cold": "cold start",
    "l1_hot": "thaw, L1 hot",
    "parked": "thaw, parked",
    "l1_cold": "thaw, L1 cold",
    "l3": "thaw, L3 only",
    "warm": "warm",
}


def render(results: dict) -> str:
    facts = results["machine"]
    measured = results["functions"]
    lines = [
        "# Cold-start benchmark",
        "",
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, "
        f"Linux {facts['kernel']}, load {facts['load_before']:.2f} before. Command: `{results['command']}`.",
        "Request to answer through the whole stack; client, server and functions share the cores. Of 50 runs p99 is the "
        "slowest.",
    ]
    lines += starts(measured, results.get("floor"))
    lines += first_answers(measured)
    lines += idle(measured)
    lines += parallel(measured)
    lines += soak(results.get("soak"))
    if results["left_out"]:
        lines += ["", "## Left out", ""]
        lines += [f"- {name}: {reason}" for name, reason in results["left_out"].items()]
    return "\n".join(lines) + "\n"


def table(title: str, columns: str, rows: list[str], note: str = "") -> list[str]:
    if not rows:
        return []
    head = ["", f"## {title}", ""] + ([note, ""] if note else [])
    names = columns.split("|")
    return [*head, f"| {' | '.join(names)} |", "|" + "---|" * len(names), *rows]


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def starts(measured: dict, floor: dict | None) -> list[str]:
    rows = []
    for name, modes in measured.items():
        cold = modes.get("cold", {}).get("ms")
        for mode, title in MODES.items():
            times = modes.get(mode, {}).get("ms")
            if not times:
                continue
            goal = goal_of(name, mode)
            met = ""
            if goal:
                met = f"{goal[0]:g} / {goal[1]:g}: " + ("met" if times["p50"] <= goal[0] and times["p99"] <= goal[1] else "missed")
            rows.append(
                row(
                    name,
                    title,
                    f"{times['p50']:.2f}",
                    f"{times['p99']:.2f}",
                    f"{times['min']:.2f}–{times['max']:.2f}",
                    times["n"] if not modes[mode].get("discarded") else f"{times['n']} (discarded {modes[mode]['discarded']})",
                    f"{cold['p50'] / times['p50']:.1f}x" if cold and mode != "cold" else "",
                    f"{times['p50'] / floor['ms']['p50']:.1f}x" if floor else "",
                    duration(modes[mode]),
                    met,
                )
            )
    note = ""
    if floor:
        note = (
            f"The floor, a fork of a warm Python process without sandbox or runtime client: p50 {floor['ms']['p50']:.2f} ms, "
            f"p99 {floor['ms']['p99']:.2f} ms (n={floor['ms']['n']})."
        )
    return table("Time to the first answer, ms", "function|start|p50|p99|range|n|cold / this|this / floor|REPORT p50|goal p50 / p99", rows, note)


def goal_of(name: str, mode: str) -> tuple[float, float] | None:
    function = FUNCTIONS[name]
    if mode == "parked":
        return function.parked_goal
    return function.goal if mode == "l1_hot" else None


def duration(figures: dict) -> str:
    for key, title in (("report_restore_duration_ms", "Restore"), ("report_init_duration_ms", "Init")):
        if key in figures:
            return f"{title} {figures[key]['p50']:.2f}"
    return ""


def first_answers(measured: dict) -> list[str]:
    rows = []
    for name, modes in measured.items():
        for mode, title in MODES.items():
            figures = modes.get(mode, {})
            if "rss_kb" not in figures:
                continue
            rows.append(
                row(
                    name,
                    title,
                    *(f"{figures[key]['p50'] / 1024:.1f}" for key in ("rss_kb", "anonymous_kb")),
                    *(f"{figures[key]['p50']:.0f}" for key in ("minor_faults", "major_faults")),
                )
            )
    note = "Of the function's process, medians, read right after its first answer."
    return table("Memory and page faults of the first answer", "function|start|RSS MB|anonymous MB|minor faults|major faults", rows, note)


def idle(measured: dict) -> list[str]:
    rows = []
    for name, modes in measured.items():
        cold, thawed = modes.get("idle_cold"), modes.get("idle_thawed")
        if not cold or not thawed:
            continue
        ratio = cold["private_kb"] / thawed["private_kb"]
        for title, figures in (("cold-started", cold), ("thawed", thawed)):
            rows.append(
                row(
                    name,
                    title,
                    figures["environments"],
                    *(f"{figures[key] / 1024:.2f}" for key in ("rss_kb", "pss_kb", "anonymous_kb", "private_kb")),
                    f"{ratio:.1f}x" if figures is thawed else "",
                )
            )
    note = "Per environment, idle after one answer each, all of them there at once. The goal is a ratio of at least 5."
    return table("Memory of idle environments, MB", "function|environments|number|RSS|PSS|anonymous|private|cold / thawed, private", rows, note)


def parallel(measured: dict) -> list[str]:
    rows = []
    for name, modes in measured.items():
        if "parallel" in modes:
            figures = modes["parallel"]
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(figures["kinds"].items()))
            rows.append(row(name, figures["restores"], kinds, "; ".join(figures["errors"])))
    return table("Restores of one image at once", "function|asked for|got|errors", rows)


def soak(figures: dict | None) -> list[str]:
    if not figures:
        return []
    keys = list(figures["points"][0])
    rows = [row(*(point[key] for key in keys)) for point in figures["points"]]
    restores = figures["points"][-1]["restores"]
    note = f"{figures['function']}: {restores} restores in {figures['seconds']:.0f} s, {figures['failures']} failures."
    return table("Restores in a row", "|".join(key.replace("_", " ") for key in keys), rows, note)
