//! What is written can be read back, and nothing but whole requests is ever in a file.

use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use otlp_core::codec::{self, Coding};
use otlp_core::component::{Exporter, HealthState};
use otlp_core::telemetry::registry::Registry;
use otlp_core::testing::{generate, verify};
use otlp_core::wire::validate::Limits;
use otlp_core::{Batch, ByteSize, Clock, Deadline, Group, ItemCount, Outcome, Reason, Signal, json};
use proptest::prelude::*;

use super::disk::{Disk, Records};
use super::record::{self, Framing};
use super::{Config, FileExporter, Format, Rotation};

/// A folder of its own, removed with what is in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("otlp-export-file-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(config: &Config) -> FileExporter {
    open_at(config, Clock::system())
}

fn open_at(config: &Config, clock: Clock) -> FileExporter {
    FileExporter::new("file", config, clock, &Registry::new()).unwrap()
}

fn refused(config: &Config) -> String {
    FileExporter::new("file", config, Clock::system(), &Registry::new()).unwrap_err().to_string()
}

fn export(exporter: &FileExporter, batch: Batch) -> Outcome {
    exporter.export(&Group::of(batch), Deadline::NEVER)
}

/// The kinds of files there are.
fn kinds(path: &Path) -> [Config; 4] {
    let plain = Config::new(path);
    let proto = Config { format: Format::Proto, ..plain.clone() };
    let zstd = |config: &Config| Config { compression: Coding::Zstd, ..config.clone() };
    [plain.clone(), proto.clone(), zstd(&plain), zstd(&proto)]
}

/// The requests in a file, in protobuf.
fn requests(config: &Config, signal: Signal, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let record;
        (record, rest) = match Framing::of(config) {
            Framing::Lines => {
                let end = rest.iter().position(|&byte| byte == b'\n').expect("every line ends");
                (&rest[..end], &rest[end + 1..])
            }
            Framing::Lengths => {
                let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
                rest[4..].split_at(length)
            }
        };
        let plain = codec::decode(config.compression, record, ByteSize::mib(64), &mut |_| Ok(())).unwrap();
        requests.push(match config.format {
            Format::Json => {
                let limits = json::Limits { any_id_length: true, ..json::Limits::default() };
                json::decode(signal, &plain, &limits).unwrap()
            }
            Format::Proto => plain,
        });
    }
    requests
}

fn items(config: &Config, signal: Signal, bytes: &[u8]) -> ItemCount {
    requests(config, signal, bytes)
        .into_iter()
        .map(|body| Batch::check(signal, body.into(), &Limits::default()).unwrap().0.items())
        .sum()
}

#[test]
fn it_keeps_the_contract_in_every_format() {
    let folder = Folder::new();
    for (signal, config) in
        Signal::ALL.into_iter().flat_map(|signal| kinds(&folder.file("file")).map(|kind| (signal, kind)))
    {
        let _ = fs::remove_file(&config.path);
        // Each exporter of the verification adds to the file.
        let config = Config { rotation: Some(Rotation { max_megabytes: 1 << 20, ..Rotation::default() }), ..config };
        let arrived = || Some(items(&config, signal, &fs::read(&config.path).unwrap_or_default()));
        verify::exporter(signal, || open(&config), arrived);
    }
}

#[test]
fn every_value_of_every_signal_can_be_read_back() {
    let folder = Folder::new();
    for (signal, config) in
        Signal::ALL.into_iter().flat_map(|signal| kinds(&folder.file("file")).map(|kind| (signal, kind)))
    {
        let exporter = open(&config);
        let mut expected = Vec::new();
        for seed in 0..20 {
            expected.push(generate::request(signal, seed, 1 + seed as usize));
            assert_eq!(export(&exporter, generate::batch(signal, seed, 1 + seed as usize)), Outcome::Delivered);
        }
        let mut group = Group::of(generate::batch(signal, 100, 3));
        group.push(generate::batch(signal, 101, 4));
        expected.push(group.joined());
        assert_eq!(exporter.export(&group, Deadline::NEVER), Outcome::Delivered, "a group is one request");
        exporter.shutdown(Deadline::NEVER);
        assert_eq!(requests(&config, signal, &fs::read(&config.path).unwrap()), expected);
    }
}

