use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::node::{Node, Value};
use super::schema::{Block, Default, Kind};
use super::*;

/// A tree in one line: strings in quotes, so that `"16"` and `16` differ.
fn show(node: &Node) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Str(text) => format!("{text:?}"),
        Value::Time(text) => format!("time({text})"),
        Value::List(items) => format!("[{}]", list(items.iter().map(show).collect())),
        Value::Map(map) => {
            let entries = map.iter().map(|entry| format!("{}: {}", entry.key, show(&entry.value)));
            format!("{{{}}}", list(entries.collect()))
        }
    }
}

fn parse(text: &str) -> String {
    match yaml::parse(text, &Arc::from("f")) {
        Ok(node) => show(&node),
        Err(error) => error.to_string(),
    }
}

#[test]
fn yaml_is_read_as_the_collector_reads_it() {
    for (text, tree) in [
        ("", "null"),
        ("# only a comment\n", "null"),
        ("---\n---\na: 1\n", "null"),
        ("a: 1\n---\nb: [\n", "{a: 1}"),
        ("\u{feff}a: 1\r\nb: x\r\n", r#"{a: 1, b: "x"}"#),
        (r#"{"a": [1, "16", true, null]}"#, r#"{a: [1, "16", true, null]}"#),
        ("a: '16'\nb: 16\nc: \"\"\nd:\n", r#"{a: "16", b: 16, c: "", d: null}"#),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", r#"{a: "x\ny\n", b: "x y"}"#),
        ("a: &x {k: 1}\nb: *x\n", "{a: {k: 1}, b: {k: 1}}"),
        ("a: &x {k: 1, l: 2}\nb:\n  l: 3\n  <<: *x\n", "{a: {k: 1, l: 2}, b: {l: 3, k: 1}}"),
        ("<<: [{a: 1}, {a: 2, b: 2}]\nc: 3\n", "{c: 3, a: 1, b: 2}"),
        ("'<<': 1\n", "{<<: 1}"),
        ("a: !!str 16\nb: !!int '16'\nc: !own x\n", r#"{a: "16", b: 16, c: "x"}"#),
        ("%YAML 1.1\n---\na: 1\n", "{a: 1}"),
        ("1: a\ntrue: b\n", r#"{1: "a", true: "b"}"#),
    ] {
        assert_eq!(parse(text), tree, "{text:?}");
    }
}

#[test]
fn yaml_mistakes_have_a_line() {
    for (text, message) in [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "f:4:3: error: the key \"c\" is given twice; first on line 3"),
        ("%YAML 1.2\n---\na: 1\n", "f:2:1: error: %YAML directive: only version 1.1 is read; remove the line"),
        ("a: &x [*x]\n", "f:1:8: error: the alias stands inside the value it names"),
        ("? [a]\n: b\n", "f:1:3: error: a key must be a scalar, not a list or a map"),
        ("<<: 1\n", "f:1:1: error: the merge key \"<<\" takes a map or a list of maps"),
        ("a: !!int x\n", "f:1:10: error: the text does not fit its tag !!int"),
    ] {
        assert_eq!(parse(text), message, "{text:?}");
    }
    for (text, place) in [("a: [1\nb: 2\n", "f:2:"), ("a:\n\tb: 1\n", "f:2:"), ("a: *nope\n", "f:1:4")] {
        assert!(parse(text).starts_with(place), "{text:?}: {}", parse(text));
    }
}

#[test]
fn plain_scalars_resolve_as_in_go() {
    for (text, value) in [
        ("16", "16"),
        ("0x10", "16"),
        ("010", "8"),
        ("0o10", "8"),
        ("0b101", "5"),
        ("-0x10", "-16"),
        ("1_000", "1000"),
        ("+1", "1"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "1.8446744073709552e19"),
        ("08", "8.0"),
        ("1e2", "100.0"),
        (".5", "0.5"),
        ("5.", "5.0"),
        ("1e", r#""1e""#),
        ("1.2.3", r#""1.2.3""#),
        ("-", r#""-""#),
        ("+", r#""+""#),
        ("0x", r#""0x""#),
        (".inf", "inf"),
        ("yes", r#""yes""#),
        ("on", r#""on""#),
        ("True", "true"),
        ("NULL", "null"),
        ("~", "null"),
        ("2020-01-02", "time(2020-01-02)"),
        ("2020-01-02T03:04:05Z", "time(2020-01-02T03:04:05Z)"),
        ("2020-13-02", r#""2020-13-02""#),
        ("1h", r#""1h""#),
        ("127.0.0.1:4318", r#""127.0.0.1:4318""#),
    ] {
        let node = Node::new(scalar::plain(text), Place::whole(&Arc::from("f")));
        assert_eq!(show(&node), value, "{text:?}");
    }
}

#[test]
fn durations_are_those_of_go() {
    for (text, nanoseconds) in [
        ("0", Some(0)),
        ("5s", Some(5_000_000_000)),
        ("-1.5h", Some(-5_400_000_000_000)),
        ("1h2m3s", Some(3_723_000_000_000)),
        (".5s", Some(500_000_000)),
        ("1µs2us", Some(3_000)),
        ("9223372036854775807ns", Some(i64::MAX)),
        ("9223372036854775808ns", None),
        ("99999999999999999999h", None),
        ("10", None),
        ("", None),
        ("-", None),
        (".s", None),
        ("1.2.3s", None),
        ("1d", None),
        ("1 s", None),
        ("s", None),
    ] {
        assert_eq!(scalar::duration_ns(text).ok(), nanoseconds, "{text:?}");
    }
    for (nanoseconds, text) in [
        (0, "0s"),
        (200_000_000, "200ms"),
        (1_500, "1.5us"),
        (5_400_000_000_000, "1h30m"),
        (-61_500_000_000, "-1m1.5s"),
    ] {
        assert_eq!(scalar::show_duration(nanoseconds), text);
    }
}

const MINIMAL: &str = "\
receivers:
  otlp:
    protocols:
      http:
exporters:
  debug:
service:
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [debug]
";

fn sources(uris: &[&str], sets: &[&str], environment: &[(&str, &str)]) -> Sources {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let environment: BTreeMap<_, _> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Sources::new(owned(uris), owned(sets)).with_environment(environment)
}

/// Loads `MINIMAL` with `more` merged over it.
fn minimal_with(more: &str, environment: &[(&str, &str)]) -> Result<Loaded, Report> {
    load(&sources(&[&format!("yaml:{MINIMAL}"), &format!("yaml:{more}")], &[], environment))
}

/// What `text`, the value of the attribute in a resource processor, becomes.
fn expanded(text: &str, environment: &[(&str, &str)]) -> String {
    let more = format!("processors:\n resource:\n  attributes:\n  - key: k\n    action: upsert\n    value: {text}");
    match minimal_with(&more, environment) {
        Ok(loaded) => {
            let actions = loaded.tree.processors[0].section.list("attributes")[0].clone();
            show(actions.value("value"))
        }
        Err(report) => report.to_string(),
    }
}

#[test]
fn references_are_replaced_as_in_the_collector() {
    let environment = [
        ("INT", "16"),
        ("QUOTED", "\"16\""),
        ("EMPTY", ""),
        ("TEXT", "a b"),
        ("LIST", "[1, '${env:INT}']"),
        ("MAP", "{a: 1}"),
        ("NAME", "INT"),
        ("BROKEN", "[a"),
        ("DOLLARS", "a$$b"),
        ("A", "${env:B}"),
        ("B", "${env:A}"),
        ("GROWS", "${env:GROWS}${env:GROWS}"),
        ("NESTS", "['${env:NESTS}', '${env:NESTS}']"),
    ];
    for (text, value) in [
        ("'${env:INT}'", "16"),
        ("${INT}", "16"),
        ("1${env:INT}", r#""116""#),
        ("${env:QUOTED}", r#""\"16\"""#),
        ("${env:EMPTY}", "null"),
        ("${env:UNSET}", "null"),
        ("x${env:UNSET}y", r#""xy""#),
        ("${env:UNSET:-d}", r#""d""#),
        ("${env:EMPTY:-d}", "null"),
        ("'${env:UNSET:-}'", "null"),
        ("${env:TEXT}", r#""a b""#),
        ("'${env:LIST}'", "[1, 16]"),
        ("${env:MAP}", "{a: 1}"),
        ("'${env:${env:NAME}}'", "16"),
        ("${env:BROKEN}", r#""[a""#),
        ("$INT", r#""$INT""#),
        ("$$INT", r#""$INT""#),
        ("$${INT}", r#""${INT}""#),
        ("$$$${INT}", r#""$${INT}""#),
        ("'$$${INT}'", r#""$16""#),
        ("${env:DOLLARS}", r#""a$b""#),
        ("'${yaml:[1, 2]}'", "[1, 2]"),
        ("'a}b${INT'", r#""a}b${INT""#),
    ] {
        assert_eq!(expanded(text, &environment), value, "{text}");
    }
    for (text, message) in [
        ("'${INT:-d}'", "a default needs the scheme: ${env:INT:-…}"),
        ("'${env:1X}'", "\"1X\" is no name of an environment variable"),
        ("'${env:A}'", "lead to each other"),
        ("'${env:GROWS}'", "longer than 1048576 bytes"),
        ("'${env:NESTS}'", "lead to each other"),
        ("'${env:$X}'", "holds a lone \"$\""),
        ("'${http://x}'", "not fetched over http"),
        ("'${nope:x}'", "unknown scheme \"nope\"; known are file, env and yaml"),
        ("'${file:/nowhere/at/all}'", "cannot read \"/nowhere/at/all\""),
    ] {
        let got = expanded(text, &environment);
        assert!(got.contains(message), "{text}: {got}");
    }
}

#[test]
fn a_reference_gives_its_text_to_a_string_and_its_value_to_a_number() {
    let environment = [("X", "0123"), ("DATE", "2020-01-01"), ("LIST", "[a]"), ("EMPTY", "")];
    let body = |key: &str, value: &str| {
        let more = format!("extensions:\n health_check:\n  response_body:\n   {key}: {value}");
        minimal_with(&more, &environment).map(|loaded| {
            loaded.tree.extensions[0].section.sub("response_body").expect("given").str("healthy").to_owned()
        })
    };
    for (value, text) in [("${env:X}", "0123"), ("${env:DATE}", "2020-01-01"), ("'${env:LIST}'", "[a]"), ("\"1\"", "1")]
    {
        assert_eq!(body("healthy", value).expect(value), text);
    }
    for literal in ["0123", "2020-01-01", "[a]", "true"] {
        assert!(body("healthy", literal).is_err(), "{literal}");
    }
    let size = |value: &str| {
        minimal_with(&format!("processors:\n batch:\n  send_batch_size: {value}"), &environment)
            .map(|loaded| loaded.tree.processors[0].section.u64("send_batch_size"))
    };
    assert_eq!(size("${env:X}").expect("an octal number"), 83);
    assert_eq!(size("100.7").expect("loses its fraction"), 100);
    assert_eq!(size("").expect("the default"), 8192);
    assert_eq!(size("${env:EMPTY}").expect("the zero"), 0);
    assert!(size("'16'").is_err() && size("-1").is_err() && size("true").is_err());
}

#[test]
fn later_sources_win_and_settings_win_over_all() {
    let base = format!("yaml:{MINIMAL}");
    let verbosity = |uris: &[&str], sets: &[&str]| {
        let loaded = load(&sources(uris, sets, &[("X", "exporters::debug::verbosity: normal")])).expect("fine");
        loaded.tree.exporters[0].section.str("verbosity").to_owned()
    };
    let detailed = "yaml:exporters::debug::verbosity: detailed";
    assert_eq!(verbosity(&[&base], &[]), "basic");
    assert_eq!(verbosity(&[&base, detailed], &[]), "detailed");
    assert_eq!(verbosity(&[&base, detailed, "env:X"], &[]), "normal");
    assert_eq!(verbosity(&[&base, detailed], &["exporters.debug.verbosity = normal"]), "normal");
    assert_eq!(verbosity(&[&base], &["exporters::debug::verbosity=normal"]), "normal");
    assert_eq!(verbosity(&[&base, "env:UNSET", "yaml:"], &[]), "basic");
    // A list is replaced, a null wipes a section, an empty map does not.
    let exporters = minimal_with("service::pipelines::traces::exporters: [debug, debug]", &[]).expect("fine");
    assert_eq!(exporters.tree.pipelines[0].exporters.len(), 1);
    assert!(minimal_with("exporters: {}", &[]).is_ok());
    let wiped = minimal_with("exporters:", &[]).expect_err("none is left").to_string();
    assert!(wiped.contains("no exporter is configured"), "{wiped}");
    let report = load(&sources(&[&base], &["a"], &[])).expect_err("no equal sign").to_string();
    assert_eq!(report, "error: --set a: no \"=\"; the form is --set key=value");
}

#[test]
fn files_are_read_and_named() {
    let folder = std::env::temp_dir().join(format!("otlpd-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| folder.join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    write("main.yaml", &MINIMAL.replace("debug:\n", &format!("debug: ${{file:{}}}\n", path("debug.yaml"))));
    write("debug.yaml", "verbosity: detailed\nsampling_initail: 3\n");
    write("latin.yaml", "a: 1\nb: ");
    std::fs::write(folder.join("latin.yaml"), b"a: 1\nb: \xe9\n").expect("a file");
    let report = load(&sources(&[&path("main.yaml")], &[], &[])).expect_err("a misspelt key").to_string();
    let expected = format!(
        "{}:2:1: error: exporters::debug::sampling_initail: unknown key; did you mean \"sampling_initial\"?",
        path("debug.yaml")
    );
    assert_eq!(report, expected);
    let report =
        load(&sources(&[&format!("file:{}", path("latin.yaml"))], &[], &[])).expect_err("not UTF-8").to_string();
    assert!(report.contains("line 2 is not UTF-8"), "{report}");
    let report = load(&sources(&[&path("none.yaml")], &[], &[])).expect_err("no file").to_string();
    assert!(report.starts_with("error: cannot read"), "{report}");
    std::fs::remove_dir_all(&folder).expect("the folder");
}

#[test]
fn everything_wrong_is_reported_at_once_with_places() {
    let text = "\
receivers:
  otlp:
    protocols:
      grcp:
      http:
        endpont: 0.0.0.0:4318
processors:
  batch:
    timeout: 10
    send_batch_size: '16'
  memory_limiter:
exporters:
  otlphttp:
    endpoint: ${env:WHERE}
  otlp/a:
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [bach]
      exporters: [otlphttp, otlp_grpc/a]
    metrics:
      receivers: otlp
      exporters: []
    spans:
";
    let load = load(&sources(&[&format!("yaml:{text}")], &[], &[("WHERE", "127.0.0.1:4318")]));
    let report = load.expect_err("much is wrong").to_string();
    let report = report.replace("yaml source 1", "f");
    let expected = [
        "f:4:7: error: receivers::otlp::protocols::grcp: unknown key; did you mean \"grpc\"?",
        "f:10:22: error: processors::batch::send_batch_size: expected an integer, got a string; write 16 without quotes",
        "f:11:3: error: processors::memory_limiter: limit_mib or limit_percentage must be given",
        "f:11:3: error: processors::memory_limiter::check_interval: must be given and above 0; 1s is a good value",
        "f:14:15: error: exporters::otlphttp::endpoint: \"127.0.0.1:4318\" is no URL; did you mean \
         \"http://127.0.0.1:4318\"? (the value comes from ${env:WHERE})",
        "f:15:3: error: exporters::otlp/a::endpoint: must be given: host:port",
        "f:20:20: error: service::pipelines::traces::processors: the processor bach is not configured; did you mean \
         \"batch\"?",
        "f:21:29: error: service::pipelines::traces::exporters: the exporter otlp_grpc/a is not configured; did you \
         mean \"otlp/a\"?",
        "f:23:18: error: service::pipelines::metrics::receivers: expected a list of ids, got a string; write [otlp]",
        "f:25:5: error: service::pipelines::spans: \"spans\" is no signal; expected traces, metrics or logs, with \
         /name after it",
        "f:6:9: warning: receivers::otlp::protocols::http::endpont: unknown key, ignored as the Collector does; did \
         you mean \"endpoint\"?",
        "f:13:3: warning: exporters::otlphttp: the type otlphttp is now called otlp_http",
        "f:15:3: warning: exporters::otlp/a: the type otlp is now called otlp_grpc",
    ];
    let mut got: Vec<&str> = report.lines().collect();
    let mut expected: Vec<&str> = expected.to_vec();
    got.sort_unstable();
    expected.sort_unstable();
    assert_eq!(got, expected);
}

#[test]
fn near_names_are_suggested_and_far_ones_are_not() {
    let names = ["endpoint", "timeout", "sending_queue"];
    for (name, near) in [
        ("endpont", Some("endpoint")),
        ("Endpoint", Some("endpoint")),
        ("tiemout", Some("timeout")),
        ("sendingqueue", Some("sending_queue")),
        ("verbosity", None),
        ("x", None),
    ] {
        assert_eq!(report::nearest(name, names), near, "{name}");
    }
}

#[test]
fn blocks_have_three_states() {
    let queue = |value: &str| {
        let more = format!("exporters: {{otlp_http: {{endpoint: 'http://a', {value}}}}}");
        minimal_with(&more, &[]).map(|loaded| loaded.tree.exporters[1].section.sub("sending_queue"))
    };
    assert_eq!(queue("").expect("fine").expect("on by default").u64("num_consumers"), 10);
    assert!(queue("sending_queue: ").expect("fine").is_some());
    assert!(queue("sending_queue: {enabled: false, queue_size: -1}").expect("not checked").is_none());
    assert!(queue("sending_queue: {enabled: false, queue_size: x}").is_err());
    assert!(queue("sending_queue: {queue_size: 0}").is_err());
    let batch = queue("sending_queue: {batch: }").expect("fine").expect("on").sub("batch").expect("on by its key");
    assert_eq!(batch.duration("flush_timeout").as_millis(), 200);
    assert!(queue("sending_queue: {sizer: requests, batch: {}}").is_err());
}

#[test]
fn connectors_need_both_sides_and_no_circle() {
    let config = |from: &str, to: &str| {
        let more = format!(
            "{{connectors: {{forward: }}, service: {{pipelines: {{traces: {{exporters: {from}}}, \
             traces/two: {{receivers: {to}, exporters: [debug]}}}}}}}}"
        );
        minimal_with(&more, &[]).map_err(|report| report.to_string())
    };
    assert!(config("[forward]", "[forward]").is_ok());
    let error = config("[forward]", "[otlp]").expect_err("one side");
    assert!(error.contains("is an exporter of traces, and no pipeline of traces has it as receiver"), "{error}");
    let error = config("[debug]", "[forward]").expect_err("the other side");
    assert!(error.contains("is a receiver of traces/two, and no pipeline of traces has it as exporter"), "{error}");
    let round = "{connectors: {forward: , forward/b: }, service: {pipelines: {traces: {receivers: [forward/b], \
                 exporters: [forward]}, traces/two: {receivers: [otlp, forward], exporters: [forward/b]}}}}";
    let error = minimal_with(round, &[]).expect_err("a circle").to_string();
    assert!(error.contains("in a circle: traces, traces/two"), "{error}");
    let error = minimal_with("connectors: {debug: }", &[]).expect_err("no connector").to_string();
    assert!(error.contains("there is a exporter of that name") || error.contains("exporter"), "{error}");
}

#[test]
fn what_is_printed_loads_as_the_same_and_hides_secrets() {
    let more = "{exporters: {otlp_http: {endpoint: 'http://a:1', headers: {authorization: Bearer s3cret, price: $$5}, \
                sending_queue: {enabled: false}}, otlp_grpc: {endpoint: 'a:1', headers: [{name: k, value: s3cret}], \
                tls: {key_pem: s3cret, cert_pem: s3cret}, sending_queue: {batch: {max_size: 10000}}, keepalive: }}, \
                processors: {attributes: {actions: [{key: a, action: insert, value: 'a: b'}, {key: \"q\\\"\\n\", \
                action: delete}], include: {match_type: strict, services: [x]}}}, \
                extensions: {health_check: }, service: {extensions: [health_check], threads: {receive: 2}}}";
    let loaded = minimal_with(more, &[]).expect("fine");
    for format in [Format::Yaml, Format::Json] {
        let shown = loaded.tree.print(format, true);
        assert!(shown.contains("s3cret"));
        let again =
            load(&sources(&[&format!("yaml:{shown}")], &[], &[])).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        assert_eq!(again.tree.print(format, true), shown);
        let redacted = loaded.tree.print(format, false);
        assert!(!redacted.contains("s3cret") && redacted.contains(REDACTED), "{redacted}");
    }
    let headers = loaded.tree.exporters.iter().find(|e| e.id.kind == "otlp_http").expect("there").section.clone();
    assert_eq!(headers.map_str("headers")[1].1.reveal(), "$5");
    assert!(!format!("{:?}", headers.map_str("headers")).contains("s3cret"));
    assert!(!format!("{loaded:?}").contains("s3cret"));
}

#[test]
fn without_a_source_the_built_in_configuration_is_used() {
    let loaded = load(&sources(&[], &["exporters.debug.verbosity=detailed"], &[])).expect("fine");
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.tree.pipelines.len(), 3);
    let http = loaded.tree.receivers[0].section.sub("protocols").and_then(|p| p.sub("http")).expect("on");
    assert_eq!(http.str("endpoint"), "127.0.0.1:4318");
    assert_eq!(loaded.tree.exporters[0].section.str("verbosity"), "detailed");
}

#[test]
fn our_own_keys_are_read_with_their_defaults() {
    let more = "{receivers: {otlp: {acknowledge: exported, rate_limit: {rate: 5}}}, service: {memory_budget_mib: 64, \
                pipelines: {traces: {max_concurrent: 2, inlet: {capacity: 10, when_full: drop_oldest}}}}}";
    let loaded = minimal_with(more, &[]).expect("fine");
    let receiver = &loaded.tree.receivers[0].section;
    assert_eq!((receiver.str("acknowledge"), receiver.duration("acknowledge_timeout").as_secs()), ("exported", 8));
    let limit = receiver.sub("rate_limit").expect("given");
    assert_eq!((limit.str("unit"), limit.str("algorithm"), limit.u64("rate")), ("items", "token_bucket", 5));
    let inlet = loaded.tree.pipelines[0].section.sub("inlet").expect("always there");
    assert_eq!((inlet.u64("capacity"), inlet.str("when_full")), (10, "drop_oldest"));
    assert_eq!(loaded.tree.service.u64("memory_budget_mib"), 64);
    assert!(minimal_with("receivers: {otlp: {rate_limit: {}}}", &[]).is_err(), "a rate limit without a rate");
    let errors =
        minimal_with("receivers: {otlp: {acknowledge: delivered}}", &[]).expect_err("no such word").to_string();
    assert!(errors.contains("expected one of queued, stored, exported"), "{errors}");
}

#[test]
fn a_later_error_points_to_its_line() {
    let text = format!(
        "{MINIMAL}processors:\n  resource:\n    attributes:\n      - key: a\n        action: upsert\n        value: 1\n"
    );
    let loaded = load(&sources(&[&format!("yaml:{text}")], &[], &[])).expect("fine");
    let section = &loaded.tree.processors[0].section;
    for (key, shown) in [
        ("", "yaml source 1:13:3: error: processors::resource: no"),
        ("attributes", "yaml source 1:14:5: error: processors::resource::attributes: no"),
        ("attributes[0]", "yaml source 1:15:9: error: processors::resource::attributes[0]: no"),
        ("attributes[0].value", "yaml source 1:17:9: error: processors::resource::attributes[0]::value: no"),
        ("attributes[0]::pattern", "yaml source 1:15:9: error: processors::resource::attributes[0]::pattern: no"),
        ("attributes[7]::pattern", "yaml source 1:14:5: error: processors::resource::attributes[7]::pattern: no"),
        ("other", "yaml source 1:13:3: error: processors::resource::other: no"),
    ] {
        assert_eq!(section.error_at(key, "no").to_string(), shown);
    }
}

#[test]
fn without_a_configuration_both_protocols_are_taken_on_their_ports_of_this_machine_net_01_02_08() {
    let loaded = load(&Sources::new(vec![], vec![])).expect("fine");
    assert_eq!(loaded.warnings, []);
    let protocols = loaded.tree.receivers[0].section.sub("protocols").expect("there");
    for (name, endpoint) in [("grpc", "127.0.0.1:4317"), ("http", "127.0.0.1:4318")] {
        assert_eq!(protocols.sub(name).expect(name).str("endpoint"), endpoint);
    }
    let mut signals: Vec<_> = loaded.tree.pipelines.iter().map(|pipeline| pipeline.signal).collect();
    signals.sort_by_key(|signal| signal.index());
    assert_eq!(signals, otlp_core::Signal::ALL);
    assert!(loaded.tree.pipelines.iter().all(|pipeline| pipeline.receivers == [loaded.tree.receivers[0].id.clone()]));
}

#[test]
fn a_limit_cannot_be_switched_off() {
    let more = "receivers: {otlp: {protocols: {http: {read_timeout: 0s, max_request_body_size: -1}, \
                grpc: {max_recv_msg_size_mib: 0}}}}";
    let loaded = minimal_with(more, &[]).expect("fine");
    let protocols = loaded.tree.receivers[0].section.sub("protocols").expect("always there");
    let http = protocols.sub("http").expect("on");
    assert_eq!((http.duration("read_timeout").as_secs(), http.bytes("max_request_body_size")), (30, 64 << 20));
    assert_eq!(protocols.sub("grpc").expect("on").u64("max_recv_msg_size_mib"), 64);
    assert_eq!(loaded.warnings.len(), 3);
    assert!(minimal_with("receivers: {otlp: {protocols: {grpc: {max_recv_msg_size_mib: -1}}}}", &[]).is_err());
}

#[test]
fn what_the_collector_lets_pass_is_warned_about() {
    for (more, warning) in [
        ("exporters: {otlp_grpc: {endpoint: 'http://a:1'}}", "does not turn TLS off"),
        (
            "exporters: {otlp_http: {endpoint: 'https://a', auth: {authenticator: b}}}",
            "b is not among service::extensions",
        ),
        (
            "{extensions: {bearertokenauth: {token: a}}, service: {extensions: [bearertokenauth]}, \
             exporters: {otlp_http: {endpoint: 'http://a', auth: {authenticator: bearertokenauth}}}}",
            "exporters::otlp_http::endpoint: the credentials of auth go out in plain text",
        ),
        (
            "{extensions: {bearertokenauth: {token: a}}, service: {extensions: [bearertokenauth]}, \
             exporters: {otlp_grpc: {endpoint: 'a:1', tls: {insecure: true}, auth: {authenticator: bearertokenauth}}}}",
            "exporters::otlp_grpc::tls::insecure: with auth the credentials would go out in plain text",
        ),
        ("extensions: {bearertokenauth: {token: a, filename: b}}", "token: is not looked at: filename is given"),
        ("extensions: {bearertokenauth: {tokens: [a], filename: b}}", "filename: is not looked at: tokens are given"),
        (
            "extensions: {bearertokenauth: {filename: b, retry_on_failure: {enabled: true, interval: 1s, max_retries: 1}}}",
            "max_retries: has no effect without wait_for_token_file",
        ),
        (
            "receivers: {otlp: {protocols: {grpc: {tls: {cert_file: a, key_file: b, ca_file: c}}}}}",
            "grpc::tls::ca_file: has no effect on a server: client_ca_file",
        ),
        ("receivers: {otlp: {protocols: {grpc: {tls: }}}}", "grpc::tls: is empty: nothing is encrypted"),
        ("receivers: {otlp: {protocols: {http: {auth: }}}}", "http::auth: is empty: everybody may send"),
        (
            "receivers: {otlp: {protocols: {http: {transport: unix}}}}",
            "http::endpoint: \"localhost:4318\" is taken for the path of a Unix socket",
        ),
        (
            "exporters: {otlp_http: {endpoint: 'https://a', tls: {insecure: true}}}",
            "tls::insecure: has no effect on https://; insecure_skip_verify",
        ),
        (
            "exporters: {otlp_http: {endpoint: 'http://a', tls: {ca_file: a}}}",
            "tls::ca_file: has no effect on http://, which is not encrypted",
        ),
        (
            "exporters: {otlp_grpc: {endpoint: 'a:1', tls: {curve_preferences: [X25519MLKEM768, P256]}}}",
            "tls::curve_preferences: X25519MLKEM768 is passed over: otlpd has X25519, P256, P384",
        ),
        (
            "exporters: {otlp_grpc: {endpoint: 'a:1', tls: {include_insecure_cipher_suites: true}}}",
            "tls::include_insecure_cipher_suites: has no effect in otlpd",
        ),
        ("exporters: {otlp_http: {endpoint: 'http://a', sending_queue: {storage: f}}}", "f is not among"),
        ("exporters: {otlp_http: {endpoint: 'http://a/v1/traces'}}", "is appended to it again"),
        ("exporters: {otlp_http: {endpoint: 'http://a', tls: {insecrue: true}}}", "did you mean \"insecure\"?"),
        ("service: {pipelines: {traces: {exporters: [debug, debug]}}}", "debug stands in it twice"),
        (
            "{exporters: {otlp_http: {endpoint: 'localhost:4318'}}, service: {pipelines: {traces: {exporters: [otlp_http]}}}}",
            "neither http:// nor https://",
        ),
        ("processors: {batch: {timeout: '${env:UNSET}'}}", "the environment variable UNSET is not set"),
        ("service: {telemetry: {metrics: {level: detailed}}}", "metrics::level: detailed shows what normal shows"),
        (
            "{exporters: {file: {path: x/a}, file/b: {path: ./x//a}, file/unused: {path: x/a}}, \
             service: {pipelines: {traces: {exporters: [file, file/b]}}}}",
            "exporters::file/b::path: exporters::file::path is the same file",
        ),
    ] {
        let loaded = minimal_with(more, &[]).unwrap_or_else(|report| panic!("{more}: {report}"));
        let texts: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(texts.len() == 1 && texts[0].contains(warning), "{more}: {texts:?}");
    }
}

#[test]
fn files_of_their_own_and_devices_are_not_warned_about() {
    for paths in [["a", "b"], ["/dev/null", "/dev/null"], ["a", "/a"]] {
        let more = format!(
            "{{exporters: {{file: {{path: {}}}, file/b: {{path: {}}}}}, \
             service: {{pipelines: {{traces: {{exporters: [file, file/b]}}}}}}}}",
            paths[0], paths[1]
        );
        assert_eq!(minimal_with(&more, &[]).expect("fine").warnings, [], "{paths:?}");
    }
}

#[test]
fn values_that_would_have_no_effect_or_a_bad_one_are_refused_by_name() {
    for (more, error) in [
        (
            "exporters: {file: {path: a, rotation: {max_megabytes: -1}}}",
            "rotation::max_megabytes: must not be negative",
        ),
        ("exporters: {file: {path: a, rotation: {max_days: -1}}}", "rotation::max_days: must not be negative"),
        ("exporters: {file: {path: a, rotation: {max_backups: -3}}}", "rotation::max_backups: must not be negative"),
        (
            "receivers: {otlp: {rate_limit: {rate: 5, window: 2s}}}",
            "rate_limit::window: has an effect only with algorithm: sliding_window",
        ),
        (
            "receivers: {otlp: {rate_limit: {rate: 5, algorithm: sliding_window, capacity: 2}}}",
            "rate_limit::capacity: has an effect only with algorithm: token_bucket",
        ),
        (
            "extensions: {bearertokenauth: {token: a, retry_on_failure: {enabled: true, interval: 1s}}}",
            "retry_on_failure::enabled: needs a filename",
        ),
        (
            "extensions: {bearertokenauth: {filename: a, retry_on_failure: {enabled: true}}}",
            "retry_on_failure::interval: must be above 0",
        ),
        (
            "extensions: {bearertokenauth: {filename: a, retry_on_failure: {enabled: true, interval: 1s, max_retries: -1}}}",
            "retry_on_failure::max_retries: must not be negative",
        ),
        (
            "extensions: {bearertokenauth: {filename: a, wait_for_token_file: true}}",
            "wait_for_token_file: needs retry_on_failure::enabled: true",
        ),
        ("extensions: {bearertokenauth: {tokens: a}}", "tokens: expected a list of strings, got a string"),
        (
            "extensions: {basicauth: {client_auth: {username: a, aws_secrets_manager: {}}}}",
            "client_auth::aws_secrets_manager: unknown key",
        ),
    ] {
        let found = minimal_with(more, &[]).expect_err(more).to_string();
        assert!(found.contains(error), "{more}: {found}");
    }
    let more = "receivers: {otlp: {rate_limit: {rate: 5, algorithm: sliding_window, window: 2s}}}";
    assert!(minimal_with(more, &[]).is_ok());
}

#[test]
fn settings_without_an_effect_give_one_warning() {
    let more = "service: {telemetry: {logs: {sampling: {initial: 1}, development: true}, traces: {level: none}}}";
    let loaded = minimal_with(more, &[]).expect("fine");
    let texts: Vec<_> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("service::telemetry::traces"), "{texts:?}");
}

#[test]
fn a_key_without_an_effect_is_named() {
    for (more, key) in [
        ("exporters: {otlp_http: {endpoint: 'http://a', max_conns_per_host: 3}}", "max_conns_per_host"),
        ("exporters: {otlp_http: {endpoint: 'http://a', force_attempt_http2: false}}", "force_attempt_http2"),
        ("exporters: {otlp_http: {endpoint: 'http://a', keepalive: {idle_conn_timeout: 1s}}}", "otlp_http::keepalive"),
        ("receivers: {otlp: {protocols: {http: {keepalive: {idle_timeout: 1s}}}}}", "http::keepalive"),
        (
            "processors: {attributes: {actions: [{key: a, action: delete}], include: {match_type: regexp, services: [a], regexp: {cacheenabled: true}}}}",
            "include::regexp",
        ),
        ("extensions: {health_check: {cors: {allowed_origins: ['*']}}}", "health_check::cors"),
        ("extensions: {health_check: {use_v2: true}}", "health_check::use_v2"),
    ] {
        let loaded = minimal_with(more, &[]).unwrap_or_else(|report| panic!("{more}: {report}"));
        let texts: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(texts.iter().any(|text| text.contains(key)), "{more}: {texts:?}");
    }
}

/// Every default in the tables is a value its key would take.
#[test]
fn the_tables_are_consistent() {
    fn visit(block: &'static Block, path: &str) {
        for field in block.fields() {
            let path = joined(path, field.name);
            let fits = match (field.kind, field.default) {
                (Kind::Block(inner) | Kind::Optional(inner, _) | Kind::Blocks(inner), Default::Zero) => {
                    visit(inner, &path);
                    true
                }
                (_, Default::Zero) | (Kind::Bool, Default::Bool(_)) | (Kind::Float, Default::Float(_)) => true,
                (Kind::Int, Default::Int(_)) | (Kind::Str, Default::Text(_)) => true,
                (Kind::Uint | Kind::Uint32, Default::Int(value)) => u32::try_from(value).is_ok(),
                (Kind::Strings, Default::Texts(_)) => true,
                (Kind::Duration, Default::Text(text)) => scalar::duration_ns(text).is_ok(),
                (Kind::Choice(words) | Kind::ChoiceAnyCase(words), Default::Text(text)) => words.contains(&text),
                (Kind::Level(levels), Default::Text(text)) => levels.iter().any(|(word, _)| *word == text),
                _ => false,
            };
            assert!(fits, "{path}: {field:?}");
        }
        for (old, _) in block.removed {
            assert!(block.field(old).is_none(), "{path}: {old} is a key and no longer one");
        }
    }
    for component in COMPONENTS {
        visit(component.block, component.name);
    }
    visit(&tables::SERVICE, "service");
    visit(&tables::PIPELINE, "pipeline");
}

#[test]
fn hostile_text_ends_soon() {
    let laughs: String = std::iter::once("a0: &a0 [lol]\n".to_owned())
        .chain((1..60).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))))
        .collect();
    let merges: String = std::iter::once("a0: &a0 {k: v}\n".to_owned())
        .chain((1..2000).map(|n| format!("a{n}: &a{n} {{<<: *a{}, k{n}: v}}\n", n - 1)))
        .collect();
    let mut texts = vec![
        laughs,
        merges,
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(50_000),
        "&a ".repeat(50_000),
        "a: ".repeat(50_000),
        "!!str ".repeat(50_000),
        format!("a: &x {}\nb: [{}]\n", "y".repeat(100_000), "*x, ".repeat(10_000)),
        format!("\"{}", "\\x41".repeat(100_000)),
        " ".repeat(yaml::TEXT_BYTES_MAX + 1),
        "::".repeat(20_000) + ": 1",
    ];
    texts.push(format!("a: '{}'", "${env:A}".repeat(100_000)));
    // Many keys, all different: fine as YAML, each refused by name.
    texts.push((0..20_000).map(|n| format!("key{n}: 1\n")).collect());
    for text in texts {
        let head: String = text.chars().take(20).collect();
        assert!(load(&sources(&[&format!("yaml:{text}")], &[], &[])).is_err(), "{head}");
    }
}

/// Text that looks like a configuration, so that the deeper stages are met too.
fn texts() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "receivers",
        "otlp",
        "protocols",
        "http",
        "grpc",
        "endpoint",
        "exporters",
        "debug",
        "service",
        "pipelines",
        "traces",
        "processors",
        "batch",
        "timeout",
        "attributes",
        "actions",
        "key",
        "tls",
        "<<",
        "${env:A}",
        "${A:-b}",
        "$$",
        "${yaml:",
        "}",
        "&a",
        "*a",
        "!!int",
        "0x1",
        "1e9",
        "2020-01-01",
        "-1s",
        "true",
        "null",
        "'",
        "\"",
        "|",
        ">",
        "[",
        "]",
        "{",
        "}",
        ",",
        ": ",
        ":\n",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "::",
        "#",
        "---\n",
        "?",
        "é",
        "\u{feff}",
        "\t",
        "\r\n",
        "enabled",
        "false",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300)
    ))]

    #[test]
    fn no_text_panics(text in texts()) {
        let environment = [("A", text.as_str())];
        let _ = load(&sources(&[&format!("yaml:{text}")], &[], &environment));
        let _ = load(&sources(&["env:A"], &[&text], &environment));
        let _ = expanded("'${env:A}'", &environment);
    }

    #[test]
    fn no_damage_to_a_configuration_panics(at in 0..MINIMAL.len(), len in 0..20_usize, insert in texts()) {
        let end = (at + len).min(MINIMAL.len());
        let text = format!("{}{insert}{}", &MINIMAL[..at], &MINIMAL[end..]);
        if let Ok(loaded) = load(&sources(&[&format!("yaml:{text}")], &[], &[("A", "1")])) {
            let shown = loaded.tree.print(Format::Yaml, true);
            let again = load(&sources(&[&format!("yaml:{shown}")], &[], &[]));
            prop_assert!(again.is_ok(), "{shown}\n{}", again.expect_err("not ok"));
        }
    }

    #[test]
    fn the_fuzz_target_holds(start in any::<u8>(), length in 0..20_u8, text in texts()) {
        fuzz::yaml(&[&[start, length], text.as_bytes()].concat());
    }

    #[test]
    fn any_text_survives_printing(text in any::<String>()) {
        let quoted = serde_json::Value::from(text.replace('$', "$$")).to_string();
        let more = format!("extensions: {{health_check: {{response_body: {{healthy: {quoted}}}}}}}");
        let Ok(loaded) = minimal_with(&more, &[]) else { return Ok(()) };
        let shown = loaded.tree.print(Format::Yaml, true);
        let again = load(&sources(&[&format!("yaml:{shown}")], &[], &[])).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(again.tree.print(Format::Yaml, true), shown);
    }

    #[test]
    fn durations_survive_printing(nanoseconds in any::<i64>()) {
        prop_assume!(nanoseconds != i64::MIN);
        prop_assert_eq!(scalar::duration_ns(&scalar::show_duration(nanoseconds)), Ok(nanoseconds));
    }
}
