//! otlp-load: sends OTLP, takes OTLP in, and measures what stands between.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use otlp_benches::load::corpus::{Corpus, FieldOrder, Plan};
use otlp_benches::load::report::{self, Quantiles};
use otlp_benches::load::run::{self, Settings, line};
use otlp_benches::load::sender::{Options, Schedule, Sender};
use otlp_benches::load::sink::{Limits, Sink};
use otlp_benches::load::tally::Tally;
use otlp_benches::load::values::Expected;
use otlp_benches::load::{Anchor, Problem, Protocol, doing};
use otlp_core::Signal;
use otlp_core::codec::Coding;

/// Sends OTLP, takes OTLP in, and measures what stands between.
///
/// The sender keeps to a schedule whatever the answers do (open loop) and times each request from the instant at which it was
/// due. Every request carries a number and every item of it an index, so the sink knows of each single item whether it was
/// lost or doubled; and it compares decoded values, outside of the timed window.
///
/// Speaks OTLP/HTTP with protobuf, or OTLP/gRPC (--protocol grpc); the sink takes both on one port.
///
/// Measure a program, pinned to a core of its own, with what it costs per million items:
///
///     otlp-load run --program otlpd --config pass.yaml --rate 200000
///
/// Its configuration listens on ${env:OTLP_LOAD_LISTEN} and exports to ${env:OTLP_LOAD_SINK}. Or run the two ends by hand,
/// for a program that runs elsewhere:
///
///     otlp-load sink --listen 0.0.0.0:4320
///     otlp-load send --endpoint gateway:4318 --rate 200000 --duration 60
///
/// How to read the figures: CPU seconds per million items is the headline, at a rate that leaves all cores some room. A
/// saturated run (--rate max) says how much goes through and nothing about latency. Sender and sink need cores of their own;
/// their CPU is reported, and where it nears a core, or requests are held up or not sent, it was they that were measured.
/// A run in which they were at their limit, or others used the machine, is marked as disturbed.
#[derive(Parser)]
#[command(name = "otlp-load", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a program between a sender and a sink, measure it and stop it
    #[command(verbatim_doc_comment)]
    Run(Box<RunArgs>),
    /// Send to a receiver that is already there
    Send(SendArgs),
    /// Take whatever is sent and count it, until SIGINT or SIGTERM
    Sink(SinkArgs),
    /// Make a table of runs that were written with --json: medians, and smallest to largest
    Table {
        /// Files of one report a line.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum SignalName {
    Traces,
    Metrics,
    Logs,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProtocolName {
    Http,
    Grpc,
}

#[derive(Clone, Copy, ValueEnum)]
enum CodingName {
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, ValueEnum)]
enum FieldOrderName {
    Ascending,
    Collector,
}

/// What the bodies are. The same arguments give the same bodies, on every machine.
#[derive(Args)]
struct CorpusArgs {
    #[arg(long, value_enum, default_value = "traces")]
    signal: SignalName,

    /// Spans, data points or log records in a request.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    items_per_request: u32,

    /// What requests are compressed with; compressed before the clock starts.
    #[arg(long, value_enum, default_value = "none")]
    compression: CodingName,

    /// 1 to 9 for gzip (default 6), 1 to 22 for zstd (default 3).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=22))]
    level: Option<i32>,

    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Fields by number, or from the last to the first as the Collector writes them (not with zstd).
    #[arg(long, value_enum, default_value = "ascending")]
    field_order: FieldOrderName,

    /// Different bodies, sent in turn [default: as many as hold 8192 items, from 8 to 256].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    bodies: Option<u32>,
}

/// How they are sent.
#[derive(Args)]
struct LoadArgs {
    /// Items a second, or `max`: every connection sends its next request when it has its answer.
    #[arg(long, value_name = "RATE", default_value = "100000", value_parser = rate)]
    rate: Rate,

    #[arg(long, value_enum, default_value = "http")]
    protocol: ProtocolName,

    /// Connections.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,

    /// Requests that a connection has open at once; OTLP/HTTP always has one.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    streams: u16,

    /// Seconds of sending before the timed window.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    warm_up: Duration,

    /// Seconds of the timed window.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    duration: Duration,

    /// Seconds an answer, and then the arrival of what was accepted, may take.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

/// How the sink behaves.
#[derive(Args)]
struct LimitArgs {
    /// Milliseconds by which every answer of the sink is late.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_ms: u64,

    /// Items a second that the sink takes; beyond it answers late.
    #[arg(long, value_name = "RATE", value_parser = positive)]
    take_rate: Option<f64>,

    /// Beyond --take-rate answer 503 with Retry-After in place of answering late.
    #[arg(long, requires = "take_rate")]
    refuse: bool,
}

#[derive(Args)]
struct RunArgs {
    /// The program under test.
    #[arg(long, value_name = "PATH")]
    program: PathBuf,

    /// Passed to it as --config; see the variables above.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The core it runs on, or `any`; the sender and the sink run on the others.
    #[arg(long, value_name = "CPU", default_value = "1")]
    cpu: String,

