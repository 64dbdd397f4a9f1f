//! Health, metrics, command line, exit codes, and secrets that stay secret.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};

use crate::delivery::config;
use crate::support::{Backend, Program, Sender, traces, wait_until};

fn otlpd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_otlpd")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Series by name with labels, as Prometheus writes them.
fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let reply = Sender::connect(address).get("/metrics").unwrap();
    assert_eq!(reply.status, 200);
    text(&reply.body)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

fn sum(series: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    series
        .iter()
        .filter(|(key, _)| key.split('{').next() == Some(name) && key.contains(label))
        .map(|(_, value)| value)
        .sum()
}

#[test]
fn metrics_carry_the_collectors_names_and_the_books_balance_at_every_scrape() {
    let backend = Backend::healthy();
    let configuration = config(
        "batch: {timeout: 10ms}",
        &format!("otlp_http/a: {{endpoint: '{}'}}", backend.url()),
        "batch",
        "otlp_http/a",
    );
    let reader = "telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 0}}}}]}}";
    let mut program = Program::start(&configuration.replace("telemetry: {metrics: {level: none}}", reader));
    let metrics = program.metrics_address();
    let mut sender = Sender::connect(program.address());
    for request in 0..50 {
        assert_eq!(sender.traces(&traces(request * 4, 4)).unwrap().status, 200);
        let series = scrape(metrics);
        let figure = |name: &str| sum(&series, name, "");
        let parts =
            ["removed", "exported", "rejected", "dropped", "held"].map(|part| figure(&format!("otlpd_books_{part}")));
        assert_eq!(figure("otlpd_books_accepted"), parts.iter().sum::<f64>(), "{series:?}");
    }
    wait_until("all of it", || backend.spans() == 200);
    wait_until("the count", || {
        sum(&scrape(metrics), "otelcol_exporter_sent_spans", "exporter=\"otlp_http/a\"") == 200.0
    });
    let series = scrape(metrics);
    assert_eq!(sum(&series, "otelcol_receiver_accepted_spans", "transport=\"http\""), 200.0);
    assert_eq!(sum(&series, "otelcol_exporter_queue_capacity", "exporter=\"otlp_http/a\""), 1000.0);
    for name in ["otelcol_process_uptime", "otelcol_process_memory_rss", "otlpd_gate_capacity", "target_info"] {
        assert!(sum(&series, name, "") > 0.0, "{name} is not in {series:#?}");
    }
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn the_health_check_is_there_and_so_is_health_on_the_receivers_port() {
    let backend = Backend::healthy();
    let configuration = config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http");
    let configuration = configuration.replace(
        "service:\n",
        "extensions: {health_check: {endpoint: '127.0.0.1:0'}}\nservice:\n  extensions: [health_check]\n",
    );
    let mut program = Program::start(&configuration);
    let reply = Sender::connect(program.health_address()).get("/").unwrap();
    assert_eq!(reply.status, 200);
    assert!(text(&reply.body).contains("Server available"));
    let reply = Sender::connect(program.address()).get("/health").unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn a_bad_configuration_stops_the_start_and_every_error_names_its_place() {
    let configuration = config(
        "batch: {timout: 1s}",
        "otlp_http: {endpoint: 'http://localhost:1', retry_on_failure: {enabled: maybe}}",
        "batch",
        "otlp_http",
    );
    let stopped = Program::spawn(&configuration, &[]).wait();
    assert_eq!(stopped.code, Some(2));
    for part in ["otlpd.yaml:2:", "timout", "timeout", "otlpd.yaml:3:", "enabled"] {
        assert!(stopped.log.contains(part), "{part:?} is not in {}", stopped.log);
    }
}

#[test]
fn what_is_not_built_yet_is_named_and_stops_the_start() {
    let configuration = config("", "otlp_http: {endpoint: 'http://localhost:4318', cookies: {}}", "", "otlp_http");
    let stopped = Program::spawn(&configuration, &[]).wait();
    assert_eq!(stopped.code, Some(2), "{}", stopped.log);
    assert!(stopped.log.contains("cookies") && stopped.log.contains("not built"), "{}", stopped.log);
}

#[test]
fn a_port_in_use_names_the_key_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let configuration =
        config("", "debug: {}", "", "debug").replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    let stopped = Program::spawn(&configuration, &[]).wait();
    assert_eq!(stopped.code, Some(1), "{}", stopped.log);
    assert!(stopped.log.contains("set receivers.otlp.protocols.http.endpoint"), "{}", stopped.log);
}

#[test]
fn a_destination_that_is_down_does_not_delay_the_start() {
    let mut program =
        Program::start(&config("", &format!("otlp_http: {{endpoint: '{}'}}", Backend::dead_url()), "", "otlp_http"));
    assert_eq!(Sender::connect(program.address()).get("/health").unwrap().status, 200);
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn the_command_line_teaches_and_refuses_with_two() {
    let help = otlpd(&["--help"]);
    assert!(help.status.success());
    for word in ["--config", "--set", "--drain-timeout", "validate", "components", "print-config", "generate"] {
        assert!(text(&help.stdout).contains(word), "{word} is not in {}", text(&help.stdout));
    }
    assert!(text(&otlpd(&["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(otlpd(&["--no-such-flag"]).status.code(), Some(2));
    assert_eq!(otlpd(&["validate", "--config", "/nonexistent.yaml"]).status.code(), Some(2));
    let components = text(&otlpd(&["components"]).stdout);
    for name in
        ["otlp", "memory_limiter", "batch", "attributes", "resource", "otlp_http", "debug", "forward", "health_check"]
    {
        assert!(components.contains(&format!("name: {name}\n")), "{name} is not in {components}");
    }
}

#[test]
fn the_built_in_configuration_is_valid_and_printed_in_full() {
    let printed = otlpd(&["print-config"]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let printed = text(&printed.stdout);
    for part in ["127.0.0.1:4318", "memory_limiter", "batch", "debug"] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
}

#[test]
fn secrets_appear_nowhere() {
    let backend = Backend::healthy();
    let exporter = format!(
        "otlp_http: {{endpoint: '{}', headers: {{authorization: SENTINEL-1, x-key: SENTINEL-2}}}}",
        backend.url()
    );
    let configuration =
        config("", &exporter, "", "otlp_http").replace("level: none", "level: none}, logs: {level: DEBUG");
    let mut program = Program::start(&configuration);
    assert_eq!(Sender::connect(program.address()).traces(&traces(0, 1)).unwrap().status, 200);
    wait_until("it", || backend.spans() == 1);
    assert!(backend.heads()[0].contains("SENTINEL-1"), "the destination sees them");
    let stopped = program.stop();
    assert!(!stopped.log.contains("SENTINEL") && !stopped.out.contains("SENTINEL"), "{}", stopped.log);
    let file = std::env::temp_dir().join(format!("otlpd-secrets-{}.yaml", std::process::id()));
    std::fs::write(&file, configuration).unwrap();
    let printed = otlpd(&["print-config", "--config", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert!(
        text(&printed.stdout).contains("[REDACTED]") && !text(&printed.stdout).contains("SENTINEL"),
        "{}",
        text(&printed.stdout)
    );
}

#[test]
fn generate_sends_what_it_says() {
    let backend = Backend::healthy();
    let mut program =
        Program::start(&config("", &format!("otlp_http: {{endpoint: '{}'}}", backend.url()), "", "otlp_http"));
    let url = format!("http://{}", program.address());
    let generated = otlpd(&["generate", "--endpoint", &url, "--signal", "traces", "--count", "500", "--rate", "0"]);
    assert!(generated.status.success(), "{}", text(&generated.stderr));
    // The generator's ids are its own, so only the books can count them here.
    let stopped = program.stop();
    assert_eq!(stopped.books.get("traces -> otlp_http", "exported"), 500);
}

#[test]
fn what_listens_on_every_address_says_so_in_one_line_each() {
    let backend = Backend::dead_url();
    let reader = |host: &str| {
        format!("metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: '{host}', port: 0}}}}}}}}]}}")
    };
    let config = |host: &str| {
        format!(
            "extensions: {{health_check: {{endpoint: '{host}:0'}}}}
receivers: {{otlp: {{protocols: {{http: {{endpoint: '{host}:0'}}}}}}}}
exporters: {{otlp_http: {{endpoint: '{backend}'}}}}
service:
  extensions: [health_check]
  telemetry: {{{}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}",
            reader(host)
        )
    };
    for (host, keys) in [
        ("127.0.0.1", &[][..]),
        (
            "0.0.0.0",
            &[
                "extensions::health_check::endpoint",
                "service::telemetry::metrics::readers",
                "receivers.otlp.protocols.http.endpoint",
            ],
        ),
    ] {
        let stopped = Program::start(&config(host)).stop();
        let words =
            "listens on every address of the machine, without TLS and without authentication: whoever reaches it";
        let lines: Vec<_> = stopped.log.lines().filter(|line| line.contains(words)).collect();
        assert_eq!(lines.len(), keys.len(), "{}", stopped.log);
        for key in keys {
            assert!(lines.iter().any(|line| line.contains(key)), "{key}: {lines:?}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_receivers_certificates_is_told_with_its_place() {
    let junk = std::env::temp_dir().join(format!("otlpd-junk-{}.pem", std::process::id()));
    std::fs::write(&junk, "no PEM").unwrap();
    let junk_path = junk.to_str().unwrap();
    for (tls, column, message) in [
        ("cert_file: /nowhere, key_file: /nowhere", 47, "cert_file: cannot read /nowhere"),
        ("cert_file: JUNK, key_file: JUNK", 47, "cert_file: has no certificate in PEM"),
        ("tpm: {enabled: true}, cert_file: JUNK, key_file: JUNK", 47, "tpm: a key in a TPM is not built yet"),
    ] {
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{tls:\n   {{{}{}}}, endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{otlp_http: {{endpoint: '{}'}}}}
service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}}}",
            " ".repeat(column - 5),
            tls.replace("JUNK", junk_path),
            Backend::dead_url()
        );
        let stopped = Program::spawn(&config, &[]).wait();
        assert_eq!(stopped.code, Some(2), "{}", stopped.log);
        let place = format!("otlpd.yaml:2:{column}: error: receivers::otlp::protocols::grpc::tls::{message}");
        assert!(stopped.log.contains(&place), "{place}\n{}", stopped.log);
    }
    std::fs::remove_file(junk).unwrap();
}
