//! What was recorded in a file comes back, once.

use crate::delivery::config;
use crate::support::{Backend, Program, Sender, traces, wait_until};

#[test]
fn what_one_program_recorded_another_replays_once() {
    for (kind, keys) in [
        ("json", ""),
        ("json-zstd", ", compression: zstd"),
        ("proto", ", format: proto"),
        ("proto-zstd", ", format: proto, compression: zstd"),
    ] {
        let file = std::env::temp_dir().join(format!("otlpd-replay-{}.{kind}", std::process::id()));
        let path = file.display();
        let mut recorder = Program::start(&config("", &format!("file: {{path: '{path}'{keys}}}"), "", "file"));
        let mut sender = Sender::connect(recorder.address());
        for request in 0..50 {
            assert_eq!(sender.traces(&traces(request * 10, 10)).unwrap().status, 200);
        }
        let stopped = recorder.stop();
        assert_eq!(stopped.books.get("traces -> file", "exported"), 500, "{kind}");
        // As a crash leaves it.
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.extend_from_within(..20);
        std::fs::write(&file, bytes).unwrap();
        let backend = Backend::healthy();
        let text = format!(
            "receivers: {{otlp_json_file: {{include: ['{path}'], start_at: beginning}}}}
exporters: {{otlp_http: {{endpoint: '{}'}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp_json_file], exporters: [otlp_http]}}
",
            backend.url()
        );
        let replayer = Program::start(&text);
        wait_until("everything that was recorded", || backend.spans() >= 500);
        let stopped = replayer.stop();
        assert_eq!(stopped.code, Some(0), "{kind}: {}", stopped.log);
        let times = backend.times();
        assert_eq!(times.len(), 500, "{kind}");
        assert!(times.values().all(|&times| times == 1), "each once: {kind}");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_full_disk_tells_the_sender_to_come_again_and_is_counted() {
    let mut program = Program::start(&config("", "file: {path: /dev/full}", "", "file"));
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 10)).unwrap().status, 503);
    let stopped = program.stop();
    assert_eq!(stopped.books.get("traces -> file", "exported"), 0);
    assert_eq!(stopped.books.get("traces -> file", "dropped"), 10);
}
