"""Tests of benches/run with a generator that only says what it is told to: `ci/benches`."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import unittest

from runner import plan, plot, results
from runner.scenarios import FULL, MAIN, VARIANTS, scenarios

RUN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "run")

# Notes its call, then does what the file of that name says for a call of that number.
STUB = """#!{python}
import json, os, signal, sys
here = os.path.dirname(os.path.abspath(__file__))
words = sys.argv
with open(os.path.join(here, "calls"), "a") as file:
    file.write(words[words.index("--name") + 1] + " " + words[words.index("--rate") + 1] + "\\n")
number = sum(1 for _ in open(os.path.join(here, "calls")))
deeds = json.load(open(os.path.join(here, "deeds")))
deed = deeds.get(str(number), {{}})
if deed == "kill":
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)
report = json.load(open(os.path.join(here, "report")))
report["cpu"]["s_per_million"] = deed.get("cpu", 1.0)
report.update({{key: value for key, value in deed.items() if key != "cpu"}})
print(json.dumps(report))
"""


def report():
    quantiles = {"count": 500, "p50_us": 100.0, "p99_us": 300.0, "p999_us": 900.0, "max_us": 1000.0}
    cpu = {"s_per_million": 1.0, "user_s_per_million": 0.5, "system_s_per_million": 0.5, "of_a_core": 0.1,
           "generator_s_per_million": 0.1, "sink_s_per_million": 0.1}
    return {"signal": "traces", "items_per_request": 512, "bytes_per_item": 457.0, "encoded_bytes_per_item": 457.0, "coding": "identity",
            "connections": 8, "streams": 1, "idle_connections": 0, "idle_connections_kib": 0, "seconds": 2.0, "delivered_per_s": 1000.0,
            "egress_bytes_per_item": 457.0, "cpu": cpu, "answer": quantiles, "arrival": quantiles, "sent": 1.0,
            "machine": {"own_of_cores": 0.1}, "memory": {"idle_kib": 1024, "window_peak_kib": 2048}, "wakeups": {"idle_per_s": 0.0},
            "threads": 5, "started_ms": 2.0, "books": {"offered": 100, "accepted": 100}, "arrival_cdf": [[0.0, 90.0], [0.9, 200.0]],
            "series": [], "disturbed": [], "failures": []}


class Called(unittest.TestCase):
    """benches/run as a program, with the stub in otlp-load's place and `true` in otlpd's."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="otlpd-benches.")
        self.addCleanup(self.directory.cleanup)
        self.write("stub", STUB.format(python=sys.executable))
        os.chmod(self.path("stub"), stat.S_IRWXU)
        self.write("report", json.dumps(report()))
        self.write("calls", "")

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def write(self, name, words):
        with open(self.path(name), "w") as file:
            file.write(words)

    def read(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def call(self, *words, deeds=None):
        self.write("deeds", json.dumps(deeds or {}))
        environment = {**os.environ, "OTLP_LOAD": self.path("stub"), "OTLPD": "/bin/true"}
        command = [sys.executable, RUN, "--systems", "otlpd", "--results", self.path("raw"), "--output", self.path("RESULTS.md"), *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    def calls(self):
        return self.read("calls").splitlines()

    def row(self):
        return next(line for line in self.read("RESULTS.md").splitlines() if line.startswith("| HTTP, no compression, traces"))

    def test_an_interrupted_call_goes_on_where_it_was(self):
        words = ("--rounds", "3", "pass-traces", "half-load")
        # Two scenarios of two and of one mode, and half-load-engine: four runs a round.
        killed = self.call(*words, deeds={"6": "kill"})
        self.assertEqual(killed.returncode, -signal.SIGKILL)
        self.assertEqual(len(self.read("raw").splitlines()), 5)
        self.assertFalse(os.path.exists(self.path("RESULTS.md")))
        done = self.call(*words)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.calls()), 12 + 1)
        keys = [(r["scenario"], r["mode"], r["round"]) for r in map(json.loads, self.read("raw").splitlines())]
        self.assertEqual((len(keys), len(set(keys))), (12, 12))
        # Nothing is left to do.
        self.assertEqual(self.call(*words).returncode, 0)
        self.assertEqual(len(self.calls()), 13)

    def test_results_can_be_written_of_what_there_is_and_say_how_much_that_is(self):
        self.call("--rounds", "5", "pass-traces", deeds={"4": "kill"})
        done = self.call("--report")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(self.calls()), 4)
        self.assertTrue(self.row().endswith("| 1 |"), self.row())
        self.assertEqual(self.call("--rounds", "5", "pass-traces").returncode, 0)
        self.assertTrue(self.row().endswith("| 5 |"), self.row())

    def test_no_run_begins_when_the_time_is_over(self):
        done = self.call("--minutes", "0", "pass-traces")
        self.assertEqual(self.calls(), [])
        self.assertIn("10 of 10 runs are left", done.stderr)

    def test_a_failed_run_fails_the_call_is_not_counted_and_is_made_again(self):
        lost = "delivered is not what was accepted: 100 offered, 100 accepted, 99 delivered, 1 LOST"
        done = self.call("--rounds", "2", "pass-traces", deeds={"4": {"cpu": 50.0, "failures": [lost]}})
        self.assertEqual(done.returncode, 1)
        self.assertIn(lost, done.stderr)
        self.assertIn(f"otlpd, round 2, FAILED and not counted: {lost}.", self.read("RESULTS.md"))
        self.assertIn("| 1.000 |", self.row())
        self.assertTrue(self.row().endswith("| 1 |"), self.row())
        done = self.call("--rounds", "2", "pass-traces")
        self.assertEqual((done.returncode, len(self.calls())), (0, 5))
        self.assertNotIn("FAILED", self.read("RESULTS.md"))

    def test_a_disturbed_run_is_left_out_where_there_is_another(self):
        busy = {"cpu": 9.0, "disturbed": ["others used 80 % of a core"]}
        self.call("--rounds", "3", "pass-traces", deeds={"2": busy})
        self.assertIn("otlpd: 1 disturbed (such as: others used 80 % of a core), left out.", self.read("RESULTS.md"))
        self.assertIn("| 1.000 |", self.row())
        self.assertTrue(self.row().endswith("| 2 |"), self.row())
        self.assertEqual(len(self.calls()), 6)
        self.call("--rounds", "3", "--again", "pass-traces")
        self.assertEqual(len(self.calls()), 7)
        self.assertNotIn("left out.", self.read("RESULTS.md"))

    def test_a_row_of_disturbed_runs_alone_is_marked(self):
        busy = {"cpu": 9.0, "disturbed": ["others used 80 % of a core"]}
        self.call("--rounds", "1", "pass-traces", deeds={"1": busy, "2": busy})
        self.assertIn("| 9.000 † |", self.row())

    def test_a_rate_that_was_not_offered_is_marked(self):
        self.call("--rounds", "1", "half-load", deeds={"1": {"sent": 0.2}})
        written = self.read("RESULTS.md")
        self.assertIn("100 / 300 / – ‡", written)
        self.assertIn("of what was due only 20 % could be sent", written)


