//! The receiver on real files, against an outlet that answers as told.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use otlp_core::codec::{self, Coding};
use otlp_core::component::{HealthState, Receiver};
use otlp_core::flow::MemoryBudget;
use otlp_core::telemetry::Registry;
use otlp_core::testing::sinks::{Answer, CollectingOutlet};
use otlp_core::testing::{generate, verify};
use otlp_core::thread::ThreadOptions;
use otlp_core::{AckMode, ByteSize, Deadline, Failure, ItemCount, Outcome, Reason, Signal, json};

use super::{Config, Env, OtlpJsonFile, StartAt};

const PATIENCE: Duration = Duration::from_secs(60);

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("otlp-json-file-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        OpenOptions::new().create(true).append(true).open(self.0.join(name)).unwrap().write_all(bytes).unwrap();
    }

    fn config(&self) -> Config {
        Config {
            include: vec![format!("{}/*.json*", self.0.display())],
            start_at: StartAt::Beginning,
            poll_interval: Duration::from_millis(1),
            ..Config::default()
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn make(config: Config) -> OtlpJsonFile {
    make_within(config, MemoryBudget::new(ByteSize::mib(16)))
}

fn make_within(config: Config, budget: MemoryBudget) -> OtlpJsonFile {
    let env = Env {
        budget,
        registry: Registry::new(),
        number: 0,
        thread_options: ThreadOptions::default(),
        ack_mode: [AckMode::Exported; 3],
    };
    OtlpJsonFile::new("otlp_json_file", config, env)
}

fn start(config: Config, outlet: &CollectingOutlet) -> OtlpJsonFile {
    let mut receiver = make(config);
    receiver.start(outlet.outlets()).unwrap();
    receiver
}

fn line(signal: Signal, items: u64, mark: u64) -> Vec<u8> {
    let mut line = Vec::new();
    json::encode(signal, &verify::request(signal, items, mark), &mut line);
    line.push(b'\n');
    line
}

/// The items of each request that was taken, in order, once there are so many items.
fn taken(outlet: &CollectingOutlet, items: u64) -> Vec<u64> {
    assert!(outlet.wait_for_items(ItemCount(items), PATIENCE), "{items} items, of which {} came", outlet.items());
    outlet.taken().iter().map(|seen| seen.items.get()).collect()
}

#[test]
fn it_starts_and_stops_as_the_contract_says() {
    let folder = Folder::new();
    let outlet = CollectingOutlet::new();
    let mut receiver = make(folder.config());
    assert_eq!(receiver.health().state, HealthState::Starting);
    receiver.shutdown(Deadline::NEVER);
    assert!(receiver.start(outlet.outlets()).is_err());
    let mut receiver = start(folder.config(), &outlet);
    assert_eq!(receiver.health().state, HealthState::Ok);
    outlet.answer_from_now(Answer::Hold);
    folder.append("a.json", &line(Signal::Logs, 1, 1));
    assert!(outlet.wait_for_held(1, PATIENCE));
    receiver.shutdown(Deadline::NEVER);
    receiver.shutdown(Deadline::NEVER);
    assert_eq!(receiver.health().state, HealthState::Stopped);
    let calls = outlet.calls();
    folder.append("a.json", &line(Signal::Logs, 1, 1));
    outlet.settle_held(&Outcome::Failed(Failure::refused(Reason::UNAVAILABLE, "down")));
    drop(receiver);
    assert_eq!(outlet.calls(), calls);
    let error = make(Config { include: vec![], ..folder.config() }).start(outlet.outlets()).unwrap_err();
    assert!(error.message.contains("otlp_json_file.include"), "{error}");
}

#[test]
fn every_signal_is_read_back_value_by_value() {
    let folder = Folder::new();
    let mut expected = Vec::new();
    for (seed, signal) in (0..30).zip(Signal::ALL.into_iter().cycle()) {
        let body = generate::request(signal, seed, 20);
        let mut line = Vec::new();
        json::encode(signal, &body, &mut line);
        line.push(b'\n');
        folder.append("a.json", &line);
        expected.push((signal, body));
    }
    let outlet = CollectingOutlet::new();
    let _receiver = start(folder.config(), &outlet);
    taken(&outlet, 600);
    let found: Vec<_> = outlet.taken().into_iter().map(|seen| (seen.signal, seen.body)).collect();
    assert_eq!(found, expected);
}

#[test]
fn bad_lines_are_passed_over_and_a_torn_one_waits_for_its_rest() {
    let folder = Folder::new();
    let outlet = CollectingOutlet::new();
    folder.append("a.json", b"\nnonsense\n{}\n{\"resourceLogs\":7}\n");
    folder.append("a.json", &line(Signal::Logs, 1, 1));
    folder.append("a.json", &[b"{\"long\":\"", &[b'x'; 300_000][..], b"\"}\n"].concat());
    let two = line(Signal::Logs, 2, 2);
    folder.append("a.json", &two[..20]);
    let _receiver = start(Config { line_bytes_max: ByteSize(200_000), ..folder.config() }, &outlet);
    assert_eq!(taken(&outlet, 1), [1]);
    folder.append("a.json", &two[20..two.len() - 1]);
    assert_eq!(taken(&outlet, 3), [1, 2], "whole, if without a line end");
    folder.append("a.json", b"\n");
    folder.append("a.json", &line(Signal::Logs, 3, 3));
    assert_eq!(taken(&outlet, 6), [1, 2, 3]);
}

#[test]
fn a_line_larger_than_all_memory_holds_up_nothing_and_one_that_finds_none_now_waits() {
    let folder = Folder::new();
    let outlet = CollectingOutlet::new();
    folder.append("a.json", &line(Signal::Logs, 1000, 1));
    folder.append("a.json", &line(Signal::Logs, 2, 2));
    let budget = MemoryBudget::new(ByteSize::kib(8));
    let all = budget.reserve(ByteSize::kib(8)).unwrap();
    let refusals = budget.refusals();
    let mut receiver = make_within(folder.config(), budget.clone());
    receiver.start(outlet.outlets()).unwrap();
    let end = Instant::now() + PATIENCE;
    // The first is refused once and never again, so a second refusal is that of the other.
    while budget.refusals() < refusals + 2 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!(outlet.items(), ItemCount::ZERO);
    drop(all);
    assert_eq!(taken(&outlet, 2), [2]);
}

#[test]
fn files_are_followed_when_they_grow_move_and_begin_anew() {
    let folder = Folder::new();
    folder.append("a.json", &line(Signal::Logs, 1, 1));
    let outlet = CollectingOutlet::new();
    let _receiver = start(folder.config(), &outlet);
    taken(&outlet, 1);
    fs::rename(folder.0.join("a.json"), folder.0.join("b.json")).unwrap();
    folder.append("b.json", &line(Signal::Logs, 2, 2));
    taken(&outlet, 3);
    folder.append("a.json", &line(Signal::Logs, 3, 3));
    taken(&outlet, 6);
    fs::write(folder.0.join("b.json"), line(Signal::Logs, 4, 4)).unwrap();
    assert_eq!(taken(&outlet, 10), [1, 2, 3, 4]);
}

#[test]
fn a_file_begun_anew_is_read_whole_though_it_is_longer_than_before() {
    let folder = Folder::new();
    folder.append("a.json", &line(Signal::Logs, 1, 1));
    let outlet = CollectingOutlet::new();
    // Not looked at between emptying it and writing: the receiver finds it longer than it left it.
    let _receiver = start(Config { poll_interval: Duration::from_millis(200), ..folder.config() }, &outlet);
    taken(&outlet, 1);
    fs::write(folder.0.join("a.json"), [line(Signal::Logs, 2, 2), line(Signal::Logs, 3, 3)].concat()).unwrap();
    folder.append("a.json", &line(Signal::Logs, 4, 4));
    assert_eq!(taken(&outlet, 10), [1, 2, 3, 4]);
}

#[test]
fn start_at_end_reads_only_what_comes_and_new_files_whole() {
    let folder = Folder::new();
    folder.append("a.json", &line(Signal::Logs, 1, 1));
    folder.append("a.json", b"{\"torn");
    let outlet = CollectingOutlet::new();
    let _receiver = start(Config { start_at: StartAt::End, ..folder.config() }, &outlet);
    // Only after the first look: a file that was there is begun at its end.
    let end = Instant::now() + PATIENCE;
    let mut marks = 0;
    while outlet.items() == ItemCount::ZERO {
        assert!(Instant::now() < end);
        folder.append(&format!("b{marks}.json"), &line(Signal::Logs, 2, 2));
        marks += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    folder.append("a.json", b" ends here\n");
    folder.append("a.json", &line(Signal::Logs, 7, 7));
    while !outlet.taken().iter().any(|seen| seen.items == ItemCount(7)) {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert!(outlet.taken().iter().all(|seen| seen.items != ItemCount(1)));
}

#[test]
fn what_is_refused_or_fails_for_now_is_offered_until_it_is_taken() {
    let folder = Folder::new();
    for items in 1..=5 {
        folder.append("a.json", &line(Signal::Traces, items, items));
    }
    let down = Failure::refused(Reason::UNAVAILABLE, "down");
    let script = [
        Answer::Refuse(Failure::refused(Reason::QUEUE_FULL, "full")),
        Answer::Full,
        Answer::Settle(Outcome::Delivered),
        Answer::Refuse(down),
    ];
    let outlet = CollectingOutlet::answering(script, Answer::Settle(Outcome::Delivered));
    let _receiver = start(folder.config(), &outlet);
    assert_eq!(taken(&outlet, 15), [1, 2, 3, 4, 5]);
    assert_eq!(outlet.calls(), 8);
}

#[test]
fn a_replay_begins_again_and_again() {
    let folder = Folder::new();
    folder.append("a.json", &line(Signal::Logs, 1, 1));
    folder.append("a.json", &line(Signal::Logs, 2, 2));
    let outlet = CollectingOutlet::new();
    let _receiver = start(Config { replay_file: true, ..folder.config() }, &outlet);
    assert_eq!(taken(&outlet, 9)[..6], [1, 2, 1, 2, 1, 2]);
}

/// A request as the exporter writes it as protobuf or compressed.
fn framed(record: &[u8], zstd: bool) -> Vec<u8> {
    let mut out = vec![0; 4];
    let coding = if zstd { Coding::Zstd } else { Coding::Identity };
    codec::encode(coding, None, &[record], &mut out).unwrap();
    let length = out.len() as u32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

#[test]
fn protobuf_and_compressed_files_are_read_back_value_by_value() {
    for (is_json, zstd) in [(true, true), (false, false), (false, true)] {
        let folder = Folder::new();
        let mut expected = Vec::new();
        for (seed, signal) in (0..30).zip(Signal::ALL.into_iter().cycle()) {
            let body = generate::request(signal, seed, 20);
            let mut json = Vec::new();
            json::encode(signal, &body, &mut json);
            folder.append("a.json", &framed(if is_json { &json } else { &body }, zstd));
            expected.push((signal, body));
        }
        let outlet = CollectingOutlet::new();
        let _receiver = start(folder.config(), &outlet);
        taken(&outlet, 600);
        let found: Vec<_> = outlet.taken().into_iter().map(|seen| (seen.signal, seen.body)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn bad_frames_are_passed_over_and_a_torn_one_waits_for_its_rest() {
    let folder = Folder::new();
    let outlet = CollectingOutlet::new();
    let frame = |items: u64| framed(&verify::request(Signal::Logs, items, items), items.is_multiple_of(2));
    folder.append("a.json", &framed(b"nonsense", false));
    folder.append("a.json", &framed(b"", false));
    folder.append("a.json", &framed(&[b'x'; 300_000], false));
    folder.append("a.json", &framed(&[b'x'; 300_000], true));
    folder.append("a.json", &frame(1));
    let two = frame(2);
    folder.append("a.json", &two[..2]);
    let _receiver = start(Config { line_bytes_max: ByteSize(200_000), ..folder.config() }, &outlet);
    assert_eq!(taken(&outlet, 1), [1]);
    folder.append("a.json", &two[2..two.len() - 1]);
    folder.append("b.json", &frame(5));
    assert_eq!(taken(&outlet, 6), [1, 5], "the torn one is left");
    folder.append("a.json", &two[two.len() - 1..]);
    folder.append("a.json", &frame(3));
    assert_eq!(taken(&outlet, 11), [1, 5, 2, 3]);
    // Begun anew as a file of the other kind, shorter and then longer than it was.
    fs::write(folder.0.join("a.json"), line(Signal::Logs, 4, 4)).unwrap();
    assert_eq!(taken(&outlet, 15), [1, 5, 2, 3, 4]);
}

#[test]
fn start_at_end_finds_the_end_of_the_last_whole_frame() {
    let folder = Folder::new();
    let frame = |items: u64| framed(&verify::request(Signal::Logs, items, items), false);
    folder.append("a.json", &frame(1));
    let torn = frame(7);
    folder.append("a.json", &torn[..9]);
    let outlet = CollectingOutlet::new();
    let _receiver = start(Config { start_at: StartAt::End, ..folder.config() }, &outlet);
    let end = Instant::now() + PATIENCE;
    let mut marks = 0;
    while outlet.items() == ItemCount::ZERO {
        assert!(Instant::now() < end);
        folder.append(&format!("b{marks}.json"), &frame(2));
        marks += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    folder.append("a.json", &torn[9..]);
    while !outlet.taken().iter().any(|seen| seen.items == ItemCount(7)) {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert!(outlet.taken().iter().all(|seen| seen.items != ItemCount(1)));
}
