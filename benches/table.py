"""Turns the reports of `benches/run` into docs/performance.md: medians over rounds, and ratios within them."""

import datetime
import json
import re
import statistics
import sys
from pathlib import Path

SERVERS = [
    "raw-tcp",
    "frameloop",
    "tokio-tungstenite",
    "fastwebsockets",
    "sockudo-ws",
    "node-ws",
    "websockets",
    "aiohttp",
]
NAMES = {"raw-tcp": "raw TCP (`--raw`)", "node-ws": "`ws` of Node"}
LOCK = Path(__file__).with_name("peers") / "Cargo.lock"

# Above this load average the machine is busy with other work: server and generator alone make 2.
BUSY = 3

RUN = Path(__file__).with_name("run")

HEAD = """# Performance

Each figure is the median of the rounds of `frameloop load`. `benches/run` writes this page. Each server
is one process on one core, and the generator has the other core. The servers take turns, and each starts
anew for each run. Rates and latencies also depend on the generator and the machine. Figures in brackets
show the limit of the generator, which used more than 90 % of its core.

Under each heading is its command. It also has `--warmup 500ms --cpus 0 --pid PID`, `-t` with the time in
the line below it, and `--raw` for raw TCP. The columns in the words of its output:

| column | in the output of `frameloop load` |
|---|---|
| **CPU us**: read it first | `us of CPU` a message, a delivery or a connection |
| x raw TCP | CPU us, divided by that of an echo of the same bytes without WebSocket in the same round |
| user us | `user`, a part of CPU us |
| a second | the rate in the line `messages` or `connections` |
| p50 us, p99 us | in the line `response` for an open loop, `together` for opening, otherwise `service` |
| errors | the sum of the line `errors`, over all rounds |
| generator | the core's share in the line `generator`, the highest of the rounds |
"""


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def number(value, digits=3):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if value < 100 else f"{value:.0f}"


def versions(given):
    """The versions of the other servers: as given (`name=version`), or from the lock file."""
    lock = re.findall(r'name = "(.*)"\nversion = "(.*)"', LOCK.read_text())
    return dict(lock) | dict(version.split("=") for version in given)


def commands():
    """The command of each cell of `benches/run`."""
    cells = re.findall(r"^ +cell '(.*)' +(-.*)$", RUN.read_text(), re.MULTILINE)
    path = lambda flags: "broadcast/bench" if "--broadcast" in flags else "echo"
    return {cell: f"frameloop load ws://ADDRESS/{path(flags)} {flags}" for cell, flags in cells}


def main(folder, commit, *given):
    rounds = sorted(path for path in folder.iterdir() if path.is_dir())
    reports, loads = {}, []
    for place, path in enumerate(rounds):
        for file in sorted(path.glob("*/*.json"), key=lambda file: file.stat().st_mtime):
            report = json.loads(file.read_text())
            machine = report["machine"]
            loads.append(machine["load_average"])
            reports.setdefault(file.parent.name, {}).setdefault(file.stem, {})[place] = report["runs"][0]
    print(HEAD)
    loads = [float(load.split(" ")[0]) for load in loads]
    print(
        f"{datetime.date.today()}, commit {commit}; {machine['cpu']}, {machine['cores']} cores, {machine['kernel']},"
        f" {machine['congestion_control']}; {len(rounds)} round(s); load average from {min(loads)} to {max(loads)}.\n"
    )
    if max(loads) > BUSY:
        print(
            "**The machine was busy with other work**, so rates and latencies are not those of an idle machine. CPU\n"
            "times and their ratios hold, but are a little higher, because other work used the caches.\n"
        )
    known = versions(given)
    named = [name for name in SERVERS if name in known]
    print("Versions: " + ", ".join(f"{NAMES.get(name, name)} {known[name]}" for name in named) + ".\n")
    for cell, servers in reports.items():
        title = next(iter(next(iter(servers.values())).values()))["title"]
        print(f"## {cell}\n\n`{commands()[cell]}`\n\n{title}\n")
        if cell == "idle":
            idle(servers)
        else:
            table(servers)
        print()


def table(servers):
    print("| server | CPU us | x raw TCP | user us | a second | p50 us | p99 us | errors | generator |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    raw = servers.get("raw-tcp", {})
    for name in (name for name in SERVERS if name in servers):
        runs = servers[name]
        cpu = lambda run: run["server"] and run["server"]["cpu_us_per_operation"]
        ratios = [cpu(run) / cpu(raw[place]) for place, run in runs.items() if cpu(run) and place in raw and cpu(raw[place])]
        user = median(run["server"] and run["server"]["user_us_per_operation"] for run in runs.values())
        rate = number(median(run["measured"]["per_second"] for run in runs.values()))
        p50, p99 = (number(median(latency(run, quantile) for run in runs.values())) for quantile in ("p50", "p99"))
        busiest = max(max(run["generator"]["threads"]) for run in runs.values())
        if any(run["generator"]["bounds_the_figures"] for run in runs.values()):
            rate, p50, p99 = (f"({figure})" for figure in (rate, p50, p99))
        errors = sum(run["counts"]["errors"] for run in runs.values())
        print(
            f"| {NAMES.get(name, name)} | {number(median(map(cpu, runs.values())))} | {number(median(ratios))}"
            f" | {number(user)} | {rate} | {p50} | {p99} | {errors} | {busiest:.0%} |"
        )


def latency(run, quantile):
    found = run["latency"]["response"] or run["latency"]["service"] or run["connecting"]["together"]
    return found and found["percentiles"][quantile]["nanoseconds"] / 1000


def idle(servers):
    print(
        "The growth of the resident memory from 10 connections to all of them, for each. It includes memory that the\n"
        "handshakes used and the allocator keeps.\n"
    )
    print("| server | bytes a connection | errors |")
    print("|---|--:|--:|")
    for name in (name for name in SERVERS if name in servers):
        runs = servers[name].values()
        size = median(run["server"] and run["server"]["bytes_per_connection"] for run in runs)
        print(f"| {NAMES.get(name, name)} | {number(size)} | {sum(run['counts']['errors'] for run in runs)} |")


main(Path(sys.argv[1]), *sys.argv[2:])
