//! Secrets appear nowhere: a word stands in every field that holds one, and everything that is written is searched for it.
//!
//! Panics are not provoked: what they print comes from the same `Debug` forms.

use std::process::{Command, Output};

use otlp_core::auth::Secret;
use otlp_receive::auth::{basic, bearer};

use crate::support::{Answer, Backend, Program, Sender, traces, wait_until};

/// What must not be seen. Every field has its own number, so that a leak says where it comes from.
const WORD: &str = "SENTINEL";

fn assert_clean(what: &str, text: &str) {
    let leak = text.lines().find(|line| line.contains(WORD));
    assert!(leak.is_none(), "{what}: {}", leak.unwrap_or_default());
}

fn run(command: &str, arguments: &[&str], config: &str) -> Output {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("otlpd-secrets-{}-{number}.yaml", std::process::id()));
    std::fs::write(&file, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_otlpd"))
        .arg(command)
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .env("RUST_LOG", "trace")
        .env("OTLPD_TEST_SECRET", "SENTINEL-env")
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every kind of secret that a configuration can hold.
const EVERYTHING: &str = "
extensions:
  bearertokenauth/one: {token: SENTINEL-1}
  bearertokenauth/several: {tokens: [SENTINEL-2, SENTINEL-3]}
  basicauth/client: {client_auth: {username: user, password: SENTINEL-4}}
  basicauth/server: {htpasswd: {inline: \"ann:SENTINEL-5\\nbob:SENTINEL-6\"}}
  health_check:
    endpoint: '127.0.0.1:0'
    response_headers: {x-key: SENTINEL-19}
    tls: {cert_pem: SENTINEL-20, key_pem: SENTINEL-21}
receivers:
  otlp:
    protocols:
      http:
        endpoint: '127.0.0.1:0'
        response_headers: {x-key: SENTINEL-7}
        tls: {cert_file: /nowhere, key_pem: SENTINEL-8, ca_pem: SENTINEL-22}
      grpc:
        endpoint: '127.0.0.1:0'
        tls: {cert_pem: SENTINEL-9, key_pem: SENTINEL-10, tpm: {owner_auth: SENTINEL-23, auth: SENTINEL-24}}
exporters:
  otlp_http:
    endpoint: 'http://user:SENTINEL-11@127.0.0.1:9/'
    traces_endpoint: 'http://user:SENTINEL-12@127.0.0.1:9/'
    metrics_endpoint: 'http://user:SENTINEL-25@127.0.0.1:9/'
    logs_endpoint: 'http://user:SENTINEL-26@127.0.0.1:9/'
    proxy_url: 'http://user:SENTINEL-13@127.0.0.1:9'
    headers: {authorization: SENTINEL-14, x-environment: '${env:OTLPD_TEST_SECRET}'}
    tls: {cert_file: /nowhere, key_pem: SENTINEL-15, ca_pem: SENTINEL-16}
    auth: {authenticator: bearertokenauth/one}
  otlp_grpc:
    endpoint: '127.0.0.1:9'
    headers: [{name: x-key, value: SENTINEL-17}, {name: x-environment, value: 'a ${env:OTLPD_TEST_SECRET} b'}]
    tls: {cert_pem: SENTINEL-27, key_pem: SENTINEL-18, ca_pem: SENTINEL-28}
    auth: {authenticator: basicauth/client}
  otlp_grpc/files: {endpoint: '127.0.0.1:9', tls: {cert_file: /nowhere, key_pem: SENTINEL-29}}
service:
  extensions: [bearertokenauth/one, bearertokenauth/several, basicauth/client, basicauth/server, health_check]
  pipelines: {traces: {receivers: [otlp], exporters: [otlp_http, otlp_grpc, otlp_grpc/files]}}
";

#[test]
fn printed_configurations_show_none_unless_that_is_asked_for() {
    for format in ["yaml", "json"] {
        let printed = run("print-config", &["--format", format], EVERYTHING);
        assert!(printed.status.success(), "{}", text(&printed.stderr));
        assert_clean(format, &text(&printed.stdout));
        assert_clean(format, &text(&printed.stderr));
        // Two of the twenty-nine stand in one text, and the variable is there twice.
        assert_eq!(text(&printed.stdout).matches("REDACTED").count(), 30, "{}", text(&printed.stdout));
    }
    let revealed = text(&run("print-config", &["--mode", "unredacted"], EVERYTHING).stdout);
    for number in 1..=29 {
        assert!(revealed.contains(&format!("{WORD}-{number}")), "{number}: the test would find it");
    }
    assert!(revealed.contains("SENTINEL-env"));
    // What is printed can be read again, and says the same.
    let printed = text(&run("print-config", &[], EVERYTHING).stdout);
    assert_eq!(text(&run("print-config", &[], &printed).stdout), printed);
}

#[test]
fn errors_and_warnings_show_none() {
    let whole = run("validate", &[], EVERYTHING);
    assert_clean("validate", &(text(&whole.stdout) + &text(&whole.stderr)));
    for (right, wrong) in [
        ("token: SENTINEL-1", "token: [SENTINEL-1]"),
        ("token: SENTINEL-1", "token: {a: SENTINEL}"),
        ("token: SENTINEL-1", "tokn: SENTINEL-1"),
        ("token: SENTINEL-1", "token: SENTINEL-1, tokens: [SENTINEL]"),
        ("[SENTINEL-2, SENTINEL-3]", "[[SENTINEL-2], SENTINEL-3]"),
        ("password: SENTINEL-4", "password: [SENTINEL-4]"),
        ("password: SENTINEL-4", "pasword: SENTINEL-4"),
        ("inline: \"ann:SENTINEL-5\\nbob:SENTINEL-6\"", "inline: [SENTINEL-5]"),
        ("{x-key: SENTINEL-7}", "SENTINEL-7"),
        ("{x-key: SENTINEL-7}", "{x-key: [SENTINEL-7]}"),
        ("key_pem: SENTINEL-8", "key_pem: 2026-01-01 SENTINEL-8, key_pem: SENTINEL-8"),
        ("http://user:SENTINEL-11@127.0.0.1:9/", "user:SENTINEL-11@127.0.0.1:9/"),
        ("http://user:SENTINEL-11@127.0.0.1:9/", "http://user:SENTINEL-11@"),
        ("http://user:SENTINEL-11@127.0.0.1:9/", "http://user:SENTINEL-11@127.0.0.1:9/v1/traces"),
        ("http://user:SENTINEL-11@127.0.0.1:9/", "http://user:SENT INEL-11@127.0.0.1:99999"),
        ("http://user:SENTINEL-11@127.0.0.1:9/", "ftp://user:SENTINEL/11@a"),
        ("http://user:SENTINEL-13@127.0.0.1:9", "ftp://user:SENTINEL-13@127.0.0.1:9"),
        ("http://user:SENTINEL-13@127.0.0.1:9", "user:SENTINEL-13@127.0.0.1"),
        ("{authorization: SENTINEL-14,", "{authorization: SENTINEL-14, authorization: SENTINEL,"),
        ("endpoint: '127.0.0.1:9'", "endpoint: 'user:SENTINEL@127.0.0.1:9'"),
        ("endpoint: '127.0.0.1:9'", "endpoint: 'http://user:SENTINEL@127.0.0.1:9/path'"),
        ("{name: x-key, value: SENTINEL-17}", "{name: x-key, valu: SENTINEL-17}"),
        ("{name: x-key, value: SENTINEL-17}", "SENTINEL-17"),
        ("key_pem: SENTINEL-18", "key_pem: 'SENTINEL-18"),
    ] {
        assert!(EVERYTHING.contains(right), "{right}");
        let config = EVERYTHING.replace(right, wrong);
        for command in ["validate", "print-config", "run"] {
            // A start fails for the certificates at the latest.
            let said = match command {
                "run" => {
                    let stopped = Program::spawn_in(
                        &config,
                        &[],
                        &[("RUST_LOG", "trace"), ("OTLPD_TEST_SECRET", "SENTINEL-env")],
                    )
                    .wait();
                    assert_ne!(stopped.code, Some(0), "{wrong}");
                    stopped.log + &stopped.out
                }
                command => {
                    let output = run(command, &[], &config);
                    text(&output.stdout) + &text(&output.stderr)
                }
            };
            assert!(!said.is_empty() || command == "validate", "{command} {wrong}");
            assert_clean(&format!("{command} with {wrong}"), &said);
        }
    }
}

#[test]
fn a_running_program_shows_none_at_any_level() {
    // What it sends is refused, and refused in a way that is tried again, and taken: all of that is logged.
    let backend = Backend::scripted(|number, _| match number {
        0 => Answer::Status(503, "retry-after: 0\r\n"),
        1 => Answer::Close,
        number if number < 4 => Answer::Status(401, "www-authenticate: Bearer\r\n"),
        _ => Answer::Ok,
    });
    let environment = [("RUST_LOG", "trace"), ("OTLPD_TEST_SECRET", "SENTINEL-env")];
    // gRPC sends no credentials in plain text but over a Unix socket.
    let socket = std::env::temp_dir().join(format!("otlpd-secrets-{}.sock", std::process::id()));
    let socket = socket.to_str().unwrap();
    let mut gateway = Program::spawn_in(
        &"
extensions: {basicauth: {htpasswd: {inline: 'user:SENTINEL-2'}}}
receivers: {otlp: {protocols: {grpc: {endpoint: 'SOCKET', transport: unix, auth: {authenticator: basicauth}}}}}
exporters: {debug: {verbosity: detailed}}
service:
  extensions: [basicauth]
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [debug]}}
"
        .replace("SOCKET", socket),
        &[],
        &environment,
    );
    gateway.wait_for("Everything is ready");
    let authority = backend.url().replace("http://", "");
    let config = format!(
        "
extensions:
  bearertokenauth/one: {{token: SENTINEL-1}}
  basicauth/client: {{client_auth: {{username: user, password: SENTINEL-2}}}}
  basicauth/server: {{htpasswd: {{inline: 'ann:SENTINEL-3'}}}}
  health_check: {{endpoint: '127.0.0.1:0'}}
receivers:
  otlp:
    protocols:
      http:
        endpoint: '127.0.0.1:0'
        response_headers: {{x-key: SENTINEL-4}}
        include_metadata: true
        auth: {{authenticator: basicauth/server}}
exporters:
  otlp_http/straight:
    endpoint: 'http://{authority}'
    headers: {{x-key: SENTINEL-5, x-environment: '${{env:OTLPD_TEST_SECRET}}'}}
    auth: {{authenticator: bearertokenauth/one}}
    retry_on_failure: {{initial_interval: 10ms}}
  otlp_http/proxy:
    endpoint: 'http://user:SENTINEL-6@backend.test'
    proxy_url: 'http://user:SENTINEL-7@{authority}'
    retry_on_failure: {{initial_interval: 10ms}}
  otlp_http/nowhere: {{endpoint: 'https://user:SENTINEL-8@127.0.0.1:9', headers: {{x-key: SENTINEL-9}}}}
  otlp_grpc:
    endpoint: 'unix://{socket}'
    tls: {{insecure: true}}
    headers: {{x-key: SENTINEL-10}}
    auth: {{authenticator: basicauth/client}}
service:
  extensions: [bearertokenauth/one, basicauth/client, basicauth/server, health_check]
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [otlp_http/straight, otlp_http/proxy, otlp_http/nowhere, otlp_grpc]}}
"
    );
    let mut program = Program::spawn_in(&config, &["--drain-timeout", "1s"], &environment);
    program.wait_for("Everything is ready");
    let mut sender = Sender::connect(program.address());
    let credentials = |pair: &str| {
        let value = otlp_core::auth::base64(pair.as_bytes());
        format!("content-type: application/x-protobuf\r\nauthorization: Basic {value}\r\n")
    };
    let body = prost::Message::encode_to_vec(&traces(0, 1));
    let refused = sender.post("/v1/traces", &credentials("ann:SENTINEL-wrong"), &body).unwrap();
    assert_eq!(refused.status, 401);
    assert!(!text(&refused.body).contains(WORD), "{refused:?}");
    for _ in 0..3 {
        assert_eq!(sender.post("/v1/traces", &credentials("ann:SENTINEL-3"), &body).unwrap().status, 200);
    }
    wait_until("both ways that work", || {
        let heads = backend.heads();
        heads.iter().any(|head| head.contains("Proxy-Authorization") || head.contains("proxy-authorization"))
            && heads.iter().any(|head| head.contains("Bearer SENTINEL-1") && head.contains("SENTINEL-env"))
            && backend.requests() >= 6
    });
    gateway.wait_for("operation 0");
    let metrics = Sender::connect(program.metrics_address()).get("/metrics").unwrap();
    let health = Sender::connect(program.health_address()).get("/").unwrap();
    for reply in [&metrics, &health] {
        assert_clean("the endpoints", &(reply.head.to_ascii_uppercase() + &text(&reply.body)));
    }
    assert!(text(&metrics.body).contains("unauthorized"));
    let stopped = program.stop();
    assert!(stopped.log.contains("DEBUG") || stopped.log.contains("debug"), "{}", stopped.log);
    assert_clean("the log", &stopped.log);
    assert_clean("standard output", &stopped.out);
    let gateway = gateway.stop();
    assert_clean("the gateway", &(gateway.log + &gateway.out));
    for pair in ["ann:SENTINEL-3", "user:SENTINEL-2", "user:SENTINEL-6", "user:SENTINEL-7", "ann:SENTINEL-wrong"] {
        assert!(!stopped.log.contains(&otlp_core::auth::base64(pair.as_bytes())), "{pair} in base 64");
    }
}

