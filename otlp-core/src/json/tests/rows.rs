//! One test for each row of the mapping, in the specification's words.

use super::*;

const HEX_16: Expected = Expected::Hex { bytes: 16 };

#[test]
fn json_01_ids_are_hex_in_any_case() {
    let trace: Vec<u8> = (0..16).map(|index| index * 16 + 0xa).collect();
    let span_id = &trace[..8];
    let lower = "0a1a2a3a4a5a6a7a8a9aaabacadaeafa";
    for trace_hex in [lower, &lower.to_uppercase(), "0A1a2A3a4A5a6A7a8A9aAaBaCaDaeaFa"] {
        let span_hex = &trace_hex[..16];
        let ids = format!("\"traceId\":\"{trace_hex}\",\"spanId\":\"{span_hex}\"");
        let span = span(&format!("{ids},\"parentSpanId\":\"{span_hex}\",\"links\":[{{{ids}}}]"));
        assert_eq!((&span.trace_id, &span.span_id[..], &span.parent_span_id[..]), (&trace, span_id, span_id));
        assert_eq!((&span.links[0].trace_id, &span.links[0].span_id[..]), (&trace, span_id));
        let log = log(&ids);
        assert_eq!((&log.trace_id, &log.span_id[..]), (&trace, span_id));
        let histogram = histogram(&format!("\"exemplars\":[{{{ids}}}]"));
        assert_eq!((&histogram.exemplars[0].trace_id, &histogram.exemplars[0].span_id[..]), (&trace, span_id));
    }
}

#[test]
fn json_02_other_characters_in_ids_are_refused() {
    for id in ["5B8EFFF798038103D269B633813FC60G", "5B8EFFF798038103D269B633813FC6 0", "äB8EFFF798038103D269B633813FC6"]
    {
        assert_eq!(span_error(&format!("\"traceId\":\"{id}\"")), (HEX_16, "traceId".into()));
    }
    assert_eq!(log_error("\"spanId\":7"), (Expected::Hex { bytes: 8 }, "spanId".into()));
}

#[test]
fn json_03_ids_of_another_length_are_refused_or_kept_when_asked() {
    for id in
        ["5B8EFFF798038103D269B633813FC6", "W47/95gDgQPSabYzgT/GDA==", "5B", "5B8EFFF798038103D269B633813FC60C00", "5"]
    {
        assert_eq!(span_error(&format!("\"traceId\":\"{id}\"")), (HEX_16, "traceId".into()));
    }
    let recorded = Limits { any_id_length: true, ..Limits::default() };
    let bytes = decode(Signal::Traces, span_json("\"traceId\":\"5B8EFF\"").as_bytes(), &recorded).unwrap();
    let request = ExportTraceServiceRequest::decode(&*bytes).unwrap();
    assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].trace_id, [0x5b, 0x8e, 0xff]);
    for wrong in ["5B8", "5x"] {
        let json = span_json(&format!("\"traceId\":\"{wrong}\""));
        let error = decode(Signal::Traces, json.as_bytes(), &recorded).unwrap_err();
        assert_eq!(error.expected, Expected::HexPairs);
    }
}

#[test]
fn json_04_empty_ids_are_taken() {
    assert_eq!(span("\"parentSpanId\":\"\",\"name\":\"x\"").parent_span_id, []);
    assert_eq!(log("\"traceId\":\"\",\"spanId\":\"\"").trace_id, []);
}

#[test]
fn json_05_enums_are_integers_also_unknown_ones() {
    for number in [0, 2, 5, 99, -7, i32::MAX, i32::MIN] {
        let span = span(&format!("\"kind\":{number},\"status\":{{\"code\":{number}}}"));
        assert_eq!((span.kind, span.status.unwrap().code), (number, number));
        assert_eq!(log(&format!("\"severityNumber\":{number}")).severity_number, number);
    }
    assert_eq!(span_error("\"kind\":2147483648"), (Expected::Enum, "kind".into()));
}

#[test]
fn json_06_enum_names_are_refused() {
    for name in ["SPAN_KIND_SERVER", "2", ""] {
        assert_eq!(span_error(&format!("\"kind\":\"{name}\"")), (Expected::Enum, "kind".into()));
    }
}

