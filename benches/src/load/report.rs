//! The figures of a run: as text, as one line of JSON, and many of those as a table.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::Value;

use super::tally::Books;
use super::{Latencies, Problem, doing};

/// What was measured. CPU times are the process', in the window, unless they say whose.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The row.
    pub name: String,
    /// The program under test.
    pub program: String,
    /// What is to be reached, in CPU seconds per million items.
    pub target: Option<f64>,
    /// What was spoken to it.
    pub protocol: &'static str,
    /// The signal.
    pub signal: &'static str,
    /// Items in a request sent.
    pub items_per_request: usize,
    /// What it was compressed with.
    pub coding: &'static str,
    /// Mean size of an item sent, uncompressed.
    pub bytes_per_item: f64,
    /// Mean size of an item sent, as sent.
    pub encoded_bytes_per_item: f64,
    /// Mean size of an item that arrived, as it came.
    pub egress_bytes_per_item: f64,
    /// Items in a request that arrived.
    pub egress_items_per_request: f64,
    /// Connections of the sender.
    pub connections: usize,
    /// Requests that each has open at most.
    pub streams: usize,
    /// Connections that were open beside those and idle.
    pub idle_connections: usize,
    /// What they cost in resident memory together.
    pub idle_connections_kib: u64,
    /// Items a second that should have been sent; none for saturation.
    pub offered_per_s: Option<f64>,
    /// Items a second that arrived.
    pub delivered_per_s: f64,
    /// Length of the window.
    pub seconds: f64,
    /// CPU time.
    pub cpu: Cpu,
    /// From a request's due time to its answer.
    pub answer: Quantiles,
    /// From a request's due time to its arrival at the sink.
    pub arrival: Quantiles,
    /// From a request's due time to its sending.
    pub held_up: Quantiles,
    /// From a request's due time to its sending where a connection only waited for that time: the generator's own delay.
    pub late: Quantiles,
    /// The share of the requests due in the window that were sent before its end; none for saturation. Below 1 somebody did
    /// not keep up with the rate: the program, or, where `disturbed` says so, the generator.
    pub sent: Option<f64>,
    /// Who else worked in the window.
    pub machine: Machine,
    /// Requests due in the window and not sent, all connections being busy.
    pub unsent_requests: u64,
    /// Memory.
    pub memory: Memory,
    /// Wake-ups.
    pub wakeups: Wakeups,
    /// Threads at the end of the window.
    pub threads: usize,
    /// From the start of the process to its listening, by attempts a millisecond apart.
    pub started_ms: f64,
    /// Every item of the whole run.
    pub books: Books,
    /// Values compared, if they were.
    pub values: Option<Values>,
    /// From a request's due time to its answer: parts of a whole and microseconds.
    pub answer_cdf: Vec<(f64, f64)>,
    /// The same to its arrival at the sink.
    pub arrival_cdf: Vec<(f64, f64)>,
    /// The state of things through the run, from the first request to the end of what was awaited.
    pub series: Vec<Point>,
    /// Why its latencies, and the rate that was offered, say little about the program; none if all is well.
    pub disturbed: Vec<String>,
    /// Why this run must not be used; none if all is well.
    pub failures: Vec<String>,
}

/// What else took the machine's time in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Machine {
    /// Share of their cores that sender and sink used.
    pub own_of_cores: f64,
    /// What neither they nor the program used, in cores; from ticks, so to some hundredths of a core.
    pub others_of_a_core: f64,
    /// What the hypervisor withheld, in cores.
    pub stolen_of_a_core: f64,
}

/// What others may take of the machine, in cores. The kernel counts it in ticks, so some hundredths are nothing.
const OTHERS_MAX: f64 = 0.25;