#[test]
fn debug_forms_show_none() {
    let word = |number: u32| format!("{WORD}-{number}");
    let url = |number: u32| format!("http://user:{}@a:1/", word(number));
    let headers = || otlp_export::otlp_http::Headers(vec![("a".into(), word(1))]);
    let client_tls = otlp_export::tls::Config { key_pem: Some(word(2)), ..Default::default() };
    let server_tls = otlp_receive::tls::Config { key_pem: Some(word(3)), ..Default::default() };
    let clock = otlp_core::Clock::system;
    let to = otlp_export::auth::Bearer { token: Secret::new(word(4)), ..Default::default() };
    let user = otlp_export::auth::Basic { username: "a".into(), password: Secret::new(word(5)), ..Default::default() };
    let from = bearer::Config { tokens: vec![Secret::new(word(6))], ..Default::default() };
    let users = basic::Config { inline: Secret::new(format!("ann:{}", word(7))), file: None };
    let http = otlp_export::otlp_http::Config {
        endpoint: url(8),
        traces_endpoint: url(9),
        metrics_endpoint: url(10),
        logs_endpoint: url(11),
        proxy_url: url(12),
        headers: headers(),
        tls: client_tls.clone(),
        auth: Some(otlp_export::auth::Authenticator::bearer("a", &to, clock()).unwrap()),
        ..Default::default()
    };
    let grpc = otlp_export::otlp_grpc::Config {
        endpoint: url(13),
        headers: headers(),
        tls: client_tls.clone(),
        auth: Some(otlp_export::auth::Authenticator::basic("a", &user, clock()).unwrap()),
        ..Default::default()
    };
    let receiver = otlp_receive::Config {
        http: Some(otlp_receive::http::Config {
            response_headers: vec![("a".into(), Secret::new(word(14)))],
            tls: Some(server_tls.clone()),
            auth: Some(otlp_receive::Authenticator::bearer("a", &from, clock()).unwrap()),
            ..Default::default()
        }),
        grpc: Some(otlp_receive::grpc::Config {
            tls: Some(server_tls.clone()),
            auth: Some(otlp_receive::Authenticator::basic("a", &users, clock()).unwrap()),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_clean("settings", &format!("{http:?}\n{grpc:?}\n{receiver:?}\n{to:?}\n{user:?}\n{from:?}\n{users:?}"));
    let loaded = otlp_bin::config::load(&otlp_bin::config::Sources::new(
        vec![format!("yaml:{}", EVERYTHING.replace("${env:OTLPD_TEST_SECRET}", "SENTINEL-env"))],
        vec![],
    ));
    assert_clean("a configuration", &format!("{:?}", loaded.unwrap()));
}