#[test]
fn a_recording_is_overwritten_by_the_first_request_and_not_before() {
    let folder = Folder::new();
    let config = Config::new(folder.file("a.json"));
    fs::write(&config.path, "{\"old\":1}\n{\"torn").unwrap();
    let exporter = open(&config);
    assert_eq!(fs::read(&config.path).unwrap(), b"{\"old\":1}\n{\"torn");
    export(&exporter, generate::batch(Signal::Logs, 1, 2));
    export(&exporter, generate::batch(Signal::Logs, 2, 3));
    assert_eq!(items(&config, Signal::Logs, &fs::read(&config.path).unwrap()), ItemCount(5));
}

#[test]
fn append_goes_on_where_whole_requests_end() {
    let folder = Folder::new();
    for config in &kinds(&folder.file("file"))[..2] {
        let config = Config { append: true, ..config.clone() };
        let _ = fs::remove_file(&config.path);
        export(&open(&config), generate::batch(Signal::Traces, 1, 2));
        export(&open(&config), generate::batch(Signal::Traces, 2, 3));
        let whole = fs::read(&config.path).unwrap();
        fs::write(&config.path, &whole[..whole.len() - 7]).unwrap();
        export(&open(&config), generate::batch(Signal::Traces, 3, 4));
        let expected = [(1, 2), (3, 4)].map(|(seed, items)| generate::request(Signal::Traces, seed, items));
        assert_eq!(requests(&config, Signal::Traces, &fs::read(&config.path).unwrap()), expected);
    }
}

#[test]
fn a_whole_last_line_without_its_end_is_completed_and_not_cut_off() {
    let folder = Folder::new();
    for signal in Signal::ALL {
        let config = Config { append: true, ..Config::new(folder.file("a.json")) };
        let _ = fs::remove_file(&config.path);
        export(&open(&config), generate::batch(signal, 1, 2));
        export(&open(&config), generate::batch(signal, 2, 3));
        let whole = fs::read(&config.path).unwrap();
        fs::write(&config.path, &whole[..whole.len() - 1]).unwrap();
        drop(open(&config));
        assert_eq!(fs::read(&config.path).unwrap(), whole);
        // Ends as an object does, and is a part of one.
        let torn = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'}').unwrap();
        fs::write(&config.path, &whole[..torn]).unwrap();
        export(&open(&config), generate::batch(signal, 3, 4));
        let expected = [(1, 2), (3, 4)].map(|(seed, items)| generate::request(signal, seed, items));
        assert_eq!(requests(&config, signal, &fs::read(&config.path).unwrap()), expected);
        // The only line.
        fs::write(&config.path, "{}").unwrap();
        drop(open(&config));
        assert_eq!(fs::read(&config.path).unwrap(), b"{}\n");
    }
}

#[test]
fn a_file_of_another_kind_is_left_alone() {
    let folder = Folder::new();
    let [json, proto, ..] = kinds(&folder.file("file")).map(|config| Config { append: true, ..config });
    for (config, content) in [(&json, &b"\0\0\0\x02ab\0"[..]), (&proto, b"{}\n{"), (&json, b"an essay")] {
        fs::write(&config.path, content).unwrap();
        let message = refused(config);
        assert!(message.starts_with("path: cannot open ") && message.contains("holds"), "{message}");
        assert_eq!(fs::read(&config.path).unwrap(), content);
    }
}

#[test]
fn a_missing_folder_is_made_only_where_that_is_asked_for() {
    let folder = Folder::new();
    let config = Config::new(folder.file("new/deep/a.json"));
    assert!(refused(&config).contains("create_directory"));
    let config = Config { create_directory: true, directory_permissions: 0o700, ..config };
    export(&open(&config), generate::batch(Signal::Logs, 1, 1));
    #[cfg(unix)]
    {
        let metadata = fs::metadata(folder.file("new/deep")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o700);
    }
}

