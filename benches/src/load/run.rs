//! One run: sink, process under test and sender, from start to verdict.
//!
//! The order: start the sink, start the process and time it, let it idle, send (a warm-up, then the timed window), wait until
//! all that was accepted has arrived, send every body once more for its values to be compared, stop the process, close the
//! books. CPU time, wake-ups and the peak of memory are those of the window; the peak of the whole run is reported too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::corpus::{Corpus, Plan};
use super::process::{self, CpuTime, MachineTime, Process, Sample, machine_time, own_cpu};
use super::report::{self, Cpu, Machine, Memory, Point, Quantiles, Report, Values, Wakeups, cdf};
use super::sender::{self, Schedule, Sender};
use super::sink::{self, Sink};
use super::tally::Tally;
use super::values::Expected;
use super::{Anchor, Problem, Protocol, doing};

/// The variable in which the program finds the address that it is to listen on, as `127.0.0.1:PORT`.
pub const LISTEN_VARIABLE: &str = "OTLP_LOAD_LISTEN";

/// The variable in which the program finds the sink, as `http://127.0.0.1:PORT`.
pub const SINK_VARIABLE: &str = "OTLP_LOAD_SINK";

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The row's name in tables.
    pub name: String,
    /// What is to be reached, in CPU seconds per million items.
    pub target: Option<f64>,
    /// The program under test.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it listens; `None` is a free port of the loopback.
    pub listen: Option<SocketAddr>,
    /// Where the sink listens.
    pub sink: SocketAddr,
    /// The core of the program; `None` is any.
    pub cpu: Option<usize>,
    /// The cores of the sender and the sink; none is any.
    pub own_cpus: Vec<usize>,
    /// The bodies.
    pub plan: Plan,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// Connections.
    pub connections: usize,
    /// Requests that each has open at once.
    pub streams: usize,
    /// Connections beside those, which send one request for nothing and are then idle.
    pub idle_connections: usize,
    /// From when to when in the window the sink is down.
    pub outage: Option<(Duration, Duration)>,
    /// Items a second; `None` saturates.
    pub rate: Option<f64>,
    /// How long the program idles before it is sent anything.
    pub idle: Duration,
    /// How long it is sent to before the window.
    pub warm_up: Duration,
    /// The window.
    pub duration: Duration,
    /// How long an answer, and the arrival of what was accepted, may take.
    pub timeout: Duration,
    /// How the sink behaves.
    pub limits: sink::Limits,
    /// Nothing is handed on to the sink: what was accepted is what is counted, and nobody looks for it.
    pub unseen: bool,
    /// Whether the values must arrive as they were sent.
    pub compare: bool,
}

/// What was counted at one instant.
#[derive(Clone)]
struct Snapshot {
    at: Instant,
    process: Sample,
    sender: CpuTime,
    /// Of this process, all threads.
    own: CpuTime,
    machine: MachineTime,
    arrived: u64,
    bodies: u64,
    bytes: u64,
}

