"""What benches/run measures. One line of SCENARIOS is one table of RESULTS.md."""

import os
from dataclasses import dataclass, field


# What every scenario is measured with after the others of its tier; a run that is stopped keeps the first tiers whole.
MAIN, MORE, SWEEP = 1, 2, 3

# Rounds of what is not a main row, and of all systems but these: their ratio is what the aims are about.
FEWER_ROUNDS = 3
FULL = ("otlpd", "collector")
VARIANTS = ("async-variant", "engine-on-tokio")


@dataclass
class Scenario:
    name: str
    what: str
    config: str
    # Items a second that every system is offered; the same for all, or their figures could not be compared.
    rate: int
    load: list = field(default_factory=list)
    # Also measured with as much as it takes.
    saturated: bool = True
    # CPU seconds per million items that otlpd has to reach.
    target: float = None
    # How many times the Collector's.
    ratio: float = None
    # Only these systems: others do not know what the configuration says, or are not what the scenario asks about.
    only: tuple = ()
    environment: dict = field(default_factory=dict)
    # The window is so many times as long: where latencies are the point, or something has to fill.
    longer: float = 1
    # At least so many seconds.
    seconds_min: float = 0
    # About how long it takes afterwards until all that was accepted has arrived.
    drain: float = 0
    # Seconds of idling before; wake-ups and memory of a system that does nothing.
    idle: float = 0
    quick: bool = True
    cpu: str = "1"
    note: str = ""
    tier: int = MAIN
    # Measured with other systems than otlpd and the Collector too; where not, a main row has answered what they are asked.
    others: bool = True
    # Items a second that the backend takes, where that is less than what is offered.
    takes: int = None
    # Some of what is offered is to be refused, or wait: that less is delivered means nothing.
    overloads: bool = False

    def modes(self):
        return ["paced", "saturated"] if self.saturated else ["paced"]

    def seconds(self, base):
        return max(base * self.longer, self.seconds_min)

    def rounds(self, wanted, system):
        if self.only and system not in self.only or system not in FULL and not self.others:
            return 0
        return min(wanted, FEWER_ROUNDS) if self.tier != MAIN or system not in FULL else wanted


GRPC = ["--protocol", "grpc", "--connections", "4", "--streams", "16"]
SMALL = ["--items-per-request", "10"]
EARLY = ("otlpd answers when the queue of every destination holds the data (`queued`, admitted against its limits); the Collector's "
         "batch processor answers before anything is sure.")


def threads(preset, receive, process):
    return {"OTLP_LOAD_PRESET": preset, "OTLP_LOAD_RECEIVE": str(receive), "OTLP_LOAD_PROCESS": str(process)}


