"""RESULTS.md and the plots, from the raw results."""

import math
import os
import statistics

from . import plot
from .scenarios import SWEEP, VARIANTS

DASH = "–"
# Below this share of what was due the offered rate was not reached.
SENT_MIN = 0.99
# A percentile wants so many requests above it.
BEYOND_MIN = 1


def figure(value, digits=3):
    return DASH if value is None else f"{value:.{digits}f}"


def of_times(ratio, digits=1):
    return DASH if ratio is None else f"{ratio[1]:.{digits}f} ({ratio[0]:.{digits}f} to {ratio[2]:.{digits}f})"


def middle(values):
    return statistics.median(values) if values else None


def pick(report, path):
    for key in path:
        report = report.get(key) if report is not None else None
    return report


class Runs:
    """The runs of one scenario in one mode: {system: {round: report}}.

    A disturbed run counts only where a system has no other; `bad` are the failed ones.
    """

    def __init__(self, records):
        self.good, self.bad, self.disturbed = {}, {}, {}
        for record in records:
            name, report = record["system"], record["report"]
            kind = self.bad if report.get("failures") else self.disturbed if report.get("disturbed") else self.good
            kind.setdefault(name, {})[record["round"]] = report
        self.only_disturbed = set(self.disturbed) - set(self.good)
        for name in self.only_disturbed:
            self.good[name] = self.disturbed[name]

    def all(self, system, *path):
        values = [pick(report, path) for report in self.good.get(system, {}).values()]
        return [value for value in values if value is not None]

    def median(self, system, *path):
        return middle(self.all(system, *path))

    def count(self, system):
        return len(self.good.get(system, {}))

    def kept_up(self, system):
        """Whether what was due was sent."""
        sent = self.median(system, "sent")
        return sent is None or sent >= SENT_MIN

    def latency(self, system, which):
        """p50, p99 and p99.9 in µs; a percentile beyond the longest of so few requests is none."""
        parts = []
        for key, beyond in (("p50_us", 0.5), ("p99_us", 0.01), ("p999_us", 0.001)):
            enough = [report[which][key] for report in self.good.get(system, {}).values() if report[which]["count"] * beyond >= BEYOND_MIN]
            parts.append(DASH if not enough else f"{statistics.median(enough):.0f}")
        return " / ".join(parts) + self.mark(system)

    def mark(self, system):
        return (" †" if system in self.only_disturbed else "") + ("" if self.kept_up(system) else " ‡")

    def ratios(self, system, base, *path):
        """The system's figure over that of `base` in the same round: least, median, most. CPU time where none is named."""
        path = path or ("cpu", "s_per_million")
        ours, theirs = self.good.get(base, {}), self.good.get(system, {})
        pairs = [(pick(theirs[r], path), pick(ours[r], path)) for r in ours.keys() & theirs.keys()]
        both = [their / our for their, our in pairs if their is not None and our]
        return (min(both), statistics.median(both), max(both)) if both else None

    def notes(self, systems):
        """What is to be said of a table, a line a system."""
        out = []
        for name in systems:
            disturbed = self.disturbed.get(name, {})
            if disturbed:
                why = sorted({reason for report in disturbed.values() for reason in report["disturbed"]})[-1]
                fate = "all there are: † figures say little" if name in self.only_disturbed else "left out"
                out.append(f"- {name}: {len(disturbed)} disturbed (such as: {why}), {fate}.")
            if not self.kept_up(name):
                out.append(f"- {name} ‡: of what was due only {100 * self.median(name, 'sent'):.0f} % could be sent before the end of "
                           "the window: " + ("whether it or the generator was too slow is not known; " if name in self.only_disturbed else
                                             "it does not take that rate; ")
                           + "the latencies are those of a queue that grows, and comparing them at this rate is no use.")
            for number, report in sorted(self.bad.get(name, {}).items()):
                out.append(f"- {name}, round {number + 1}, FAILED and not counted: {one_line(report['failures'][0])}.")
        return out + [""] if out else []


def one_line(words):
    return words.replace("|", "/").replace("\n", " ")[:200]