/// Runs it; `progress` is called a few times a second with one line.
///
/// # Errors
///
/// Where there is nothing to report: the program does not start, or ends early. A run that went wrong otherwise is a report
/// with failures.
pub fn run(settings: &Settings, progress: &mut dyn FnMut(&str)) -> Result<Report, Problem> {
    progress("preparing bodies");
    process::pin(&settings.own_cpus)?;
    let corpus = Arc::new(Corpus::new(settings.plan.clone())?);
    let expected = settings.compare.then(|| Expected::of(&corpus));
    let tally = Arc::new(Tally::new(settings.plan.items));
    let anchor = Anchor::now();
    let mut sink = Sink::start(settings.sink, Arc::clone(&tally), anchor, settings.limits)
        .map_err(doing(format_args!("cannot listen on {}", settings.sink)))?;
    let address = match settings.listen {
        Some(address) => address,
        None => free_address().map_err(doing("cannot find a free port"))?,
    };
    let mut command = Command::new(&settings.program);
    command.args(&settings.arguments).env(LISTEN_VARIABLE, address.to_string());
    command.env(SINK_VARIABLE, format!("http://{}", sink.address()));
    let mut process = Process::start(command, settings.cpu, address, settings.timeout)?;
    let (id, started_ms) = (process.id(), process.started_in.as_secs_f64() * 1e3);

    let without = process::sample(id)?.resident_kib;
    let kept_open = open_idle(settings.idle_connections, address, settings.timeout)?;
    let idle = idle(settings.idle, id, progress)?;
    let idle_connections_kib = idle.1.resident_kib.saturating_sub(without);
    let begin = Instant::now() + Duration::from_millis(20);
    let timed_from = begin + settings.warm_up;
    let schedule = Schedule { begin, timed_from, end: timed_from + settings.duration };
    sink.time_between(anchor.unix_nano(timed_from), anchor.unix_nano(schedule.end));
    let options = sender::Options {
        address,
        protocol: settings.protocol,
        connections: settings.connections,
        streams: settings.streams,
        rate: settings.rate,
        schedule,
        timeout: settings.timeout,
    };
    let sender = Sender::start(options.clone(), Arc::clone(&corpus), Arc::clone(&tally), anchor, 0)?;
    let mut ended = None;
    let mut series = Vec::new();
    let mut watch = |until: Instant, what: &str| {
        while Instant::now() < until && ended.is_none() {
            thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(250)));
            ended = process.ended();
            series.extend(point(id, timed_from, &tally));
            progress(&line(what, until, &tally));
        }
    };
    watch(timed_from, "warming up");
    process::reset_peak(id);
    let snapshot = || snapshot(id, &tally, settings.unseen);
    let first = snapshot()?;
    if let Some((from, to)) = settings.outage {
        watch(timed_from + from, "measuring");
        sink.go_away();
        watch(timed_from + to, "measuring while the sink is down");
        sink.come_back().map_err(doing("the sink cannot come back"))?;
    }
    watch(schedule.end, "measuring");
    let last = snapshot()?;
    if let Some(status) = ended {
        sender.stop();
        return Err(Problem(format!("the program ended while it was measured: {status}")));
    }
    let (timed, next) = sender.join();

    progress("waiting for what was accepted");
    let arrival_timeout = if settings.unseen { Duration::ZERO } else { settings.timeout };
    await_arrival(&tally, arrival_timeout, &mut || series.extend(point(id, timed_from, &tally)));
    let mut failures = Vec::new();
    if expected.is_some() {
        sink.keep_all();
        let sent = sender::send_each_once(&options, &corpus, &tally, &anchor, next);
        failures.extend(sent.err().map(|problem| problem.to_string()));
        await_arrival(&tally, settings.timeout, &mut || {});
    }
    drop(kept_open);
    progress("stopping the program");
    failures.extend(process.stop(Duration::from_secs(40)).err().map(|problem| problem.to_string()));
    progress("comparing values");
    let values = expected.map(|expected| {
        let mut values = Values::default();
        for body in sink.take_kept() {
            let (compared, altered) = expected.compare(&body);
            values.compared += compared;
            values.altered += altered;
        }
        values
    });
    let books = tally.books();
    let mut judged = books.clone();
    if settings.unseen {
        judged.lost = 0;
    }
    if settings.outage.is_some() {
        // Taken, but its answer was lost with the connection: to send it again is what a sender owes.
        judged.doubled = 0;
    }
    failures.extend(report::failures(&judged, values.as_ref()));
    failures.extend(timed.first_failure);

    let seconds = (last.at - first.at).as_secs_f64();
    let items = (last.arrived - first.arrived) as f64;
    let requests = timed.held_up.len() as f64;
    let per_million = |cpu_s: f64| if items > 0.0 { cpu_s * 1e6 / items } else { f64::NAN };
    let cpu_s = last.process.cpu.since(&first.process.cpu);
    let (user_s, system_s) = last.process.cpu.split_since(&first.process.cpu);
    let sender_s = last.sender.since(&first.sender);
    let own_s = last.own.since(&first.own);
    let sink_s = (own_s - sender_s).max(0.0);
    let busy_s = last.machine.busy_s - first.machine.busy_s;
    let cores = match settings.own_cpus.len() {
        0 => thread::available_parallelism().map_or(1, usize::from),
        own => own,
    };
    let machine = Machine {
        own_of_cores: own_s / seconds / cores as f64,
        others_of_a_core: ((busy_s - own_s - cpu_s) / seconds).max(0.0),
        stolen_of_a_core: (last.machine.stolen_s - first.machine.stolen_s) / seconds,
    };
    let arrival = Quantiles::of(&sink.latencies());
    let due = settings.rate.map(|rate| schedule.due_in_window(settings.plan.items as f64 / rate));
    let sent = due.map(|due| timed.held_up.len() as f64 / due.max(1) as f64);
    let late = Quantiles::of(&timed.late);
    let disturbed = report::disturbed(&machine, settings.rate.is_some(), &late, &arrival);
    let wakeups = last.process.wakeups.saturating_sub(first.process.wakeups) as f64;
    let (plain, encoded) = corpus.item_bytes();
    Ok(Report {
        name: settings.name.clone(),
        program: settings.program.display().to_string(),
        target: settings.target,
        protocol: settings.protocol.as_str(),
        signal: settings.plan.signal.as_str(),
        items_per_request: settings.plan.items,
        coding: settings.plan.coding.as_str(),
        bytes_per_item: plain,
        encoded_bytes_per_item: encoded,
        egress_bytes_per_item: (last.bytes - first.bytes) as f64 / items,
        egress_items_per_request: items / (last.bodies - first.bodies) as f64,
        connections: settings.connections,
        streams: settings.streams,
        idle_connections: settings.idle_connections,
        idle_connections_kib,
        offered_per_s: settings.rate,
        delivered_per_s: items / seconds,
        seconds,
        cpu: Cpu {
            s_per_million: per_million(cpu_s),
            user_s_per_million: per_million(user_s),
            system_s_per_million: per_million(system_s),
            us_per_request: cpu_s * 1e6 / requests,
            of_a_core: cpu_s / seconds,
            generator_s_per_million: per_million(sender_s),
            sink_s_per_million: per_million(sink_s),
        },
        answer: Quantiles::of(&timed.answers),
        arrival,
        held_up: Quantiles::of(&timed.held_up),
        late,
        sent,
        machine,
        unsent_requests: timed.unsent,
        memory: Memory {
            idle_kib: idle.1.resident_kib,
            peak_kib: last.process.peak_kib.max(idle.1.peak_kib),
            window_peak_kib: last.process.peak_kib,
        },
        wakeups: Wakeups { idle_per_s: idle.0, per_s: wakeups / seconds, per_request: wakeups / requests },
        threads: last.process.threads,
        started_ms,
        books,
        values,
        answer_cdf: cdf(&timed.answers),
        arrival_cdf: cdf(&sink.latencies()),
        series,
        disturbed,
        failures,
    })
}