    /// Where it listens [default: a free port of 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// Where the sink listens.
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    sink: SocketAddr,

    /// Seconds that it idles before anything is sent.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    idle: Duration,

    /// The program is a launcher of benches/systems: it takes the configuration as its only argument.
    #[arg(long)]
    launcher: bool,

    /// Idle connections that are open all the time.
    #[arg(long, value_name = "N", default_value_t = 0)]
    idle_connections: u16,

    /// Seconds of the window in which the sink is down.
    #[arg(long, value_name = "FROM-TO", value_parser = outage)]
    outage: Option<(Duration, Duration)>,

    /// The program hands nothing on to the sink: figures are of what it accepted.
    #[arg(long)]
    unseen: bool,

    /// Do not compare decoded values: for a program that is configured to change them.
    #[arg(long)]
    changed: bool,

    /// The row's name in a table.
    #[arg(long, default_value = "run")]
    name: String,

    /// What is to be reached, in CPU seconds per million items; for the table.
    #[arg(long, value_name = "SECONDS")]
    target: Option<f64>,

    /// Print one line of JSON in place of text.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    corpus: CorpusArgs,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    limits: LimitArgs,

    /// Further arguments of the program.
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Args)]
struct SendArgs {
    /// Host and port of a receiver.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4318")]
    endpoint: String,

    #[command(flatten)]
    corpus: CorpusArgs,

    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Args)]
struct SinkArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4320")]
    listen: SocketAddr,

    /// Compare decoded values of one body in 64 with those of the same --signal, --items-per-request, --seed and --bodies.
    #[arg(long)]
    compare: bool,

    #[command(flatten)]
    corpus: CorpusArgs,

    #[command(flatten)]
    limits: LimitArgs,
}

/// Something was lost, doubled or altered, or the program did not run.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(*args),
        Command::Send(args) => send(&args),
        Command::Sink(args) => sink(&args),
        Command::Table { files } => table(&files),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(problem) => {
            eprintln!("otlp-load: {problem}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(args: RunArgs) -> Result<bool, Problem> {
    let cpu = match args.cpu.as_str() {
        "any" => None,
        cpu => Some(cpu.parse().map_err(doing(format_args!("--cpu {cpu}")))?),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let own_cpus = match cpu {
        Some(cpu) => (0..cores).filter(|&other| other != cpu).collect(),
        None => Vec::new(),
    };
    let mut arguments: Vec<String> =
        args.config.iter().flat_map(|path| ["--config".into(), path.display().to_string()]).collect();
    if args.launcher && !arguments.is_empty() {
        arguments.remove(0);
    }
    if args.idle_connections > 0 {
        allow_descriptors();
    }
    arguments.extend(args.arguments);
    let settings = Settings {
        name: args.name,
        target: args.target,
        program: args.program,
        arguments,
        listen: args.listen,
        sink: args.sink,
        cpu,
        own_cpus,
        plan: args.corpus.plan(),
        protocol: args.load.protocol(),
        connections: args.load.connections.into(),
        streams: args.load.streams(),
        idle_connections: args.idle_connections.into(),
        outage: args.outage,
        rate: args.load.rate.0,
        idle: args.idle,
        warm_up: args.load.warm_up,
        duration: args.load.duration,
        timeout: args.load.timeout,
        limits: args.limits.limits(),
        unseen: args.unseen,
        compare: !args.changed && !args.unseen,
    };
    let mut progress = Progress::new();
    let report = run::run(&settings, &mut |text| progress.show(text));
    progress.clear();
    let report = report?;
    if args.json {
        print(&(serde_json::to_string(&report).map_err(doing("cannot write JSON"))? + "\n"));
    } else {
        print(&report.to_string());
    }
    Ok(report.failures.is_empty())
}

fn send(args: &SendArgs) -> Result<bool, Problem> {
    let resolved = args.endpoint.to_socket_addrs();
    let address = resolved.map_err(doing(format_args!("cannot resolve {}", args.endpoint)))?.next();
    let address = address.ok_or_else(|| Problem(format!("{} has no address", args.endpoint)))?;
    let corpus = Arc::new(Corpus::new(args.corpus.plan())?);
    let tally = Arc::new(Tally::new(corpus.plan.items));
    let begin = Instant::now();
    let timed_from = begin + args.load.warm_up;
    let schedule = Schedule { begin, timed_from, end: timed_from + args.load.duration };
    let options = Options {
        address,
        protocol: args.load.protocol(),
        connections: args.load.connections.into(),
        streams: args.load.streams(),
        rate: args.load.rate.0,
        schedule,
        timeout: args.load.timeout,
    };
    let stop = stop_flag()?;
    let sender = Sender::start(options, corpus, Arc::clone(&tally), Anchor::now(), 0)?;
    let mut progress = Progress::new();
    while Instant::now() < schedule.end && !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
        progress.show(&line("sending", schedule.end, &tally));
    }
    sender.stop();
    let (timed, _) = sender.join();
    progress.clear();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    print(&format!(
        "items      {} offered, {} accepted\nanswer     {}\nheld up    {}, {} not sent\n",
        load(&tally.offered),
        load(&tally.accepted),
        Quantiles::of(&timed.answers),
        Quantiles::of(&timed.held_up),
        timed.unsent
    ));
    if let Some(failure) = &timed.first_failure {
        eprintln!("otlp-load: {failure}");
    }
    Ok(timed.first_failure.is_none() && load(&tally.not_accepted) == 0)
}

fn sink(args: &SinkArgs) -> Result<bool, Problem> {
    let expected = if args.compare { Some(Expected::of(&Corpus::new(args.corpus.plan())?)) } else { None };
    let tally = Arc::new(Tally::new(args.corpus.items_per_request as usize));
    let stop = stop_flag()?;
    let sink = Sink::start(args.listen, Arc::clone(&tally), Anchor::now(), args.limits.limits())
        .map_err(doing(format_args!("cannot listen on {}", args.listen)))?;
    sink.time_between(0, u64::MAX);
    eprintln!("listening on {}", sink.address());
    let mut progress = Progress::new();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
        let text = format!("{} items in {} bodies", load(&tally.arrived), load(&tally.bodies));
        progress.show(&text);
    }
    progress.clear();
    let books = tally.books();
    let gaps = tally.gaps();
    print(&format!(
        "items      {} arrived, {} distinct, {} doubled, {gaps} missing below the last request, {} unrecognised\n\
         arrival    {}\n",
        load(&tally.arrived),
        books.distinct,
        books.doubled,
        books.strangers,
        Quantiles::of(&sink.latencies())
    ));
    let mut altered = 0;
    if let Some(expected) = expected {
        let mut compared = 0;
        for body in sink.take_kept() {
            let of_body = expected.compare(&body);
            compared += of_body.0;
            altered += of_body.1;
        }
        print(&format!("values     {compared} items compared, {altered} altered\n"));
    }
    Ok(books.doubled == 0 && gaps == 0 && books.strangers == 0 && altered == 0)
}

