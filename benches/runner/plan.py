"""Which runs there are to make, in which order, and about how long they take."""

from dataclasses import dataclass

# What a run takes beside its idling, warm-up, window and drain: bodies are made, the system starts and stops, values are compared.
AROUND_S = 0.4
AROUND_COLLECTOR_S = 0.5
# A system that idles is given that long to settle first.
SETTLING_S = 0.3


@dataclass(frozen=True)
class Run:
    scenario: object
    mode: str
    system: str
    round: int

    @property
    def key(self):
        return (self.scenario.name, self.mode, self.system, self.round)


def runs(scenarios, systems, rounds, can_run):
    """All of them: the scenarios of a tier, round by round, every second round with the systems the other way round.

    A tier is complete before the next one begins, so that a run that is stopped keeps what matters most; within it rounds are
    interleaved over all scenarios, so that a slow quarter of an hour is in one round of many rows, not in all rounds of a few.
    """
    out = []
    for tier in sorted({scenario.tier for scenario in scenarios}):
        for number in range(rounds):
            order = list(systems) if number % 2 == 0 else list(reversed(systems))
            for scenario in scenarios:
                if scenario.tier != tier:
                    continue
                for mode in scenario.modes():
                    for name in order:
                        if number < scenario.rounds(rounds, name) and can_run(name, scenario):
                            out.append(Run(scenario, mode, name, number))
    return out


def warm_up_s(quick):
    return 0.5 if quick else 1


def window_s(scenario, mode, base, quick):
    """How long the window is; a smoke test has no long ones."""
    seconds = scenario.seconds(base)
    return min(seconds, max(base, 6)) if quick else seconds


def idle_s(scenario, mode, quick):
    if mode != "paced" or not scenario.idle:
        return 0
    return 0.5 if quick else scenario.idle


def estimate_s(run, base, quick):
    """About how long a run takes."""
    idle = idle_s(run.scenario, run.mode, quick)
    around = AROUND_COLLECTOR_S if run.system == "collector" else AROUND_S
    return (around + (SETTLING_S + idle if idle else 0) + warm_up_s(quick)
            + window_s(run.scenario, run.mode, base, quick) + (run.scenario.drain if run.mode == "paced" else 0))


class Clock:
    """How much time is left: the estimates, corrected by what runs took so far."""

    def __init__(self):
        self.estimated = self.taken = 0.0

    def took(self, estimated, taken):
        self.estimated += estimated
        self.taken += taken

    def left_s(self, estimated):
        # A correction from one run alone would jump about.
        factor = self.taken / self.estimated if self.estimated > 20 else 1
        return estimated * factor