#[test]
fn json_07_unknown_keys_are_passed_over_at_every_level() {
    let unknown = [
        "1",
        "-1.5e3",
        "\"x\\n\\ud800é\"",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        "[1,[{},\"]\"],{\"}\":[null]}]",
        "{\"a\":{\"name\":\"x\",\"traceId\":7},\"a\":1}",
    ];
    let known = r##"{"resourceSpans":[{#"resource":{#"attributes":[{#"key":"k","value":{#"arrayValue":{#"values":[{#
        "stringValue":"v"#}]#}#}#}]#},"scopeSpans":[{#"scope":{#"name":"s"#},"spans":[{#"name":"n","status":{#"code":1#},
        "events":[{#"name":"e"#}],"links":[{#"flags":1#}]#}]#}]#}]#}"##;
    let clean = traces(&known.replace('#', ""));
    assert_eq!(clean.resource_spans[0].scope_spans[0].spans[0].name, "n");
    for value in unknown {
        // A `#` before or after a known member becomes an unknown one, with its comma on the right side.
        let mut json = String::new();
        for (index, part) in known.split('#').enumerate() {
            if index > 0 {
                let before = part.trim_start().starts_with('"');
                json.push_str(&if before { format!("\"un known\": {value} ,") } else { format!(",\"\":{value}") });
            }
            json.push_str(part);
        }
        assert_eq!(traces(&json), clean, "{json}");
    }
}

#[test]
fn json_07_what_is_unknown_is_still_json() {
    let table = [
        ("01", Expected::Value),
        ("1.", Expected::Value),
        ("-", Expected::Value),
        ("tru", Expected::Boolean),
        ("nul", Expected::Value),
        ("NaN", Expected::Value),
        ("'x'", Expected::Value),
        ("[1,]", Expected::Value),
        ("[1 2]", Expected::CommaOrEnd),
        ("{\"a\":1,}", Expected::Key),
        ("{a:1}", Expected::Key),
        ("{\"a\" 1}", Expected::Colon),
        ("[}", Expected::Value),
        ("\"\\x\"", Expected::Escape),
        ("\"\\u12g4\"", Expected::Escape),
        ("\"\t\"", Expected::NoControl),
        ("", Expected::Value),
    ];
    for (value, expected) in table {
        assert_eq!(span_error(&format!("\"unknown\":{value}")).0, expected, "{value}");
    }
}

#[test]
fn json_09_snake_case_keys_are_unknown() {
    assert_eq!(traces("{\"resource_spans\":[{\"scope_spans\":7}]}"), ExportTraceServiceRequest::default());
    assert_eq!(span("\"start_time_unix_nano\":\"5\",\"Name\":\"x\",\"name\":\"y\"").start_time_unix_nano, 0);
}

#[test]
fn json_10_11_12_integers_of_64_bits_are_exact() {
    for number in [0, 1, 9007199254740993, 1544712660300000001, 9999999999999999999, 10000000000000000000, u64::MAX] {
        for json in [format!("{number}"), format!("\"{number}\"")] {
            assert_eq!(span(&format!("\"startTimeUnixNano\":{json}")).start_time_unix_nano, number);
            let histogram = histogram(&format!("\"count\":{json},\"bucketCounts\":[{json} , 1]"));
            assert_eq!((histogram.count, histogram.bucket_counts), (number, vec![number, 1]));
            let metric = metric(&format!(
                "\"exponentialHistogram\":{{\"dataPoints\":[{{\"negative\":{{\"bucketCounts\":[{json}]}}}}]}}"
            ));
            let Some(metric::Data::ExponentialHistogram(data)) = metric.data else { panic!() };
            assert_eq!(data.data_points[0].negative.as_ref().unwrap().bucket_counts, [number]);
        }
    }
    for number in [i64::MIN, i64::MIN + 1, -9007199254740993, -1, 0, 7, 9007199254740993, i64::MAX] {
        for json in [format!("{number}"), format!("\"{number}\"")] {
            assert_eq!(kind(&format!("{{\"intValue\":{json}}}")), Some(Value::IntValue(number)));
            assert_eq!(point(&format!("\"asInt\":{json}")), Some(number_data_point::Value::AsInt(number)));
        }
    }
}

#[test]
fn json_13_what_is_no_integer_or_out_of_range_is_refused() {
    let wrong = [
        "\"\"",
        "\"abc\"",
        "1.5",
        "\"1.5\"",
        "-1",
        "18446744073709551616",
        "\"18446744073709551616\"",
        "1e20",
        "true",
        "{}",
        "[]",
        "\" 1\"",
        "\"1 \"",
        "\"+1\"",
        "\"01\"",
        "\"0x1\"",
        "\"NaN\"",
    ];
    for json in wrong {
        let expected = Expected::Integer { min: 0, max: u64::MAX };
        assert_eq!(span_error(&format!("\"startTimeUnixNano\":{json}")), (expected, "startTimeUnixNano".into()));
    }
    for json in ["9223372036854775808", "\"-9223372036854775809\"", "\"\"", "1.5"] {
        let expected = Expected::Integer { min: i64::MIN, max: i64::MAX as u64 };
        assert_eq!(log_error(&format!("\"body\":{{\"intValue\":{json}}}")), (expected, "body.intValue".into()));
    }
    for json in ["-1", "4294967296", "\"4294967296\"", "0.1"] {
        let expected = Expected::Integer { min: 0, max: u64::from(u32::MAX) };
        for field in ["flags", "droppedAttributesCount"] {
            assert_eq!(span_error(&format!("\"{field}\":{json}")), (expected, field.into()));
        }
    }
    for json in ["01", "+1", ".5", "1x"] {
        assert!(protobuf(Signal::Traces, &span_json(&format!("\"endTimeUnixNano\":{json}"))).is_err(), "{json}");
    }
}

#[test]
fn json_14_integers_may_have_an_exponent() {
    for json in ["1e3", "\"1e3\"", "1000.0", "10E+2", "\"100000e-2\"", "1000.000e0"] {
        assert_eq!(span(&format!("\"endTimeUnixNano\":{json}")).end_time_unix_nano, 1000);
        assert_eq!(span(&format!("\"flags\":{json}")).flags, 1000);
        assert_eq!(kind(&format!("{{\"intValue\":{json}}}")), Some(Value::IntValue(1000)));
    }
    assert_eq!(span("\"endTimeUnixNano\":1.5447126603e18").end_time_unix_nano, 1_544_712_660_300_000_000);
}

#[test]
fn json_15_doubles_are_numbers_or_strings() {
    let table = [
        ("0", 0.0),
        ("5", 5.0),
        ("-5", -5.0),
        ("1.5", 1.5),
        ("1.5e3", 1500.0),
        ("1E-3", 0.001),
        ("-0.0", -0.0),
        ("-0", -0.0),
        ("231361.82938450878", 231_361.829_384_508_78),
        ("1.7976931348623157e308", f64::MAX),
        ("5e-324", 5e-324),
        ("1e-400", 0.0),
        ("123456789012345678901234567890", 123_456_789_012_345_678_901_234_567_890.0),
    ];
    for (text, expected) in table {
        for json in [text.to_owned(), format!("\"{text}\"")] {
            let Some(Value::DoubleValue(value)) = kind(&format!("{{\"doubleValue\":{json}}}")) else {
                panic!("{json}")
            };
            assert_eq!(value.to_bits(), expected.to_bits(), "{json}");
            let Some(number_data_point::Value::AsDouble(value)) = point(&format!("\"asDouble\":{json}")) else {
                panic!("{json}")
            };
            assert_eq!(value.to_bits(), expected.to_bits(), "{json}");
        }
    }
    for json in
        ["1e999", "-1e999", "\"1e999\"", "\"\"", "\"nan\"", "\"inf\"", "\"1.\"", "true", "[]", "\"+1\"", "1.", "NaN"]
    {
        let (expected, path) = log_error(&format!("\"body\":{{\"doubleValue\":{json}}}"));
        assert_eq!((expected, path.as_str()), (Expected::Double, "body.doubleValue"), "{json}");
    }
}

#[test]
fn json_16_nan_and_the_infinities_are_strings() {
    let point = histogram(r#""sum":"NaN","min":"-Infinity","max":"Infinity","explicitBounds":[1,"Infinity"]"#);
    assert!(point.sum.unwrap().is_nan());
    assert_eq!((point.min, point.max), (Some(f64::NEG_INFINITY), Some(f64::INFINITY)));
    assert_eq!(point.explicit_bounds, [1.0, f64::INFINITY]);
    let Some(Value::DoubleValue(value)) = kind("{\"doubleValue\":\"NaN\"}") else { panic!() };
    assert!(value.is_nan());
}

#[test]
fn json_17_18_bytes_are_base64_of_either_alphabet() {
    let bytes = vec![0xfb, 0xff, 0xbf, 0x01];
    for text in ["+/+/AQ==", "-_-_AQ==", "+/+/AQ", "-_-_AQ", "+\\/+\\/AQ==", "\\u002b/+/AQ=="] {
        assert_eq!(kind(&format!("{{\"bytesValue\":\"{text}\"}}")), Some(Value::BytesValue(bytes.clone())), "{text}");
    }
}

#[test]
fn json_19_what_is_not_base64_is_refused() {
    for text in ["\"A\"", "\"!!!!\"", "\"AQ=\"", "\"AQ==AQ==\"", "\"A Q=\"", "7", "[]"] {
        let error = log_error(&format!("\"body\":{{\"bytesValue\":{text}}}"));
        assert_eq!(error, (Expected::Base64, "body.bytesValue".into()), "{text}");
    }
}

#[test]
fn json_20_21_null_is_as_if_absent() {
    let keys: Vec<String> = ["traceId", "name", "kind", "startTimeUnixNano", "flags", "attributes", "status", "events"]
        .iter()
        .map(|key| format!("\"{key}\": null"))
        .collect();
    assert_eq!(span(&keys.join(",")), Span::default());
    assert_eq!(value("null"), None);
    assert_eq!(kind("{\"stringValue\":null,\"intValue\":\"7\"}"), Some(Value::IntValue(7)));
    assert_eq!(kind("{\"intValue\":7,\"kvlistValue\":null}"), Some(Value::IntValue(7)));
    let point = histogram("\"sum\":null,\"count\":null,\"bucketCounts\":null,\"explicitBounds\":null");
    assert_eq!(point, Default::default());
    assert_eq!(metric("\"sum\":{\"isMonotonic\":null},\"gauge\":null").name, "");
    assert_eq!(traces("{\"resourceSpans\":null}"), ExportTraceServiceRequest::default());
    assert_eq!(traces("{\"resourceSpans\":[{\"resource\":null,\"scopeSpans\":null}]}").resource_spans.len(), 1);
}

#[test]
fn json_20_null_is_no_element_of_a_list() {
    assert_eq!(span_error("\"attributes\":[null]"), (Expected::Object, "attributes[0]".into()));
    assert_eq!(span_error("\"attributes\":[{\"key\":\"a\"},null]"), (Expected::Object, "attributes[1]".into()));
}

#[test]
fn json_22_values_of_all_seven_kinds_also_empty() {
    let nested = |value| Some(AnyValue { value: Some(value) });
    let table = [
        (r#"{"stringValue":"x"}"#, Value::StringValue("x".into())),
        (r#"{"stringValue":""}"#, Value::StringValue(String::new())),
        (r#"{"boolValue":true}"#, Value::BoolValue(true)),
        (r#"{"boolValue":false}"#, Value::BoolValue(false)),
        (r#"{"intValue":"0"}"#, Value::IntValue(0)),
        (r#"{"doubleValue":0}"#, Value::DoubleValue(0.0)),
        (r#"{"bytesValue":""}"#, Value::BytesValue(vec![])),
        (r#"{"arrayValue":{}}"#, Value::ArrayValue(ArrayValue::default())),
        (r#"{"arrayValue":{"values":[]}}"#, Value::ArrayValue(ArrayValue::default())),
        (r#"{"kvlistValue":{}}"#, Value::KvlistValue(KeyValueList::default())),
        (
            r#"{"arrayValue":{"values":[{},{"kvlistValue":{"values":[{"value":{"boolValue":false},"key":"k"},{}]}}]}}"#,
            Value::ArrayValue(ArrayValue {
                values: vec![
                    AnyValue { value: None },
                    AnyValue {
                        value: Some(Value::KvlistValue(KeyValueList {
                            values: vec![
                                KeyValue {
                                    key: "k".into(),
                                    value: nested(Value::BoolValue(false)),
                                    ..Default::default()
                                },
                                KeyValue::default(),
                            ],
                        })),
                    },
                ],
            }),
        ),
    ];
    for (json, expected) in table {
        assert_eq!(kind(json), Some(expected), "{json}");
    }
}

#[test]
fn json_23_a_value_without_a_kind_is_not_a_missing_value() {
    let span = span(r#""attributes":[{"key":"a","value":{}},{"key":"b"},{"key":"c","value":null},{}]"#);
    let values: Vec<_> = span.attributes.iter().map(|attribute| attribute.value.clone()).collect();
    assert_eq!(values, [Some(AnyValue { value: None }), None, None, None]);
}

#[test]
fn json_24_defaults_written_out_are_defaults() {
    let json =
        r#""traceId":"","name":"","kind":0,"startTimeUnixNano":"0","attributes":[],"droppedLinksCount":0,"flags":0"#;
    assert_eq!(
        decode(Signal::Traces, span_json(json).as_bytes(), &Limits::default()),
        protobuf(Signal::Traces, &span_json(""))
    );
}

#[test]
fn json_25_escapes_and_raw_text_are_the_same() {
    for (json, text) in [
        (r"aé\u0000\ud83d\uDDDD\u00e9z", "aé\0\u{1f5dd}\u{e9}z".to_owned()),
        ("🗝鍵ключ", "🗝鍵ключ".to_owned()),
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t".to_owned()),
        (r"\u007f\uffff", "\u{7f}\u{ffff}".to_owned()),
    ] {
        assert_eq!(span(&format!("\"name\":\"{json}\"")).name, text);
        // At every position relative to the words that are read at a time.
        for pad in 0..17 {
            let pad = "p".repeat(pad);
            assert_eq!(span(&format!("\"name\":\"{pad}{json}{pad}\"")).name, format!("{pad}{text}{pad}"));
        }
    }
}

#[test]
fn json_26_lone_surrogates_become_replacement_characters() {
    for (json, text) in [
        (r"a\ud83d", "a\u{fffd}"),
        (r"\ude00b", "\u{fffd}b"),
        (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (r"\ud83dx", "\u{fffd}x"),
        (r"\ud83d\n", "\u{fffd}\n"),
        (r"\ud83d\u0041", "\u{fffd}A"),
    ] {
        assert_eq!(span(&format!("\"name\":\"{json}\"")).name, text);
    }
    for json in [r"\ud83d\u12", r"\u", r"\u00", r"\ud83d\uzzzz", r"\U0041", r"\"] {
        assert!(protobuf(Signal::Traces, &span_json(&format!("\"name\":\"{json}\""))).is_err(), "{json}");
    }
}

#[test]
fn json_27_white_space_and_order_do_not_matter() {
    let compact = metric_json(
        r#""name":"m","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asInt":"1","timeUnixNano":"2"}]}"#,
    );
    let other = metric_json(
        "\n\t\"sum\" :\r\n{ \"dataPoints\" : [ { \"timeUnixNano\" : \"2\" , \"asInt\" : 1 } ] , \"isMonotonic\" : true,
        \"aggregationTemporality\" : 2 } , \"name\" : \"m\" ",
    );
    assert_eq!(metrics(&compact), metrics(&format!(" \n{other}\t ")));
}

#[test]
fn json_27_a_head_behind_its_items_is_put_before_them() {
    let json = r#"{"resourceLogs":[{"schemaUrl":"u","scopeLogs":[
        {"logRecords":[{"body":{"kvlistValue":{"values":[{"value":{"intValue":1},"key":"k"}]}}},{}],"schemaUrl":"v","scope":{"name":"s"}},{}],
        "resource":{"droppedAttributesCount":3}}]}"#;
    let request = logs(json);
    let resource = &request.resource_logs[0];
    assert_eq!(resource.resource.as_ref().unwrap().dropped_attributes_count, 3);
    assert_eq!((resource.schema_url.as_str(), resource.scope_logs[0].schema_url.as_str()), ("u", "v"));
    assert_eq!(resource.scope_logs[0].scope.as_ref().unwrap().name, "s");
    assert_eq!((resource.scope_logs.len(), resource.scope_logs[0].log_records.len()), (2, 2));
}

#[test]
fn json_28_a_known_key_twice_is_refused() {
    for (json, path) in [
        (r#""name":"a","kind":1,"name":"b""#, "name"),
        (r#""name":null,"name":"b""#, "name"),
        (r#""attributes":[],"attributes":[]"#, "attributes"),
        (r#""status":{},"status":{}"#, "status"),
        (r#""name":"a","n\u0061me":"b""#, "n\\u0061me"),
    ] {
        assert_eq!(span_error(json), (Expected::Once, path.into()));
    }
    let two = r#""body":{"stringValue":"a","intValue":1}"#;
    assert_eq!(log_error(two), (Expected::OneMember, "body.intValue".into()));
    assert_eq!(metric_error(r#""gauge":{},"sum":{}"#), (Expected::OneMember, "sum".into()));
}

#[test]
fn json_29_the_official_examples_keep_every_value() {
    let example = |name: &str| match name {
        "trace" => (Signal::Traces, include_str!("../../../tests/data/otlp-json/trace.json")),
        "metrics" => (Signal::Metrics, include_str!("../../../tests/data/otlp-json/metrics.json")),
        "logs" => (Signal::Logs, include_str!("../../../tests/data/otlp-json/logs.json")),
        _ => (Signal::Logs, include_str!("../../../tests/data/otlp-json/events.json")),
    };
    for name in ["trace", "metrics", "logs", "events"] {
        let (signal, json) = example(name);
        let bytes = protobuf(signal, json).unwrap();
        // Every string of the document, key or value, but for those that stand for a default, is in what is written.
        let written = encoded(signal, &bytes);
        for text in json.split('"').skip(1).step_by(2).filter(|text| !["scale", "zeroThreshold"].contains(text)) {
            assert!(written.to_lowercase().contains(&format!("\"{}\"", text.to_lowercase())), "{name}: {text}");
        }
        let again = decode(signal, written.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(encoded(signal, &again), written);
    }
    let (_, json) = example("trace");
    let request = traces(json);
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((span.name.as_str(), span.kind, span.end_time_unix_nano), ("I'm a server span", 2, 1544712661000000000));
    assert_eq!(span.trace_id[..4], [0x5b, 0x8e, 0xff, 0xf7]);
    let (_, json) = example("logs");
    let request = logs(json);
    let log = &request.resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((log.severity_number, log.attributes.len(), log.span_id[0]), (10, 6, 0xee));
    assert_eq!(log.attributes[3].value.as_ref().unwrap().value, Some(Value::DoubleValue(637.704)));
    let (_, json) = example("metrics");
    let request = metrics(json);
    let list = &request.resource_metrics[0].scope_metrics[0].metrics;
    let Some(metric::Data::ExponentialHistogram(data)) = &list[3].data else { panic!() };
    let point = &data.data_points[0];
    assert_eq!((point.count, point.sum, point.min, point.max), (3, Some(10.0), Some(0.0), Some(5.0)));
    assert_eq!(point.positive.as_ref().unwrap().bucket_counts, [0, 2]);
    let (_, json) = example("events");
    assert_eq!(logs(json).resource_logs[0].scope_logs[0].log_records[0].event_name, "browser.page_view");
}

#[test]
fn json_30_31_35_only_one_object_is_a_document() {
    let table = [
        ("", Expected::Object, 0),
        ("  ", Expected::Object, 2),
        ("[]", Expected::Object, 0),
        ("\"x\"", Expected::Object, 0),
        ("1", Expected::Object, 0),
        ("null", Expected::Object, 0),
        ("{} x", Expected::Nothing, 3),
        ("{}{}", Expected::Nothing, 2),
        ("{},", Expected::Nothing, 2),
        ("{", Expected::Key, 1),
        ("{\"resourceSpans\"", Expected::Colon, 16),
        ("{\"resourceSpans\":[", Expected::Object, 18),
        ("{\"x", Expected::Quote, 3),
    ];
    for (json, expected, offset) in table {
        for signal in Signal::ALL {
            if json.contains("Spans") && signal != Signal::Traces {
                continue;
            }
            let error = protobuf(signal, json).unwrap_err();
            assert_eq!((error.expected, error.offset, error.ended), (expected, offset, offset == json.len()), "{json}");
        }
    }
    assert_eq!(protobuf(Signal::Logs, " {} \n"), Ok(vec![]));
}

#[test]
fn json_32_integers_of_32_bits_are_numbers_or_strings() {
    for json in ["4294967295", "\"4294967295\""] {
        let span = span(&format!("\"flags\":{json},\"droppedEventsCount\":{json}"));
        assert_eq!((span.flags, span.dropped_events_count), (u32::MAX, u32::MAX));
    }
    for number in [i32::MIN, -1, 0, 3, i32::MAX] {
        for json in [format!("{number}"), format!("\"{number}\"")] {
            let metric = metric(&format!(
                "\"exponentialHistogram\":{{\"dataPoints\":[{{\"scale\":{json},\"positive\":{{\"offset\":{json}}}}}]}}"
            ));
            let Some(metric::Data::ExponentialHistogram(data)) = metric.data else { panic!() };
            assert_eq!(
                (data.data_points[0].scale, data.data_points[0].positive.clone().unwrap().offset),
                (number, number)
            );
        }
    }
}

#[test]
fn json_33_booleans_are_true_or_false() {
    for json in ["\"true\"", "1", "0", "True", "t", "{}"] {
        assert_eq!(
            metric_error(&format!("\"sum\":{{\"isMonotonic\":{json}}}")),
            (Expected::Boolean, "sum.isMonotonic".into())
        );
    }
}

#[test]
fn json_34_zeros_that_are_present_stay_present() {
    let point = histogram("\"sum\":0,\"min\":0,\"max\":-0.0");
    assert_eq!((point.sum, point.min), (Some(0.0), Some(0.0)));
    assert_eq!(point.max.unwrap().to_bits(), (-0.0f64).to_bits());
    assert_eq!(histogram("\"count\":0").sum, None);
    assert_eq!(self::point("\"asInt\":\"0\""), Some(number_data_point::Value::AsInt(0)));
    assert_eq!(self::point("\"asDouble\":0"), Some(number_data_point::Value::AsDouble(0.0)));
    assert_eq!(self::point(""), None);
    assert!(span("\"status\":{}").status.is_some());
    assert_eq!(metric("\"gauge\":{}").data, Some(metric::Data::Gauge(Default::default())));
}

#[test]
fn json_36_keys_are_matched_after_their_escapes_are_resolved() {
    let span = span(r#""trace\u0049d":"5b8efff798038103d269b633813fc60c","\u006e\u0061\u006de":"x","\u006b":0"#);
    assert_eq!((span.trace_id.len(), span.name.as_str()), (16, "x"));
}

#[test]
fn json_38_a_byte_order_mark_is_passed_over() {
    assert_eq!(protobuf(Signal::Traces, "\u{feff}{\"resourceSpans\":[]}"), Ok(vec![]));
    assert_eq!(protobuf(Signal::Traces, "\u{feff}\u{feff}{}").unwrap_err().offset, 3);
}

#[test]
fn json_39_what_is_not_utf_8_is_refused() {
    let table: &[&[u8]] =
        &[b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xc3\\n", b"a\xe9bcdefghijk"];
    for bad in table {
        for key in ["name", "unknown"] {
            let json = [span_json(&format!("\"{key}\":\"")).trim_end_matches("}]}]}]}").as_bytes(), bad, b"\"}]}]}]}"]
                .concat();
            verify::document(Signal::Traces, &json);
            let error = decode(Signal::Traces, &json, &Limits::default()).unwrap_err();
            assert_eq!(error.expected, Expected::Utf8);
            assert!(error.path.ends_with(key), "{error}");
        }
    }
    // In a key and between tokens.
    assert_eq!(decode(Signal::Traces, b"{\"\xff\":1}", &Limits::default()).unwrap_err().expected, Expected::Utf8);
    assert!(decode(Signal::Traces, b"{\xc3\xa9}", &Limits::default()).is_err());
}

#[test]
fn err_10_protobuf_is_not_json_nor_json_protobuf() {
    for signal in Signal::ALL {
        let request = generate::request(signal, 1, 3);
        assert_eq!(decode(signal, &request, &Limits::default()).unwrap_err().expected, Expected::Object);
        let json = encoded(signal, &request);
        assert!(wire::validate(signal, json.as_bytes(), &wire::Limits::default()).is_err());
    }
}

#[test]
fn err_13_values_of_the_wrong_type_are_refused_with_their_path() {
    let error = protobuf(Signal::Traces, "{\"resourceSpans\":\"x\"}").unwrap_err();
    assert_eq!((error.expected, error.path.as_str(), error.offset), (Expected::Array, "resourceSpans", 17));
    assert_eq!(span_error("\"name\":{}"), (Expected::Text, "name".into()));
    assert_eq!(span_error("\"attributes\":{}"), (Expected::Array, "attributes".into()));
    assert_eq!(span_error("\"status\":[]"), (Expected::Object, "status".into()));
    assert_eq!(log_error("\"body\":\"text\""), (Expected::Object, "body".into()));
    assert_eq!(
        span_error(r#""attributes":[{"key":"a"},{"key":"b","value":{"arrayValue":{"values":[{},{"boolValue":1}]}}}]"#),
        (Expected::Boolean, "attributes[1].value.arrayValue.values[1].boolValue".into())
    );
    assert_eq!(
        protobuf(Signal::Traces, &span_json("\"traceId\":\"5b\"")).unwrap_err().to_string(),
        "cannot decode the JSON at byte 54, in resourceSpans[0].scopeSpans[0].spans[0].traceId: \
         expected 32 hex digits or an empty string"
    );
}

#[test]
fn nesting_is_bounded_as_on_the_wire() {
    let nest = |levels: usize| {
        let (open, close) = ("{\"arrayValue\":{\"values\":[", "]}}");
        log_json(&format!("\"body\":{}{}{}", open.repeat(levels), "{}", close.repeat(levels)))
    };
    // The body of a log record is the fourth message below the request, and each array adds two.
    assert!(protobuf(Signal::Logs, &nest(48)).is_ok());
    assert_eq!(protobuf(Signal::Logs, &nest(49)).unwrap_err().expected, Expected::Depth);
    let unknown = |levels: usize| format!("{{\"x\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    assert!(protobuf(Signal::Logs, &unknown(100)).is_ok());
    assert_eq!(protobuf(Signal::Logs, &unknown(101)).unwrap_err().expected, Expected::Depth);
    for hostile in ["[", "{\"a\":", "{\"x\":[{\"\":"] {
        let json = format!("{{\"x\":{}", hostile.repeat(1_000_000));
        let error = decode(Signal::Traces, json.as_bytes(), &Limits::default()).unwrap_err();
        assert_eq!(error.expected, Expected::Depth);
    }
    let limits = Limits { depth_max: 4, ..Limits::default() };
    assert!(decode(Signal::Logs, nest(0).as_bytes(), &limits).is_ok());
    assert_eq!(decode(Signal::Logs, nest(1).as_bytes(), &limits).unwrap_err().expected, Expected::Depth);
}

#[test]
fn the_protobuf_form_is_bounded() {
    let zeros = vec!["0"; 1000].join(",");
    let json = metric_json(&format!("\"histogram\":{{\"dataPoints\":[{{\"explicitBounds\":[{zeros}]}}]}}"));
    let limits = |protobuf_bytes_max| Limits { protobuf_bytes_max, ..Limits::default() };
    let whole = decode(Signal::Metrics, json.as_bytes(), &limits(9000)).unwrap();
    assert!(decode(Signal::Metrics, json.as_bytes(), &limits(whole.len())).is_ok());
    for bytes_max in [0, 10, 5000, whole.len() - 1] {
        let error = decode(Signal::Metrics, json.as_bytes(), &limits(bytes_max)).unwrap_err();
        assert_eq!(error.expected, Expected::Smaller { protobuf_bytes_max: bytes_max });
    }
}

#[test]
fn plain_attributes_and_others_are_read_alike() {
    let read = |attribute: &str| protobuf(Signal::Traces, &span_json(&format!("\"attributes\":[{attribute},{{}}]")));
    let mut attributes = vec![
        r#"{"key":"","value":{"stringValue":"v"}}"#.to_owned(),
        r#"{"key":"k","value":{"stringValue":""}}"#.to_owned(),
        r#"{"key":"k","value":{"stringValue":"é"}}"#.to_owned(),
        r#"{"key":"k\n","value":{"stringValue":"v"}}"#.to_owned(),
        r#"{"key":"k","value":{"intValue":"9223372036854775807"}}"#.to_owned(),
        r#"{"key":"k","value":{"intValue":-1}}"#.to_owned(),
        r#"{"key":"k","value":{"intValue":1e2}}"#.to_owned(),
        r#"{"key":"k","value":{"intValue":null}}"#.to_owned(),
        r#"{"key":"k","value":{"boolValue":true}}"#.to_owned(),
        r#"{"key":"k","value":{"stringValue":"v","x":1}}"#.to_owned(),
        r#"{"key":"k","value":{"intValue":1,"x":1}}"#.to_owned(),
        r#"{"key":"k","value":{"stringValue":"v"},"x":1}"#.to_owned(),
    ];
    for len in (0..20).chain(100..140) {
        let long = "x".repeat(len);
        attributes.push(format!(r#"{{"key":"k","value":{{"stringValue":"{long}"}}}}"#));
        attributes.push(format!(r#"{{"key":"{long}","value":{{"intValue":"5"}}}}"#));
    }
    for attribute in attributes {
        // White space keeps it from the plain way.
        let other = attribute.replacen('{', "{ ", 1);
        assert_eq!(read(&attribute).unwrap(), read(&other).unwrap(), "{attribute}");
    }
    for wrong in [
        r#"{"key":"k","value":{"intValue":"x"}}"#,
        r#"{"key":"k","value":{"intValue":9223372036854775808}}"#,
        r#"{"key":"k","value":{"stringValue":"v"}"#,
        r#"{"key":"k","value":{"stringValue":"v}}"#,
        r#"{"key":"k","value":{"stringValue":"v","intValue":1}}"#,
        r#"{"key":"k","key":"k"}"#,
    ] {
        let (plain, other) = (read(wrong).unwrap_err(), read(&wrong.replacen('{', "{ ", 1)).unwrap_err());
        assert_eq!((plain.expected, &plain.path, plain.offset + 1), (other.expected, &other.path, other.offset));
    }
    // The value of a span's attribute is the fifth message below the request.
    for depth_max in 0..7 {
        let json = span_json(r#""attributes":[{"key":"k","value":{"stringValue":"v"}}]"#);
        let result = decode(Signal::Traces, json.as_bytes(), &Limits { depth_max, ..Limits::default() });
        assert_eq!(result.is_ok(), depth_max >= 5, "{depth_max}");
    }
}

#[test]
fn a_large_text_far_down_comes_back() {
    let text = "x".repeat(70_000);
    let (open, close) = ("{\"arrayValue\":{\"values\":[", "]}}");
    let value = format!("{}{{\"stringValue\":\"{text}\"}}{}", open.repeat(45), close.repeat(45));
    let json = log_json(&format!("\"body\":{value}"));
    let bytes = protobuf(Signal::Logs, &json).unwrap();
    assert_eq!(encoded(Signal::Logs, &bytes), json);
    assert!(bytes.len() < 71_000);
}
