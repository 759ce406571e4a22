"""The figures as tables."""

from __future__ import annotations


def report(results: dict) -> str:
    facts, options = results["machine"], results["options"]
    told = ", ".join(f"{name} {value}" for name, value in options.items() if value)
    lines = [
        "# Workflows", "",
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, "
        f"Linux {facts['kernel']}; load before the run {facts['load_before']:.2f}. `scripts/bench workflows`: {told}.",
        "Servers, clients and functions share the cores. Every server has its default durability: firn and Restate sync "
        "to the disk before they answer, MiniStack and LocalStack keep executions in memory.",
    ]
    for name, figures in results["sections"].items():
        lines += ["", *SECTIONS[name](figures)]
    if results["failed"]:
        lines += ["", "## Failed", ""]
        lines += [f"- {name}: {why.splitlines()[0]}" for name, why in results["failed"].items()]
    return "\n".join(lines) + "\n"


def disk(figures: dict) -> list[str]:
    return [f"The disk alone: {figures['fdatasync_per_second']:,.0f} fdatasync per second, one after the other."]


def standard(figures: dict) -> list[str]:
    lines = ["## Standard: Pass, Pass, Succeed", "",
             "| | clients | starts/s | ended/s | answer p50 | answer p99 | CPU per execution |",
             "|---|---|---|---|---|---|---|"]
    for name, of in figures.items():
        for load in of["loads"]:
            lines.append(
                f"| {name} | {load['clients']} | {load['per_second']:,.0f} | {load['ended_per_second']:,.0f} "
                f"| {latency(load, 'p50')} | {latency(load, 'p99')} | {load['cpu_us_per_execution']:,.0f} µs |")
    lines += ["", *beside(figures, "ended_per_second", "executions per second"), "",
              "Start to end under a steady load, half of the most above unless said; by the dates that the server gives, "
              "and as one client sees it that starts an execution and asks until it is over:", "",
              "| | load | by its dates: p50 | p99 | client: p50 | p99 |", "|---|---|---|---|---|---|"]
    for name, of in figures.items():
        for load in filter(None, (of.get("half"), of.get("at_2500"))):
            dated, seen = load["start_to_end_ms"], load["client_saw"]
            client = f"{seen['p50_us'] / 1000:.2f} ms | {seen['p99_us'] / 1000:.2f} ms" if seen else "| "
            lines.append(f"| {name} | {load['rate']:,.0f}/s, {load['per_second']:,.0f}/s reached | {dated['p50']:.1f} ms "
                         f"| {dated['p99']:.1f} ms | {client} |")
    return lines


def express(figures: dict) -> list[str]:
    lines = ["## Express, synchronous: Pass, Pass, Succeed", "",
             "| | clients | executions/s | p50 | p99 | CPU per execution |", "|---|---|---|---|---|---|"]
    for name, of in figures.items():
        for load in of["loads"]:
            lines.append(f"| {name} | {load['clients']} | {load['per_second']:,.0f} | {latency(load, 'p50')} "
                         f"| {latency(load, 'p99')} | {load['cpu_us_per_execution']:,.0f} µs |")
    return [*lines, "", *beside(figures, "per_second", "executions per second")]


def steps(figures: dict) -> list[str]:
    lines = ["## Durable steps", "",
             "firn: a Standard execution of ten Pass states, counted until the last has ended. Nothing outside happens "
             "between them, so that firn may write all ten at once; with a Lambda function in each step, every step is on "
             "disk before and after it. Restate: a handler of a Node service that journals ten steps, counted by its "
             "answers; the CPU is that of server and service.", "",
             "| | clients | steps/s | CPU per step |", "|---|---|---|---|"]
    for name, of in figures.items():
        for load in of["loads"]:
            lines.append(f"| {name} | {load['clients']} | {load['states_per_second']:,.0f} "
                         f"| {load['cpu_us_per_state']:,.0f} µs |")
    return [*lines, "", *beside(figures, "states_per_second", "durable steps per second")]