#[test]
fn settings_that_exclude_each_other_are_refused_by_name() {
    let config = Config::new("a.json");
    let rotation = Some(Rotation::default());
    for (config, key) in [
        (Config::new(""), "path"),
        (Config { append: true, rotation, ..config.clone() }, "append"),
        (Config { append: true, compression: Coding::Zstd, ..config.clone() }, "append"),
        (Config { compression: Coding::Gzip, ..config.clone() }, "compression"),
        (Config { directory_permissions: 0o10000, ..config.clone() }, "directory_permissions"),
    ] {
        assert_eq!(config.check().unwrap_err().key, key);
    }
}

#[test]
fn files_rotate_by_size_and_old_ones_go() {
    let folder = Folder::new();
    let rotation = Rotation { max_megabytes: 1, max_days: 0, max_backups: 2 };
    let config = Config { rotation: Some(rotation), ..Config::new(folder.file("a.json")) };
    fs::write(folder.file("a-notes.json"), "not one of ours").unwrap();
    let clock = Clock::simulated();
    let exporter = open_at(&config, clock.clone());
    // About 600 kB each: one a file.
    for seed in 0..5 {
        assert_eq!(export(&exporter, generate::batch(Signal::Traces, seed, 600)), Outcome::Delivered);
        if seed == 3 {
            clock.advance(Duration::from_secs(1));
        }
    }
    let names = folder.names();
    // The clock stood still: several files that end at once get names of their own.
    let backups = ["a-2026-01-01T00-00-00.002.json", "a-2026-01-01T00-00-01.000.json"];
    assert_eq!(names, [backups[0], backups[1], "a-notes.json", "a.json"]);
    for (name, seed) in [(backups[0], 2), (backups[1], 3), ("a.json", 4)] {
        let bytes = fs::read(folder.file(name)).unwrap();
        assert!(bytes.len() < 1 << 20);
        assert_eq!(requests(&config, Signal::Traces, &bytes), [generate::request(Signal::Traces, seed, 600)]);
    }
    drop(exporter);
    // What is there at the start is kept, and counts.
    let exporter = open_at(&config, clock);
    export(&exporter, generate::batch(Signal::Traces, 5, 600));
    assert_eq!(folder.names()[..2], [backups[1], "a-2026-01-01T00-00-01.001.json"]);
}