def scenarios():
    """All of them, in the order in which they are measured and shown."""
    S = Scenario
    more = {"quick": False, "tier": MORE, "others": False}
    rows = [
        S("pass-traces", "HTTP, no compression, traces, 512 a request", "pass", 150_000, target=0.20, ratio=16.5, idle=2),
        S("pass-logs", "the same, logs", "pass", 250_000, ["--signal", "logs"], target=0.14, ratio=12),
        S("pass-metrics", "the same, metrics", "pass", 250_000, ["--signal", "metrics"], target=0.13, ratio=15),
        S("pass-10", "HTTP, traces, 10 a request, passed on one by one", "pass", 20_000, SMALL, target=2.5, ratio=8.5),
        S("batch-10", "HTTP, traces, 10 a request, through memory_limiter and batch", "batch", 50_000, SMALL,
          target=1.5, ratio=6, note=EARLY),
        S("gzip", "HTTP gzip in and out, nothing changed", "gzip", 60_000, ["--compression", "gzip"], target=0.50, ratio=15),
        S("zstd", "HTTP zstd in and out, nothing changed", "zstd", 120_000, ["--compression", "zstd"], target=0.45, ratio=9),
        S("insert", "one attribute inserted on every span", "insert", 120_000, ["--changed"], target=0.34, ratio=11),
        S("edits", "four edits (insert, upsert, delete, hash)", "edits", 120_000, ["--changed"], target=0.45, ratio=9),
        S("grpc-traces", "gRPC, no compression, traces, 512 a request", "grpc", 150_000, GRPC, target=0.40, ratio=7.5),
        S("grpc-logs", "the same, logs", "grpc", 250_000, GRPC + ["--signal", "logs"], target=0.27, ratio=5.5),
        S("grpc-10", "gRPC, traces, 10 a request", "grpc", 50_000, GRPC + SMALL, target=2.5, ratio=3.5),
        S("grpc-gzip", "gRPC gzip in and out, nothing changed", "grpc-gzip", 60_000, GRPC + ["--compression", "gzip"],
          target=0.70, ratio=10),
        S("half-load", "latency of HTTP pass-through at half of what the Collector can take", "pass", 150_000, saturated=False,
          longer=3, quick=False, note="Aim: p99 from sender to sink at most 1 ms, and at most a fifth of the Collector's."),
        S("half-load-engine", "latency of HTTP pass-through at half of what the engine on tokio can take", "pass", 700_000,
          saturated=False, longer=2, quick=False, only=("otlpd", "engine-on-tokio"),
          note="Aim: p99 below that of the same engine on tokio, with at most its CPU."),
        S("overload", "200 000 spans/s for a backend that takes a third; limit 512 MiB", "overload", 200_000,
          ["--take-rate", "66667", "--connections", "64", "--timeout", "90"], saturated=False, seconds_min=12, drain=8,
          tier=MORE, overloads=True, takes=66_667, note=EARLY +
          " Aim: at most 64 MiB, at least 95 % of what the backend takes, senders told to retry."),
        S("down", "the backend is down for a third of the window", "down", 20_000,
          ["--outage", "{third}-{two_thirds}", "--timeout", "60"], saturated=False, seconds_min=9, drain=3, tier=MORE,
          overloads=True, note=EARLY),
        S("idle-1000", "1 000 idle connections beside the load", "pass", 50_000, ["--idle-connections", "1000"],
          saturated=False, idle=1, tier=MORE, others=False),
        S("idle-10000", "10 000 idle connections beside the load", "pass", 50_000, ["--idle-connections", "10000"],
          saturated=False, idle=1, quick=False, tier=MORE, others=False),
        S("pass-collector-order", "HTTP, traces, 512 a request as a Collector in front sends them: fields from the last to the first",
          "pass", 150_000, ["--field-order", "collector"], **more),
        S("pass-100", "HTTP, traces, 100 a request", "pass", 100_000, ["--items-per-request", "100"], **more),
        S("pass-4096", "HTTP, traces, 4096 a request", "pass", 150_000, ["--items-per-request", "4096"], **more),
        S("rename", "one attribute renamed (insert from_attribute, delete)", "rename", 120_000, ["--changed"], **more),
        S("insert-gzip", "one attribute inserted, gzip out", "insert-gzip", 40_000, ["--changed"], **more),
        S("insert-zstd", "one attribute inserted, zstd out", "insert-zstd", 80_000, ["--changed"], **more),
    ]
    # Out by otlp_http is pass-traces.
    for config, what in [("http-grpc", "otlp_grpc"), ("debug", "debug"), ("file", "file, as protobuf")]:
        unseen = ["--unseen"] if config in ("debug", "file") else []
        rows.append(S(f"exporter-{config}", f"in over HTTP, out by {what}", config, 150_000, unseen, **more))
    sweep = {"only": ("otlpd",), "quick": False, "cpu": "any", "tier": SWEEP}
    for count in (1, 2, 4, 8):
        rows.append(S(f"threads-receive-{count}", f"{count} receive threads, pass-through, on all cores", "threads", 150_000,
                      ["--connections", "32"], environment=threads("production", count, 1),
                      note="Never more receive threads than cores." if count > (os.cpu_count() or 1) else "", **sweep))
    for count in (1, 2, 4, 8):
        rows.append(S(f"threads-process-{count}", f"{count} process threads, one insert, on all cores", "insert-threads", 150_000,
                      ["--connections", "32", "--changed"], environment=threads("production", 1, count), **sweep))
    for preset in ("production", "high_performance", "low_latency", "development"):
        rows.append(S(f"preset-{preset.replace('_', '-')}", f"preset {preset}, one insert, on all cores", "insert-threads", 150_000,
                      ["--connections", "32", "--changed"], environment=threads(preset, 0, 0), **sweep))
    return rows