fn table(files: &[PathBuf]) -> Result<bool, Problem> {
    let mut lines = String::new();
    for file in files {
        lines += &fs::read_to_string(file).map_err(doing(format_args!("cannot read {}", file.display())))?;
        lines.push('\n');
    }
    print(&report::table(&lines)?);
    Ok(true)
}

impl CorpusArgs {
    fn plan(&self) -> Plan {
        Plan {
            signal: match self.signal {
                SignalName::Traces => Signal::Traces,
                SignalName::Metrics => Signal::Metrics,
                SignalName::Logs => Signal::Logs,
            },
            items: self.items_per_request as usize,
            coding: match self.compression {
                CodingName::None => Coding::Identity,
                CodingName::Gzip => Coding::Gzip,
                CodingName::Zstd => Coding::Zstd,
            },
            level: self.level,
            seed: self.seed,
            field_order: match self.field_order {
                FieldOrderName::Ascending => FieldOrder::Ascending,
                FieldOrderName::Collector => FieldOrder::Collector,
            },
            bodies: self.bodies.map(|bodies| bodies as usize),
        }
    }
}

impl LoadArgs {
    fn protocol(&self) -> Protocol {
        match self.protocol {
            ProtocolName::Http => Protocol::Http,
            ProtocolName::Grpc => Protocol::Grpc,
        }
    }

    fn streams(&self) -> usize {
        match self.protocol {
            ProtocolName::Http => 1,
            ProtocolName::Grpc => self.streams.into(),
        }
    }
}

/// Lets this process, and what it starts, have as many descriptors as the system grants.
fn allow_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it, opening the connections fails and says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn outage(text: &str) -> Result<(Duration, Duration), String> {
    let (from, to) = text.split_once('-').ok_or("not FROM-TO")?;
    let (from, to) = (seconds(from)?, seconds(to)?);
    if from < to { Ok((from, to)) } else { Err("it ends before it begins".into()) }
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits { delay: Duration::from_millis(self.delay_ms), take_rate: self.take_rate, refuse: self.refuse }
    }
}

/// Items a second; `None` saturates.
#[derive(Clone, Copy)]
struct Rate(Option<f64>);

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" { Ok(Rate(None)) } else { positive(text).map(|rate| Rate(Some(rate))) }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("not a number above 0".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if number > 86_400.0 {
        return Err("more than a day".into());
    }
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// Set by SIGINT and SIGTERM.
fn stop_flag() -> Result<Arc<AtomicBool>, Problem> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(doing("cannot watch for signals"))?;
    }
    Ok(stop)
}

/// Writes to standard output; a reader that went away is no reason to panic.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// One line on standard error, written over, where somebody looks at it.
struct Progress {
    shown: bool,
    is_seen: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { shown: false, is_seen: io::stderr().is_terminal() }
    }

    fn show(&mut self, text: &str) {
        if self.is_seen {
            eprint!("\r\x1b[K{text}");
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}