/// Why a run measured something else than the program: sender and sink at their limit, the sender late by itself, or others
/// at work. A saturated run is to be at somebody's limit, and has no latencies.
pub fn disturbed(machine: &Machine, is_paced: bool, late: &Quantiles, arrival: &Quantiles) -> Vec<String> {
    let mut disturbed = Vec::new();
    let percent = |part: f64| 100.0 * part;
    if is_paced && machine.own_of_cores > 0.9 {
        let own = percent(machine.own_of_cores);
        disturbed.push(format!("sender and sink used {own:.0} % of their cores"));
    }
    // What the sender is late by, programs are charged with. It is also woken late by its own requests before.
    if is_paced && late.p99_us > 1000.0 && late.p99_us > arrival.p99_us / 4.0 {
        disturbed.push(format!("the sender itself was {:.0} us late at p99", late.p99_us));
    }
    if machine.others_of_a_core > OTHERS_MAX {
        disturbed.push(format!("others used {:.0} % of a core", percent(machine.others_of_a_core)));
    }
    if machine.stolen_of_a_core > 0.05 {
        disturbed.push(format!("the hypervisor withheld {:.0} % of a core", percent(machine.stolen_of_a_core)));
    }
    disturbed
}

/// The state of things at one time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// Seconds since the timed window began; below 0 in the warm-up.
    pub at_s: f64,
    /// Resident memory of the process.
    pub resident_kib: u64,
    /// Its CPU seconds so far.
    pub cpu_s: f64,
    /// Items offered so far.
    pub offered: u64,
    /// Items accepted so far.
    pub accepted: u64,
    /// Items that arrived so far.
    pub arrived: u64,
}

/// A distribution for a plot: the latency below which each of these parts is.
pub fn cdf(latencies: &Latencies) -> Vec<(f64, f64)> {
    if latencies.is_empty() {
        return Vec::new();
    }
    let tails = (0..40).map(|step| 1.0 - 10f64.powf(-f64::from(step) / 10.0));
    let parts = tails.take_while(|part| latencies.len() as f64 * (1.0 - part) >= 1.0);
    parts.map(|part| (part, latencies.value_at_quantile(part) as f64 / 1e3)).collect()
}

/// CPU time.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// Seconds per million items.
    pub s_per_million: f64,
    /// The part in user mode; the split is by sampling, the sum is exact.
    pub user_s_per_million: f64,
    /// The part in the kernel.
    pub system_s_per_million: f64,
    /// Microseconds per request sent.
    pub us_per_request: f64,
    /// Share of one core in use.
    pub of_a_core: f64,
    /// The sender's own.
    pub generator_s_per_million: f64,
    /// The sink's own.
    pub sink_s_per_million: f64,
}

/// Resident memory of the process.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Before anything was sent.
    pub idle_kib: u64,
    /// At most, from start to end of the window.
    pub peak_kib: u64,
    /// At most, in the window.
    pub window_peak_kib: u64,
}

/// Times that a thread of the process was woken.
#[derive(Clone, Debug, Serialize)]
pub struct Wakeups {
    /// A second, before anything was sent.
    pub idle_per_s: Option<f64>,
    /// A second, in the window.
    pub per_s: f64,
    /// A request, in the window.
    pub per_request: f64,
}

/// Values compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Values {
    /// Items.
    pub compared: u64,
    /// Those that are not as sent.
    pub altered: u64,
}

/// Latencies, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50_us: f64,
    /// 99 of 100 are below.
    pub p99_us: f64,
    /// 999 of 1000 are below.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Quantiles {
    /// Of a histogram in nanoseconds.
    pub fn of(latencies: &Latencies) -> Quantiles {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Quantiles {
            count: latencies.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: latencies.max() as f64 / 1e3,
        }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, max {:.0} us ({} requests)",
            self.p50_us, self.p99_us, self.p999_us, self.max_us, self.count
        )
    }
}