def table(runs, scenario, systems, mode, base):
    paced = mode == "paced"
    head = ["system", "CPU s/M", "min to max", "user", "sys", f"× {base}", "items/s", "of a core", "accepted", "B/item out", "peak MiB"]
    head += ["to sink, p50 / p99 / p99.9 µs", "answer, µs", "sent of due"] if paced else []
    head += ["generator, sink s/M", "rounds"]
    out = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in systems:
        if name not in runs.good and name not in runs.bad:
            continue
        if name not in runs.good:
            why = one_line(next(iter(runs.bad[name].values()))["failures"][0])
            out.append(f"| {name} | FAILED: {why} |" + " |" * (len(head) - 2))
            continue
        cpu = runs.all(name, "cpu", "s_per_million")
        offered, accepted = runs.median(name, "books", "offered"), runs.median(name, "books", "accepted")
        memory = runs.median(name, "memory", "window_peak_kib")
        # Where sender and sink have no more to give, the system could take more.
        most = "" if paced or (runs.median(name, "machine", "own_of_cores") or 0) < 0.9 else "≥ "
        cells = [name, figure(statistics.median(cpu)) + ("" if paced else runs.mark(name)), f"{min(cpu):.3f} to {max(cpu):.3f}",
                 figure(runs.median(name, "cpu", "user_s_per_million")), figure(runs.median(name, "cpu", "system_s_per_million")),
                 of_times(runs.ratios(name, base), 2), most + plot.short(runs.median(name, "delivered_per_s") or 0),
                 f"{100 * runs.median(name, 'cpu', 'of_a_core'):.0f} %", DASH if not offered else f"{100 * accepted / offered:.0f} %",
                 figure(runs.median(name, "egress_bytes_per_item"), 0), f"{memory / 1024:.1f}"]
        if paced:
            sent = runs.median(name, "sent")
            cells += [runs.latency(name, "arrival"), runs.latency(name, "answer"), DASH if sent is None else f"{100 * sent:.0f} %"]
        cells += [f"{figure(runs.median(name, 'cpu', 'generator_s_per_million'))}, {figure(runs.median(name, 'cpu', 'sink_s_per_million'))}",
                  str(runs.count(name))]
        out.append("| " + " | ".join(cells) + " |")
    return out + [""] + runs.notes(systems)


def newest(records):
    """The records of each system's newest build in each scenario: those of an older one say nothing about it there. And each
    system's last record."""
    last, of_row = {}, {}
    for record in records:
        for held, key in (last, record["system"]), (of_row, (record["system"], record["scenario"])):
            if record.get("at", "") >= held.get(key, {}).get("at", ""):
                held[key] = record
    return [record for record in records
            if record.get("build") == of_row[record["system"], record["scenario"]].get("build")], last


def write(path, records, scenarios, skipped, quick=False):
    directory = os.path.join(os.path.dirname(os.path.abspath(path)), "plots")
    os.makedirs(directory, exist_ok=True)
    records, last = newest(records)
    systems = sorted(last, key=lambda name: (["otlpd", "collector", *VARIANTS, name].index(name), name))
    base = "otlpd" if "otlpd" in systems else (systems or ["?"])[0]
    grouped = {}
    for record in records:
        grouped.setdefault((record["scenario"], record["mode"]), []).append(record)
    grouped = {key: Runs(runs) for key, runs in grouped.items()}
    out = ["# Results", "", "Written by `benches/run`; how it measures is in [README.md](README.md).", ""]
    out += about(records, base, last.get(base, {}), quick) + [""]
    out += ["| system | version |", "|---|---|"] + [f"| {name} | {last[name].get('version', 'unknown')} |" for name in systems]
    out += [f"| {name} | skipped: {why} |" for name, why in skipped.items() if name not in last] + [""]
    out += ["CPU is that of the system's process, all its threads, in seconds per million items delivered. **Paced**: all systems are "
            "offered the same rate. **Saturated**: as much as each takes; latencies mean nothing then, and ≥ says that the generator "
            "was the limit. Figures are medians of the rounds; × is the median of the ratios within a round, with the least and the "
            "most. Wherever a run is counted every accepted item arrived exactly once; failed runs are not counted. Runs during which "
            "other work took a part of the machine, or the generator was late by itself, are left out (†: there are no others).", ""]
    out += summary(grouped, scenarios, systems, base)
    out += against_engine(grouped, scenarios, base)
    plots = draw(directory, grouped, scenarios, systems, base)
    if plots:
        out += ["## Plots", ""] + [f"![{title}](plots/{name})" for name, title in plots] + [""]
    out += ["## Scenario by scenario", ""]
    for scenario in scenarios:
        if scenario.tier != SWEEP:
            out += section(grouped, scenario, systems, base)
    out += sweeps(grouped, scenarios, base)
    out += footprint(records, systems)
    out += ["The binary's size, and start and idle of otlpd by themselves: `ci/size`. The filter row: "
            "`cargo bench -p otlp-benches --bench wire -- filter`.", ""]
    with open(path, "w") as file:
        file.write("\n".join(out))