/// Idles; returns the wake-ups a second and the state at the end.
fn idle(length: Duration, id: u32, progress: &mut dyn FnMut(&str)) -> Result<(Option<f64>, Sample), Problem> {
    if length.is_zero() {
        return Ok((None, process::sample(id)?));
    }
    progress("idling");
    // What it does first of all is not idling.
    thread::sleep(Duration::from_millis(300));
    let before = process::sample(id)?;
    thread::sleep(length);
    let after = process::sample(id)?;
    let wakeups = after.wakeups.saturating_sub(before.wakeups) as f64;
    Ok((Some(wakeups / length.as_secs_f64()), after))
}

fn snapshot(id: u32, tally: &Tally, unseen: bool) -> Result<Snapshot, Problem> {
    Ok(Snapshot {
        at: Instant::now(),
        process: process::sample(id)?,
        sender: own_cpu("load-"),
        own: process::sample(std::process::id())?.cpu,
        machine: machine_time(),
        arrived: if unseen { &tally.accepted } else { &tally.arrived }.load(Ordering::Relaxed),
        bodies: tally.bodies.load(Ordering::Relaxed),
        bytes: tally.bytes.load(Ordering::Relaxed),
    })
}

/// Where the process is gone there is no point, and the run fails for that elsewhere.
fn point(id: u32, timed_from: Instant, tally: &Tally) -> Option<Point> {
    let (now, sample) = (Instant::now(), process::sample(id).ok()?);
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    Some(Point {
        at_s: now.saturating_duration_since(timed_from).as_secs_f64()
            - timed_from.saturating_duration_since(now).as_secs_f64(),
        resident_kib: sample.resident_kib,
        cpu_s: sample.cpu.user_s + sample.cpu.system_s,
        offered: load(&tally.offered),
        accepted: load(&tally.accepted),
        arrived: load(&tally.arrived),
    })
}

/// Connections that have had one answer and then say nothing more.
fn open_idle(count: usize, address: SocketAddr, timeout: Duration) -> Result<Vec<TcpStream>, Problem> {
    let open = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut answer = [0; 1024];
        if stream.read(&mut answer)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(stream)
    };
    (0..count).map(|_| open().map_err(doing("cannot open an idle connection"))).collect()
}

/// Waits until all that was accepted has arrived; calls `look` four times a second.
fn await_arrival(tally: &Tally, timeout: Duration, look: &mut dyn FnMut()) {
    let deadline = Instant::now() + timeout;
    let mut turn = 0u32;
    while tally.arrived.load(Ordering::Relaxed) < tally.accepted.load(Ordering::Relaxed) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
        turn += 1;
        if turn.is_multiple_of(25) {
            look();
        }
    }
}

/// The state of things, on one line.
pub fn line(what: &str, until: Instant, tally: &Tally) -> String {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{what}: {:.0} s left, {} items offered, {} accepted, {} arrived, {} requests not accepted",
        until.saturating_duration_since(Instant::now()).as_secs_f64(),
        load(&tally.offered),
        load(&tally.accepted),
        load(&tally.arrived),
        load(&tally.not_accepted),
    )
}

/// A port of the loopback that is free now; somebody else may take it before the program does.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