#[test]
fn a_request_larger_than_a_file_may_be_has_one_to_itself() {
    let folder = Folder::new();
    let rotation = Rotation { max_megabytes: 1, ..Rotation::default() };
    let config = Config { rotation: Some(rotation), ..Config::new(folder.file("a.json")) };
    let exporter = open(&config);
    for items in [1, 2500, 1] {
        assert_eq!(export(&exporter, generate::batch(Signal::Traces, 1, items)), Outcome::Delivered);
    }
    assert_eq!(folder.names().len(), 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_with_retry_and_is_unhealthy_until_there_is_room() {
    let exporter = open(&Config::new("/dev/full"));
    for _ in 0..2 {
        let Outcome::Failed(failure) = export(&exporter, generate::batch(Signal::Logs, 1, 1)) else { panic!("taken") };
        assert_eq!((failure.reason, failure.is_retryable()), (Reason::IO, true));
        assert!(failure.message.contains("/dev/full: No space left"), "{failure}");
        assert_eq!(exporter.health().state, HealthState::Unhealthy);
    }
    let null = open(&Config { flush_interval: Duration::ZERO, ..Config::new("/dev/null") });
    assert_eq!(export(&null, generate::batch(Signal::Logs, 1, 1)), Outcome::Delivered, "devices are not synced");
}

#[test]
fn the_signals_of_an_exporter_share_a_file_until_the_last_is_shut_down() {
    let folder = Folder::new();
    let config = Config::new(folder.file("a.json"));
    let traces = open(&config);
    let logs = traces.share();
    export(&traces, generate::batch(Signal::Traces, 1, 2));
    traces.shutdown(Deadline::NEVER);
    traces.shutdown(Deadline::NEVER);
    assert_eq!((traces.health().state, logs.health().state), (HealthState::Stopped, HealthState::Ok));
    assert!(!export(&traces, generate::batch(Signal::Traces, 1, 2)).is_delivered());
    assert!(export(&logs, generate::batch(Signal::Logs, 1, 2)).is_delivered());
    assert!(!traces.share().share().health().state.eq(&HealthState::Ok), "a share of what is stopped is stopped");
    drop(logs);
    assert!(traces.shared.state.lock().writer.is_none());
    let text = fs::read_to_string(&config.path).unwrap();
    let starts: Vec<_> = text.lines().map(|line| &line[..12]).collect();
    assert_eq!(starts, ["{\"resourceSp", "{\"resourceLo"]);
}

#[test]
fn a_thread_syncs_while_there_is_something_to_sync() {
    let folder = Folder::new();
    let config = Config { flush_interval: Duration::from_millis(1), ..Config::new(folder.file("a.json")) };
    let exporter = open(&config);
    for round in 0..3 {
        export(&exporter, generate::batch(Signal::Logs, round, 1));
        let end = Instant::now() + Duration::from_secs(60);
        while exporter.shared.state.lock().syncing {
            assert!(Instant::now() < end, "the thread goes on without anything to sync");
            std::thread::yield_now();
        }
        assert!(!exporter.shared.state.lock().unsynced);
    }
    let long = Config { flush_interval: Duration::from_secs(3600), ..config };
    let exporter = open(&long);
    export(&exporter, generate::batch(Signal::Logs, 1, 1));
    assert!(exporter.shared.state.lock().syncing);
    // Does not wait for the hour to pass.
    drop(exporter);
}

/// Fails where it is told: a write after so many bytes, and cutting.
#[derive(Default)]
struct Faulty {
    bytes: Vec<u8>,
    room: usize,
    cannot_cut: bool,
    cannot_sync: bool,
}

impl Disk for Faulty {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = bytes.len().min(self.room - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if self.cannot_cut {
            return Err(io::ErrorKind::Other.into());
        }
        self.bytes.truncate(len as usize);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.cannot_sync { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }
}

#[test]
fn what_was_half_written_is_taken_back_at_once_or_before_the_next() {
    let mut records = Records::new(Faulty { room: 10, ..Faulty::default() }, 0);
    records.append(b"12345\n", true).unwrap();
    assert!(records.append(b"67890\n", true).is_err());
    assert_eq!(records.disk.bytes, b"12345\n");
    records.disk.cannot_sync = true;
    assert!(records.append(b"6\n", true).is_err());
    assert_eq!(records.disk.bytes, b"12345\n", "what will be sent again is not kept");
    records.append(b"7\n", false).unwrap();
    records.disk.cannot_cut = true;
    assert!(records.append(b"67890\n", false).is_err());
    assert_eq!(records.disk.bytes, b"12345\n7\n67");
    assert!(records.append(b"8\n", false).is_err(), "nothing is written behind half a record");
    records.disk.cannot_cut = false;
    records.append(b"8\n", false).unwrap();
    assert_eq!((&records.disk.bytes[..], records.len), (&b"12345\n7\n8\n"[..], 10));
}

proptest! {
    #[test]
    fn whatever_is_cut_off_the_end_the_whole_requests_before_it_are_found(
        sizes in prop::collection::vec(1usize..200_000, 1..5),
        cut in any::<prop::sample::Index>(),
        near in any::<bool>(),
    ) {
        for framing in [Framing::Lines, Framing::Lengths] {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for &size in &sizes {
                match framing {
                    Framing::Lines => {
                        bytes.push(b'{');
                        bytes.resize(bytes.len() + size, b'x');
                        bytes.push(b'\n');
                    }
                    Framing::Lengths => {
                        bytes.extend_from_slice(&(size as u32).to_be_bytes());
                        // Line breaks, which mean nothing here.
                        bytes.resize(bytes.len() + size, b'\n');
                    }
                }
                ends.push(bytes.len());
            }
            // Anywhere, or around an end.
            let len = match near {
                true => ends[cut.index(ends.len())].saturating_add_signed(cut.index(11) as isize - 5).min(bytes.len()),
                false => cut.index(bytes.len() + 1),
            };
            let whole = record::whole(framing, &mut Cursor::new(&bytes[..len]), len as u64).unwrap();
            let expected = ends.iter().copied().filter(|&end| end <= len).max().unwrap();
            prop_assert_eq!((whole.len, whole.unended), (expected as u64, false));
        }
    }
}
