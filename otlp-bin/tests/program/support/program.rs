//! The program as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::{Books, PATIENCE};

/// A running otlpd. Killed when dropped without [`Program::stop`].
pub(crate) struct Program {
    child: Child,
    log: Arc<Log>,
    folder: PathBuf,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// Its exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// All that it wrote to standard error.
    pub(crate) log: String,
    /// All that it wrote to standard output.
    pub(crate) out: String,
    /// Its closing report.
    pub(crate) books: Books,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Log {
    fn push(&self, line: Option<String>) {
        let mut lines = self.lines.lock().unwrap();
        match line {
            Some(line) => lines.0.push(line),
            None => lines.1 = true,
        }
        self.changed.notify_all();
    }
}

impl Program {
    /// Starts it on a configuration and waits until it is ready.
    pub(crate) fn start(config: &str) -> Program {
        Program::start_with(config, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(config: &str, arguments: &[&str]) -> Program {
        let mut program = Program::spawn(config, arguments);
        program.wait_for("Everything is ready");
        program
    }

    /// Starts it without waiting for anything.
    pub(crate) fn spawn(config: &str, arguments: &[&str]) -> Program {
        Program::spawn_in(config, arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn spawn_in(config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Program {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("otlpd-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("otlpd.yaml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_otlpd"))
            .arg("--config")
            .arg(&file)
            .args(arguments)
            .env_remove("RUST_LOG")
            .envs(["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "grpc_proxy"].map(|name| (name, "")))
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let errors = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in errors.lines().map_while(Result::ok) {
                    log.push(Some(line));
                }
                log.push(None);
            }
        });
        Program { child, log, folder }
    }

    /// Waits for a log line that holds `text`, and gives it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        loop {
            if let Some(line) = lines.0.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!lines.1 && !left.is_zero(), "no line with {text:?} in:\n{}", lines.0.join("\n"));
            lines = self.log.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Where its OTLP/HTTP receiver listens.
    pub(crate) fn address(&mut self) -> SocketAddr {
        address_in(&self.wait_for("Starting HTTP server"))
    }

    /// Where its OTLP/gRPC receiver listens.
    pub(crate) fn grpc_address(&mut self) -> SocketAddr {
        address_in(&self.wait_for("Starting GRPC server"))
    }

    /// Where it serves the metrics.
    pub(crate) fn metrics_address(&mut self) -> SocketAddr {
        address_in(&self.wait_for("Serving metrics"))
    }

    /// Where its health check listens.
    pub(crate) fn health_address(&mut self) -> SocketAddr {
        address_in(&self.wait_for("Starting health_check extension"))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.id())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop, waits for its end, and checks that its books balance.
    pub(crate) fn stop(self) -> Stopped {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits for its end, and checks that its books balance.
    pub(crate) fn wait(mut self) -> Stopped {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let mut lines = self.log.lines.lock().unwrap();
        while !lines.1 {
            lines = self.log.changed.wait(lines).unwrap();
        }
        let log = lines.0.join("\n");
        drop(lines);
        let books = Books::read(&log);
        books.assert_balanced();
        Stopped { code: status.code(), log, out, books }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The last `address:port` of a line.
fn address_in(line: &str) -> SocketAddr {
    line.split(|ch: char| ch.is_whitespace() || ch == '"' || ch == '/')
        .rev()
        .find_map(|word| word.trim_matches(|ch: char| ch == ',' || ch == '.').parse().ok())
        .unwrap_or_else(|| panic!("no address in {line:?}"))
}