def commits(records, base):
    """What the system was built of, as long as one of them is all there is: else those of each scenario."""
    of_row = {}
    for record in records:
        if record["system"] == base:
            of_row.setdefault(record.get("commit", "unknown"), {})[record["scenario"]] = True
    if len(of_row) == 1:
        return f"commit {next(iter(of_row))}"
    most = max(of_row, key=lambda commit: len(of_row[commit]), default="unknown")
    others = [f"{commit} for {', '.join(of_row[commit])}" for commit in of_row if commit != most]
    return f"commit {most}" + (f" ({'; '.join(others)})" if others else "")


def about(records, base, last, quick):
    days = sorted({record["at"][:10] for record in records if "at" in record})
    when = " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "unknown day"
    windows = sorted({record["seconds"] for record in records})
    said = (f"{when}, {commits(records, base)}, {last.get('machine', 'unknown machine')}; {len(records)} runs, windows of "
            + " or ".join(f"{seconds:g}" for seconds in windows) + " s where a row says nothing else; the rounds of each row are in it.")
    disturbed = sum(1 for record in records if record["report"].get("disturbed"))
    failed = sum(1 for record in records if record["report"].get("failures"))
    said += f" {disturbed} of the runs were disturbed by other work, {failed} failed."
    return [said + (" **`--quick`: a smoke test, no measurement.**" if quick else "")]


def section(grouped, scenario, systems, base):
    modes = [mode for mode in scenario.modes() if (scenario.name, mode) in grouped]
    if not modes:
        return []
    out = [f"### {scenario.name}: {scenario.what}", ""]
    some = next((report for mode in modes for runs in grouped[scenario.name, mode].good.values() for report in runs.values()), None)
    if some:
        ratio = some["bytes_per_item"] / some["encoded_bytes_per_item"]
        out += [f"`{scenario.config}.yaml`; {some['signal']}, {some['items_per_request']} a request, "
                f"{some['bytes_per_item']:.0f} bytes an item, {some['coding']}"
                + (f" (ratio {ratio:.1f})" if ratio > 1.01 else "")
                + f", {some['connections']} connections × {some['streams']} streams."
                + (f" {some['idle_connections']} idle connections." if some["idle_connections"] else ""), ""]
    if scenario.note:
        out += [scenario.note, ""]
    for mode in modes:
        runs = grouped[scenario.name, mode]
        long = next((report["seconds"] for reports in runs.good.values() for report in reports.values()), None)
        window = "" if long is None else f", windows of {long:.0f} s"
        out += [f"Paced, {scenario.rate} items/s offered{window}:" if mode == "paced" else f"Saturated{window}:", ""]
        out += table(runs, scenario, systems, mode, base)
        if scenario.takes:
            shares = [(name, runs.median(name, "delivered_per_s")) for name in systems]
            each = ", ".join(f"{name} {100 * rate / scenario.takes:.1f} %" for name, rate in shares if rate is not None)
            out += [f"Of what the backend takes it got: {each}.", ""]
        idle = {name: runs.median(name, "idle_connections_kib") for name in systems}
        if "idle" in scenario.name and any(idle.values()):
            each = ", ".join(f"{name} {kib / runs.median(name, 'idle_connections'):.1f} KiB" for name, kib in idle.items() if kib)
            out += [f"Resident for each idle connection: {each}.", ""]
    return out


def met(scenario, runs, base):
    """Whether a row's aims are: the figure, the ratio to the Collector."""
    parts = []
    own, ratio = runs.median(base, "cpu", "s_per_million"), runs.ratios("collector", base)
    if scenario.target is not None and own is not None:
        parts.append("figure " + ("met" if round(own, 3) <= scenario.target else f"missed by {100 * (own / scenario.target - 1):.0f} %"))
    if scenario.ratio is not None and ratio is not None:
        parts.append("ratio " + ("met" if ratio[1] >= scenario.ratio else f"missed by {100 * (1 - ratio[1] / scenario.ratio):.0f} %"))
    return "; ".join(parts) or DASH