def transitions(figures: dict) -> list[str]:
    lines = ["## CPU of a transition", "",
             "What an execution of 103 Pass states uses beyond one of 3, by state; process CPU of the server.", "",
             "| | kind | of 3 states | of 103 states | per state |", "|---|---|---|---|---|"]
    for name, kinds in figures.items():
        for kind, of in kinds.items():
            lines.append(f"| {name} | {kind} | {of['cpu_us_per_execution_of_3']:,.0f} µs "
                         f"| {of['cpu_us_per_execution_of_103']:,.0f} µs | {of['cpu_us_per_state']:,.1f} µs |")
    return lines


def tasks(figures: dict) -> list[str]:
    lines = ["## Five Lambda tasks, one after the other (Standard)", "",
             "| | executions at a time | tasks/s | executions/s | an execution: p50 | p99 |", "|---|---|---|---|---|---|"]
    for name, of in figures.items():
        if "left_out" in of:
            lines.append(f"| {name} | left out: {of['left_out']} | | | | |")
            continue
        for load in of["loads"]:
            lines.append(f"| {name} | {load['clients']} | {load['states_per_second']:,.0f} "
                         f"| {load['per_second']:,.0f} | {latency(load, 'p50')} | {latency(load, 'p99')} |")
    return [*lines, "", *beside(figures, "states_per_second", "tasks per second")]


def maps(figures: dict) -> list[str]:
    lines = ["## Distributed map through a Pass child", "",
             "| | children | items | time | items/s | CPU per item | peak memory |", "|---|---|---|---|---|---|---|"]
    for name, kinds in figures.items():
        for kind, of in kinds.items():
            if "left_out" in of:
                lines.append(f"| {name} | {kind} | left out: {of['left_out']} | | | | |")
                continue
            lines.append(f"| {name} | {kind} | {of['items']:,} | {of['seconds']:.2f} s | {of['per_second']:,.0f} "
                         f"| {of['cpu_us_per_item']:,.0f} µs | {of['memory_peak_mb']:,.0f} MB |")
    return lines


def sleepers(figures: dict) -> list[str]:
    lines = ["## Sleeping executions", "", *recoveries({"firn": figures["firn"]}), "",
             "After the restart nothing is counted before it is seen: executions that were due while the server was down "
             "have ended, a thousand picked at random are running, and the list has as many as were acknowledged."]
    for name, of in figures.items():
        if name != "firn":
            lines.append(f"- {name}: {of['executions']:,} of them, {of['bytes_each'] / 1024:,.0f} KB each "
                         f"(firn: {figures['firn']['bytes_each'] / 1024:,.2f} KB); in memory, none survives.")
    return lines


def replay(figures: dict) -> list[str]:
    return ["## Recovery with few and with many events", "",
            "Sleepers after 1 Pass state and after 200 of them.", "", *recoveries(figures)]


def recoveries(rows: dict) -> list[str]:
    lines = ["| | executions | memory | peak | on disk | after kill -9: first answer | overdue timers have rung "
             "| all listed | memory then | peak |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, of in rows.items():
        lines.append(
            f"| {name} | {of['executions']:,} | {of['memory_mb']:,.0f} MB | {of['memory_peak_mb']:,.0f} MB "
            f"| {of['disk_mb']:,.0f} MB | {of['first_answer_seconds']:.2f} s | {of['last_overdue_timer_seconds']:.2f} s "
            f"| {of['all_listed_seconds']:.2f} s | {of['memory_after_mb']:,.0f} MB | {of['memory_after_peak_mb']:,.0f} MB |")
    return lines


def latency(load: dict, which: str) -> str:
    return f"{load['latency'][f'{which}_us'] / 1000:.2f} ms"


def beside(figures: dict, what: str, called: str) -> list[str]:
    """How many times as much as each peer, best against best."""
    best = {name: max(load[what] for load in of["loads"]) for name, of in figures.items() if "loads" in of}
    return [f"- {called}, best against best: {name} has {ours / rate:,.1f} times as many as {peer}"
            for name, ours in best.items() if name.startswith("firn")
            for peer, rate in best.items() if not peer.startswith("firn")]


SECTIONS = {section.__name__: section for section in (
    disk, standard, express, steps, transitions, tasks, maps, sleepers, replay)}