class Planned(unittest.TestCase):
    SYSTEMS = ["otlpd", "collector", *VARIANTS]

    def runs(self, rounds=5):
        return plan.runs(scenarios(), self.SYSTEMS, rounds, lambda name, scenario: True)

    def test_all_of_it_takes_less_than_fifty_minutes(self):
        self.assertLess(sum(plan.estimate_s(run, 2, False) for run in self.runs()), 50 * 60)

    def test_a_smoke_test_takes_less_than_ten_minutes(self):
        quick = [scenario for scenario in scenarios() if scenario.quick]
        runs = plan.runs(quick, self.SYSTEMS, 1, lambda name, scenario: True)
        self.assertLess(sum(plan.estimate_s(run, 1.5, True) for run in runs), 10 * 60)

    def test_main_rows_come_first_with_five_rounds_and_all_others_have_three(self):
        runs = self.runs()
        tiers = [run.scenario.tier for run in runs]
        self.assertEqual(tiers, sorted(tiers))
        for scenario in scenarios():
            for system in self.SYSTEMS:
                rounds = {run.round for run in runs if run.scenario.name == scenario.name and run.system == system}
                if rounds:
                    self.assertEqual(len(rounds), 5 if scenario.tier == MAIN and system in FULL else 3)

    def test_systems_take_turns_the_other_way_round_in_every_second_round(self):
        turns = [[run.system for run in self.runs() if run.key[:2] == ("gzip", "paced") and run.round == number] for number in (0, 1)]
        self.assertEqual(turns[0], self.SYSTEMS)
        self.assertEqual(turns[1], self.SYSTEMS[::-1])

    def test_every_name_is_there_once(self):
        names = [scenario.name for scenario in scenarios()]
        self.assertEqual(len(names), len(set(names)))


class Written(unittest.TestCase):
    def test_ratios_are_of_one_round(self):
        record = lambda system, number, cpu: {"system": system, "round": number, "report": {**report(), "cpu": {"s_per_million": cpu}}}
        runs = results.Runs([record("otlpd", 0, 1.0), record("otlpd", 1, 2.0), record("other", 0, 4.0), record("other", 1, 6.0),
                             record("other", 2, 99.0)])
        self.assertEqual(runs.ratios("other", "otlpd"), (3.0, 3.5, 4.0))

    def test_records_of_an_older_build_are_not_shown(self):
        record = lambda build, at, row="one": {"system": "otlpd", "scenario": row, "build": build, "commit": "of " + build, "at": at}
        records, last = results.newest([record("a", "1"), record("b", "2"), record("a", "1")])
        self.assertEqual([entry["build"] for entry in records], ["b"])
        self.assertEqual(last["otlpd"]["build"], "b")
        self.assertEqual(results.commits(records, "otlpd"), "commit of b")
        # A row that was measured again alone takes nothing from the others.
        records, last = results.newest([record("a", "1"), record("a", "1", "two"), record("a", "1", "three"), record("b", "2")])
        self.assertEqual([entry["build"] for entry in records], ["a", "a", "b"])
        self.assertEqual(results.commits(records, "otlpd"), "commit of a (of b for one)")

    def test_a_system_has_the_same_colour_in_every_plot(self):
        drawn = plot.lines("", "", "", {"b": [(1, 1), (2, 2)]}, order=["a", "b"])
        self.assertIn(plot.COLOURS[1], drawn)
        self.assertNotIn(plot.COLOURS[0], drawn)


if __name__ == "__main__":
    unittest.main()