def summary(grouped, scenarios, systems, base):
    """One row a scenario: the ratio to the Collector and the aim, where there is one."""
    others = [name for name in systems if name != base]
    out = ["## At a glance", "", f"CPU seconds per million items, {base}'s first; saturated where that was measured, and what the others "
           "need as a multiple of it. Rounds are those of the systems in their order. The ratio to the Collector is what counts: absolute "
           "figures move with the machine.", "",
           f"| scenario | {base} | aim | " + " | ".join(f"{name} ×" for name in others) + (" | " if others else "")
           + "aim × | aims | rounds |", "|---" * (6 + len(others)) + "|"]
    for scenario in scenarios:
        runs = grouped.get((scenario.name, "saturated")) or grouped.get((scenario.name, "paced"))
        if runs is None or scenario.tier == SWEEP:
            continue
        cells = [of_times(runs.ratios(name, base)) + runs.mark(name) for name in others]
        aim = DASH if scenario.target is None else f"≤ {scenario.target}"
        times = DASH if scenario.ratio is None else str(scenario.ratio)
        own = figure(runs.median(base, "cpu", "s_per_million")) + runs.mark(base)
        rounds = ", ".join(str(runs.count(name)) for name in systems if runs.count(name))
        out.append(f"| {scenario.what} | {own} | {aim} | " + "".join(f"{cell} | " for cell in cells)
                   + f"{times} | {met(scenario, runs, base)} | {rounds} |")
    return out + [""]


def against_engine(grouped, scenarios, base):
    """Threads against a runtime, with the same engine: at most its CPU, and a lower p99 where neither is at its limit."""
    engine, rows = "engine-on-tokio", []
    for scenario in scenarios:
        paced, saturated = grouped.get((scenario.name, "paced")), grouped.get((scenario.name, "saturated"))
        if scenario.overloads or not (paced and paced.count(engine) or saturated and saturated.count(engine)):
            continue
        cells = [scenario.what]
        for runs in (saturated, paced):
            cpu = runs.ratios(engine, base) if runs else None
            cells += [of_times(cpu, 2)]
        tail = paced.ratios(engine, base, "arrival", "p99_us") if paced else None
        both = [paced.median(name, "arrival", "p99_us") if paced else None for name in (base, engine)]
        marks = "".join(sorted(set("".join(paced.mark(name) for name in (base, engine))) - {" "})) if paced else ""
        cells += [" against ".join(figure(value, 0) for value in both) + (f" {marks}" if marks else ""), of_times(tail, 2)]
        work = saturated.ratios(engine, base) if saturated else paced.ratios(engine, base)
        verdict = [] if work is None else ["CPU " + ("met" if work[1] >= 1 else "missed")]
        if scenario.name.startswith("half-load") and tail is not None:
            verdict.append("p99 " + ("met" if tail[1] > 1 else "missed"))
        rows.append(f"| {' | '.join(cells)} | {'; '.join(verdict) or DASH} |")
    if not rows:
        return []
    return ["## Threads against a runtime", "", f"`{engine}` is {base}'s engine on tokio, so the difference is that of threads and a runtime. "
            f"Multiples of {base}: above 1 it needs more, or answers later. Aim: at most its CPU everywhere, and a lower p99 from due to "
            "sink at half load.", "",
            "| scenario | CPU ×, saturated | CPU ×, paced | p99 to sink, µs | p99 × | aims |", "|---|---|---|---|---|---|", *rows, ""]


def sweeps(grouped, scenarios, base):
    """One table for each of the sweeps: a row a setting."""
    out = []
    for start, title in (("threads-receive", "Receive threads"), ("threads-process", "Process threads"), ("preset", "Presets")):
        rows = []
        for scenario in scenarios:
            paced, saturated = grouped.get((scenario.name, "paced")), grouped.get((scenario.name, "saturated"))
            if not scenario.name.startswith(start) or not (paced or saturated):
                continue
            get = lambda runs, *path: runs.median(base, *path) if runs else None
            peak = get(saturated, "memory", "window_peak_kib")
            cells = [scenario.what.split(",")[0], plot.short(get(saturated, "delivered_per_s") or 0) + (saturated.mark(base) if saturated else ""),
                     figure(get(saturated, "cpu", "s_per_million")), figure(get(paced, "cpu", "s_per_million")),
                     paced.latency(base, "arrival") if paced else DASH, DASH if peak is None else f"{peak / 1024:.1f}",
                     figure(get(saturated, "threads"), 0),
                     ", ".join(str(runs.count(base)) for runs in (saturated, paced) if runs)]
            rows.append((scenario, "| " + " | ".join(cells) + " |"))
        if rows:
            first = rows[0][0]
            about = first.what.split(",", 1)[1].strip()
            notes = sorted({f"{scenario.name}: {scenario.note}" for scenario, _ in rows if scenario.note})
            out += [f"## {title}", "", f"{base} alone: {about}, which sender and sink use too. Paced: {first.rate} items/s.", "",
                    "| setting | items/s, saturated | CPU s/M, saturated | CPU s/M, paced | to sink, paced, p50 / p99 / p99.9 µs | peak MiB | "
                    "threads | rounds |", "|---|---|---|---|---|---|---|---|"] + [row for _, row in rows] + [""] + notes + ([""] if notes else [])
    return out


