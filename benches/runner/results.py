"""RESULTS.md and the plots, from the raw results."""

import os
import statistics

from . import plot

DASH = "–"


def figure(value, digits=3):
    return DASH if value is None else f"{value:.{digits}f}"


def latency(quantiles):
    parts = [quantiles.get(key) for key in ("p50_us", "p99_us", "p999_us")]
    return " / ".join(DASH if part is None else f"{part:.0f}" for part in parts)


class Runs:
    """The runs of one scenario in one mode: {system: {round: report}}."""

    def __init__(self, records):
        self.good, self.bad = {}, {}
        for record in records:
            name, report = record["system"], record["report"]
            (self.bad if report.get("failures") else self.good).setdefault(name, {})[record["round"]] = report

    def all(self, system, *path):
        values = []
        for report in self.good.get(system, {}).values():
            for key in path:
                report = report.get(key) if report is not None else None
            if report is not None:
                values.append(report)
        return values

    def median(self, system, *path):
        values = self.all(system, *path)
        return statistics.median(values) if values else None

    def quantiles(self, system, which):
        return {key: self.median(system, which, key) for key in ("p50_us", "p99_us", "p999_us")}

    def ratios(self, system, base):
        """The system's CPU time over that of `base` in the same round: least, median, most."""
        ours, theirs = self.good.get(base, {}), self.good.get(system, {})
        both = [theirs[r]["cpu"]["s_per_million"] / ours[r]["cpu"]["s_per_million"] for r in ours.keys() & theirs.keys()
                if ours[r]["cpu"]["s_per_million"]]
        return (min(both), statistics.median(both), max(both)) if both else None


def table(runs, systems, mode, base):
    paced = mode == "paced"
    out = ["| system | CPU s/M | min to max | user | sys | × " + base + " | items/s | of a core | accepted | B/item out | peak MiB | "
           "to sink, p50 / p99 / p99.9 µs | answer, µs | generator, sink s/M | runs |", "|---" * 15 + "|"]
    for name in systems:
        good, bad = runs.good.get(name, {}), runs.bad.get(name, {})
        if not good and not bad:
            continue
        if not good:
            why = next(iter(bad.values()))["failures"][0].replace("|", "/").replace("\n", " ")[:160]
            out.append(f"| {name} | FAILED: {why} |" + " |" * 13)
            continue
        cpu = runs.all(name, "cpu", "s_per_million")
        ratio = runs.ratios(name, base)
        times = DASH if ratio is None else f"{ratio[1]:.2f} ({ratio[0]:.2f} to {ratio[2]:.2f})"
        offered, accepted = runs.median(name, "books", "offered"), runs.median(name, "books", "accepted")
        share = DASH if not offered else f"{100 * accepted / offered:.0f} %"
        memory = runs.median(name, "memory", "window_peak_kib")
        out.append(
            f"| {name} | {figure(statistics.median(cpu))} | {min(cpu):.3f} to {max(cpu):.3f} "
            f"| {figure(runs.median(name, 'cpu', 'user_s_per_million'))} | {figure(runs.median(name, 'cpu', 'system_s_per_million'))} "
            f"| {times} | {plot.short(runs.median(name, 'delivered_per_s') or 0)} | {100 * runs.median(name, 'cpu', 'of_a_core'):.0f} % | {share} "
            f"| {figure(runs.median(name, 'egress_bytes_per_item'), 0)} | {memory / 1024:.1f} "
            f"| {latency(runs.quantiles(name, 'arrival')) if paced else DASH} "
            f"| {latency(runs.quantiles(name, 'answer')) if paced else DASH} "
            f"| {figure(runs.median(name, 'cpu', 'generator_s_per_million'))}, {figure(runs.median(name, 'cpu', 'sink_s_per_million'))} "
            f"| {len(good)} of {len(good) + len(bad)} |")
    return out