/// What makes a run invalid.
pub fn failures(books: &Books, values: Option<&Values>) -> Vec<String> {
    let mut failures = Vec::new();
    if !books.balance() {
        failures.push(format!("delivered is not what was accepted: {books}"));
    }
    if books.accepted == 0 {
        failures.push("nothing was accepted".into());
    }
    match values {
        Some(values) if values.altered > 0 => {
            failures.push(format!("{} of {} items have other values than were sent", values.altered, values.compared));
        }
        Some(values) if values.compared == 0 => failures.push("no values were compared".into()),
        _ => {}
    }
    failures
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, memory) = (&self.cpu, &self.memory);
        writeln!(f, "{} ({})", self.name, self.program)?;
        let rate = self.offered_per_s.map_or("saturated".into(), |rate| format!("{rate:.0} items/s offered"));
        writeln!(
            f,
            "  sent       {} {}/request, {}, {:.0} bytes/item ({:.0} plain), {} connections, {rate} for {:.1} s",
            self.signal,
            self.items_per_request,
            self.coding,
            self.encoded_bytes_per_item,
            self.bytes_per_item,
            self.connections,
            self.seconds
        )?;
        writeln!(
            f,
            "  arrived    {:.0} items/s, {:.0} items/request, {:.0} bytes/item",
            self.delivered_per_s, self.egress_items_per_request, self.egress_bytes_per_item
        )?;
        writeln!(f, "  items      {}", self.books)?;
        if let Some(values) = self.values {
            writeln!(f, "  values     {} items compared, {} altered", values.compared, values.altered)?;
        }
        write!(
            f,
            "  CPU        {:.3} s per million items (user {:.3}, system {:.3}), {:.1} us a request, {:.0}% of a core",
            cpu.s_per_million,
            cpu.user_s_per_million,
            cpu.system_s_per_million,
            cpu.us_per_request,
            cpu.of_a_core * 100.0
        )?;
        match self.target {
            Some(target) => writeln!(f, "; target {target}")?,
            None => writeln!(f)?,
        }
        writeln!(
            f,
            "  own CPU    generator {:.3}, sink {:.3} s per million items",
            cpu.generator_s_per_million, cpu.sink_s_per_million
        )?;
        writeln!(f, "  answer     {}", self.answer)?;
        writeln!(f, "  arrival    {}", self.arrival)?;
        writeln!(f, "  held up    {}, {} not sent", self.held_up, self.unsent_requests)?;
        let sent =
            self.sent.map_or_else(String::new, |sent| format!("{:.1} % of what was due was sent; ", 100.0 * sent));
        writeln!(
            f,
            "  trust      {sent}sender late by itself p99 {:.0} us; sender and sink {:.0} % of their cores, others {:.0} % of one",
            self.late.p99_us,
            100.0 * self.machine.own_of_cores,
            100.0 * self.machine.others_of_a_core
        )?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        writeln!(
            f,
            "  memory     {:.1} MiB idle, {:.1} MiB peak, {:.1} MiB peak in the window; {} threads, listening after {:.0} ms",
            mib(memory.idle_kib),
            mib(memory.peak_kib),
            mib(memory.window_peak_kib),
            self.threads,
            self.started_ms
        )?;
        write!(f, "  wake-ups   {:.0}/s, {:.2} a request", self.wakeups.per_s, self.wakeups.per_request)?;
        match self.wakeups.idle_per_s {
            Some(idle) => writeln!(f, "; {idle:.1}/s idle")?,
            None => writeln!(f)?,
        }
        for why in &self.disturbed {
            writeln!(f, "  DISTURBED  {why}")?;
        }
        for failure in &self.failures {
            writeln!(f, "  FAILED     {failure}")?;
        }
        Ok(())
    }
}