def footprint(records, systems):
    out = ["## Footprint", "", "| system | exec to listening, ms | idle, MiB | idle wake-ups/s | threads | runs |", "|---|---|---|---|---|---|"]
    for name in systems:
        idle = [record["report"] for record in records if record["system"] == name and not record["report"].get("failures")
                and record["mode"] == "paced" and record["report"].get("idle_connections") == 0
                and pick(record["report"], ("wakeups", "idle_per_s")) is not None]
        if idle:
            out.append(f"| {name} | {figure(middle([report['started_ms'] for report in idle]), 1)} "
                       f"| {middle([report['memory']['idle_kib'] for report in idle]) / 1024:.1f} "
                       f"| {figure(middle([report['wakeups']['idle_per_s'] for report in idle]), 1)} "
                       f"| {figure(middle([report['threads'] for report in idle]), 0)} | {len(idle)} |")
    return out + [""]


def draw(directory, grouped, scenarios, systems, base):
    plots = []

    def keep(name, title, svg):
        if svg:
            with open(os.path.join(directory, name), "w") as file:
                file.write(svg)
            plots.append((name, title))

    for name, title, path, unit in (("cpu", "CPU", ("cpu", "s_per_million"), "CPU seconds per million items, saturated; less is better"),
                                    ("throughput", "Throughput", ("delivered_per_s",), "Items a second on one core, saturated; more is better")):
        rows = []
        for scenario in scenarios:
            runs = grouped.get((scenario.name, "saturated"))
            if runs and not scenario.only:
                values = {system: value for system in systems if (value := runs.median(system, *path))}
                if values:
                    rows.append((scenario.name, values))
        keep(f"{name}.svg", title, plot.bars(f"{unit}; each row to its own greatest", rows, systems))
    for scenario in scenarios:
        runs = grouped.get((scenario.name, "paced"))
        if not runs:
            continue
        if scenario.name in ("half-load", "half-load-engine", "pass-traces", "grpc-traces"):
            series = {}
            for name in systems:
                good = sorted(runs.good.get(name, {}).values(), key=lambda report: report["arrival"]["p99_us"])
                if good:
                    # A distribution that was measured, not one of medians: that of the round in the middle.
                    chosen = good[len(good) // 2]
                    series[name] = [(us, -math.log10(1 - part)) for part, us in chosen["arrival_cdf"] if us > 0]
            marks = [(0, "0 %"), (math.log10(2), "50 %"), (1, "90 %"), (2, "99 %"), (3, "99.9 %")]
            keep(f"latency-{scenario.name}.svg", f"Latency, {scenario.what}",
                 plot.lines(f"Latency from due to sink, {scenario.name}, {plot.short(scenario.rate)} items/s", "latency, µs (logarithmic)",
                            "share of requests below", series, log_x=True, y_marks=marks, order=systems))
        if scenario.name in ("overload", "down"):
            series = {}
            for name in systems:
                good = list(runs.good.get(name, {}).values())
                if good:
                    series[name] = [(point["at_s"], point["resident_kib"] / 1024) for point in good[-1]["series"]]
            keep(f"memory-{scenario.name}.svg", f"Memory, {scenario.what}",
                 plot.lines(f"Resident memory, {scenario.name}; below 0 is the warm-up, the end is that of the backlog",
                            "seconds since the window began", "resident memory, MiB", series, order=systems,
                            limit=(512, "memory_limiter, 512 MiB") if scenario.name == "overload" else None))
    return plots