def write(path, records, scenarios, systems, skipped, about):
    directory = os.path.join(os.path.dirname(path), "plots")
    os.makedirs(directory, exist_ok=True)
    base = "otlpd" if "otlpd" in systems else (systems or ["?"])[0]
    grouped = {}
    for record in records:
        grouped.setdefault((record["scenario"], record["mode"]), []).append(record)
    grouped = {key: Runs(runs) for key, runs in grouped.items()}
    out = ["# Results", "", "Written by `benches/run`; how it measures is in [README.md](README.md).", ""]
    out += about + [""]
    out += ["| system | version |", "|---|---|"] + [f"| {name} | {version} |" for name, version in systems.items()]
    out += [f"| {name} | skipped: {why} |" for name, why in skipped.items()] + [""]
    out += ["CPU is that of the system's process, all its threads, in seconds per million items delivered. **Paced**: all systems are "
            "offered the same rate. **Saturated**: as much as each takes; latencies mean nothing then. Figures are medians of the "
            "rounds; × is the median of the ratios within a round, with the least and the most. Wherever a run is counted every accepted "
            "item arrived exactly once; failed runs are not counted.", ""]
    out += summary(grouped, scenarios, systems, base)
    plots = draw(directory, grouped, scenarios, list(systems), base)
    if plots:
        out += ["## Plots", ""] + [f"![{title}](plots/{name})" for name, title in plots] + [""]
    out += ["## Scenario by scenario", ""]
    for scenario in scenarios:
        modes = [mode for mode in scenario.modes() if (scenario.name, mode) in grouped]
        if not modes:
            continue
        out += [f"### {scenario.name}: {scenario.what}", ""]
        some = next(iter(grouped[scenario.name, modes[0]].good.values()), None)
        if some:
            first = next(iter(some.values()))
            ratio = first["bytes_per_item"] / first["encoded_bytes_per_item"]
            out += [f"`{scenario.config}.yaml`; {first['signal']}, {first['items_per_request']} a request, "
                    f"{first['bytes_per_item']:.0f} bytes an item, {first['coding']}"
                    + (f" (ratio {ratio:.1f})" if ratio > 1.01 else "")
                    + f", {first['connections']} connections × {first['streams']} streams."
                    + (f" {first['idle_connections']} idle connections." if first["idle_connections"] else ""), ""]
        if scenario.note:
            out += [scenario.note, ""]
        for mode in modes:
            runs = grouped[scenario.name, mode]
            out += [f"Paced, {scenario.rate} items/s offered:" if mode == "paced" else "Saturated:", ""]
            out += table(runs, systems, mode, base) + [""]
            idle = {name: runs.median(name, "idle_connections_kib") for name in systems}
            if "idle" in scenario.name and any(idle.values()):
                each = ", ".join(f"{name} {kib / runs.median(name, 'idle_connections'):.1f} KiB" for name, kib in idle.items() if kib)
                out += [f"Resident for each idle connection: {each}.", ""]
    out += ["## Footprint", "", "| system | exec to listening, ms | idle, MiB | idle wake-ups/s | threads |", "|---|---|---|---|---|"]
    for name in systems:
        every = Runs([{**record, "round": number} for number, record in enumerate(records) if record["mode"] == "paced"
                      and record["report"].get("idle_connections") == 0 and record["report"].get("wakeups")])
        if name in every.good:
            out.append(f"| {name} | {figure(every.median(name, 'started_ms'), 1)} "
                       f"| {(every.median(name, 'memory', 'idle_kib') or 0) / 1024:.1f} "
                       f"| {figure(every.median(name, 'wakeups', 'idle_per_s'), 1)} | {figure(every.median(name, 'threads'), 0)} |")
    out += ["", "The binary's size, and start and idle of otlpd by themselves: `ci/size`. The filter row: "
            "`cargo bench -p otlp-benches --bench wire -- filter`.", ""]
    with open(path, "w") as file:
        file.write("\n".join(out))


def summary(grouped, scenarios, systems, base):
    """One row a scenario: the ratio to the Collector and the aim, where there is one."""
    others = [name for name in systems if name != base]
    out = ["## At a glance", "", f"CPU seconds per million items, {base}'s first; saturated where that was measured, and "
           "what the others need as a multiple of it.", "",
           f"| scenario | {base} | aim | " + " | ".join(f"{name} ×" for name in others) + (" | " if others else "") + "aim × |",
           "|---" * (4 + len(others)) + "|"]
    for scenario in scenarios:
        runs = grouped.get((scenario.name, "saturated")) or grouped.get((scenario.name, "paced"))
        if runs is None:
            continue
        cells = []
        for name in others:
            ratio = runs.ratios(name, base)
            cells.append(DASH if ratio is None else f"{ratio[1]:.1f} ({ratio[0]:.1f} to {ratio[2]:.1f})")
        aim = DASH if scenario.target is None else f"≤ {scenario.target}"
        times = DASH if scenario.ratio is None else str(scenario.ratio)
        own = figure(runs.median(base, "cpu", "s_per_million"))
        out.append(f"| {scenario.what} | {own} | {aim} | " + "".join(f"{cell} | " for cell in cells) + f"{times} |")
    return out + [""]


def draw(directory, grouped, scenarios, systems, base):
    plots = []

    def keep(name, title, svg):
        if svg:
            with open(os.path.join(directory, name), "w") as file:
                file.write(svg)
            plots.append((name, title))

    rows = []
    for scenario in scenarios:
        runs = grouped.get((scenario.name, "saturated"))
        if runs and not scenario.only:
            values = {name: value for name in systems if (value := runs.median(name, "delivered_per_s"))}
            if values:
                rows.append((scenario.name, values))
    keep("throughput.svg", "Throughput", plot.bars("Items a second on one core, saturated; each row to its own greatest", rows, systems))
    for scenario in scenarios:
        runs = grouped.get((scenario.name, "paced"))
        if not runs:
            continue
        if scenario.name in ("half-load", "pass-traces", "grpc-traces"):
            series = {}
            for name in systems:
                good = list(runs.good.get(name, {}).values())
                if good:
                    middle = sorted(good, key=lambda report: report["arrival"]["p99_us"])[len(good) // 2]
                    nines = [(us, -log(1 - part)) for part, us in middle["arrival_cdf"] if us > 0]
                    series[name] = nines
            marks = [(0, "0"), (log(2), "50 %"), (1, "90 %"), (2, "99 %"), (3, "99.9 %")]
            marks = [(abs(y), label) for y, label in marks]
            keep(f"latency-{scenario.name}.svg", f"Latency, {scenario.what}",
                 plot.lines(f"Latency from due to sink, {scenario.name}, {scenario.rate} items/s", "µs", "share below",
                            series, log_x=True, y_marks=marks))
        if scenario.name in ("overload", "down"):
            series = {}
            for name in systems:
                good = list(runs.good.get(name, {}).values())
                if good:
                    series[name] = [(point["at_s"], point["resident_kib"] / 1024) for point in good[-1]["series"]]
            keep(f"memory-{scenario.name}.svg", f"Memory, {scenario.what}",
                 plot.lines(f"Resident memory, {scenario.name}", "seconds of the window", "MiB", series))
    return plots


def log(value):
    import math
    return math.log10(value)