/// A table of many runs, each a line of JSON: a row a name, in the order of their first appearance, with medians and ranges.
///
/// # Errors
///
/// A line that is not JSON.
pub fn table(lines: &str) -> Result<String, Problem> {
    let mut order: Vec<String> = Vec::new();
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let run: Value = serde_json::from_str(line).map_err(doing("a line is not a report"))?;
        let name = run["name"].as_str().unwrap_or("?").to_owned();
        if !order.contains(&name) {
            order.push(name.clone());
        }
        rows.entry(name).or_default().push(run);
    }
    let mut out = String::from(
        "| scenario | CPU s/M | min to max | target | user | system | us/request | answer p50, p99 us | arrival p50, p99 us | peak MiB | wake-ups/request | own CPU s/M | runs |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for name in order {
        let runs = &rows[&name];
        let good: Vec<&Value> =
            runs.iter().filter(|run| run["failures"].as_array().is_none_or(Vec::is_empty)).collect();
        if good.is_empty() {
            let why = runs[0]["failures"][0].as_str().unwrap_or("?");
            let _ = writeln!(out, "| {name} | FAILED | {why} |");
            continue;
        }
        let all = |pointer: &str| {
            let mut values: Vec<f64> =
                good.iter().filter_map(|run| run.pointer(pointer).and_then(Value::as_f64)).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let median = |pointer: &str| all(pointer).get(good.len() / 2).copied().unwrap_or(f64::NAN);
        let cpu = all("/cpu/s_per_million");
        let target = all("/target").first().map_or("–".into(), f64::to_string);
        let _ = writeln!(
            out,
            "| {name} | {:.3} | {:.3} to {:.3} | {target} | {:.3} | {:.3} | {:.1} | {:.0}, {:.0} | {:.0}, {:.0} | {:.1} | {:.2} | {:.3} | {} of {} |",
            median("/cpu/s_per_million"),
            cpu.first().unwrap_or(&f64::NAN),
            cpu.last().unwrap_or(&f64::NAN),
            median("/cpu/user_s_per_million"),
            median("/cpu/system_s_per_million"),
            median("/cpu/us_per_request"),
            median("/answer/p50_us"),
            median("/answer/p99_us"),
            median("/arrival/p50_us"),
            median("/arrival/p99_us"),
            median("/memory/window_peak_kib") / 1024.0,
            median("/wakeups/per_request"),
            median("/cpu/generator_s_per_million") + median("/cpu/sink_s_per_million"),
            good.len(),
            runs.len()
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_disturbed_by_a_busy_machine_and_a_late_sender() {
        let quiet = Machine { own_of_cores: 0.5, others_of_a_core: 0.05, stolen_of_a_core: 0.0 };
        let p99 = |us| Quantiles { count: 1, p50_us: us, p99_us: us, p999_us: us, max_us: us };
        let of = |machine, is_paced, late, arrival| disturbed(machine, is_paced, &p99(late), &p99(arrival)).join("; ");
        assert_eq!(of(&quiet, true, 300.0, 400.0), "");
        assert_eq!(of(&quiet, true, 2000.0, 9000.0), "", "little beside what was measured");
        assert_eq!(of(&quiet, true, 2000.0, 3000.0), "the sender itself was 2000 us late at p99");
        let full = Machine { own_of_cores: 0.97, ..quiet };
        assert_eq!(of(&full, true, 0.0, 0.0), "sender and sink used 97 % of their cores");
        assert_eq!(of(&full, false, 9e6, 0.0), "", "saturated");
        let shared = Machine { others_of_a_core: 0.8, stolen_of_a_core: 0.5, ..quiet };
        assert_eq!(of(&shared, false, 0.0, 0.0), "others used 80 % of a core; the hypervisor withheld 50 % of a core");
    }

    #[test]
    fn a_table_has_medians_of_the_runs_that_did_not_fail() {
        let run = |name: &str, cpu: f64, failures: &str| {
            format!(r#"{{"name":"{name}","target":0.5,"cpu":{{"s_per_million":{cpu}}},"failures":[{failures}]}}"#)
        };
        let lines = [
            run("b", 0.3, ""),
            run("b", 0.1, ""),
            run("a", 1.0, r#""lost""#),
            run("b", 0.2, ""),
            run("b", 9.0, r#""lost""#),
        ];
        let table = table(&lines.join("\n")).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert!(rows[0].starts_with("| b | 0.200 | 0.100 to 0.300 | 0.5 |"), "{table}");
        assert!(rows[0].ends_with("| 3 of 4 |"), "{table}");
        assert_eq!(rows[1], "| a | FAILED | lost |");
        assert!(super::table("no").is_err());
    }
}
