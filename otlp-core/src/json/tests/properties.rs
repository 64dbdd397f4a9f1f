//! What holds for all requests: generated, odd, mutated and random.

use super::*;

/// How many cases; `OTLPD_CASES` asks for more.
fn cases(default: u64) -> u64 {
    std::env::var("OTLPD_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The request as prost sees it, in bytes of a fixed order.
fn oracle<R: prost::Message + Default>(bytes: &[u8]) -> Vec<u8> {
    R::decode(bytes).unwrap().encode_to_vec()
}

fn typed(signal: Signal, bytes: &[u8]) -> Vec<u8> {
    match signal {
        Signal::Traces => oracle::<ExportTraceServiceRequest>(bytes),
        Signal::Metrics => oracle::<ExportMetricsServiceRequest>(bytes),
        Signal::Logs => oracle::<ExportLogsServiceRequest>(bytes),
    }
}

#[test]
fn what_is_written_reads_back_as_it_was() {
    let recorded = Limits { any_id_length: true, ..Limits::default() };
    for signal in Signal::ALL {
        for seed in 0..cases(2_000) {
            let request = generate::ugly(signal, seed);
            verify::protobuf(signal, &request);
            let json = encoded(signal, &request);
            let again = decode(signal, json.as_bytes(), &recorded).unwrap();
            // As prost sees both. JSON makes all NaNs the same.
            let (before, after) = (typed(signal, &request), typed(signal, &again));
            assert_eq!(encoded(signal, &after), encoded(signal, &before), "{signal:?} {seed}");
            assert!(before == after || has_nan(&json), "{signal:?} {seed}\n{json}");
        }
        for items in [0, 1, 7, 100] {
            let request = generate::request(signal, 3, items);
            let json = encoded(signal, &request);
            let again = decode(signal, json.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(typed(signal, &again), typed(signal, &request));
        }
    }
}

fn has_nan(json: &str) -> bool {
    json.contains("\"NaN\"")
}

/// A document after a few cuts, copies and changed bytes: most are near enough to JSON to get far.
fn mutate(json: &[u8], random: &mut Random) -> Vec<u8> {
    const WORDS: &[&[u8]] = &[
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"null",
        b"\\",
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"-",
        b"0",
        b"\xff",
        b"\xc3\xa9",
        b"true",
        b"\"NaN\"",
        b" ",
        b"\n",
        b"99999999999999999999",
        b"1e3",
        b"\"\"",
        b"{}",
        b"[]",
        b".5",
    ];
    let mut json = json.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.index(json.len() + 1);
        let end = (at + random.index(12)).min(json.len());
        match random.below(5) {
            0 => drop(json.drain(at..end)),
            1 => drop(json.splice(at..at, WORDS[random.index(WORDS.len())].iter().copied())),
            2 => drop(json.splice(at..end, WORDS[random.index(WORDS.len())].iter().copied())),
            3 => {
                if let Some(byte) = json.get_mut(at) {
                    *byte = random.bits() as u8;
                }
            }
            _ => json.truncate(if random.once_in(4) { at } else { json.len() }),
        }
    }
    json
}

#[test]
fn no_bytes_make_it_panic_or_lie() {
    for signal in Signal::ALL {
        let mut random = Random::new(11);
        let mut taken = 0;
        for seed in 0..cases(3_000) {
            let mut json = encoded(signal, &generate::ugly(signal, seed)).into_bytes();
            json.truncate(20_000);
            let json = mutate(&json, &mut random);
            verify::document(signal, &json);
            verify::protobuf(signal, &json);
            taken += u32::from(decode(signal, &json, &Limits::default()).is_ok());
            let bytes = mutate(&generate::ugly(signal, seed), &mut random);
            verify::protobuf(signal, &bytes);
            verify::document(signal, &bytes);
        }
        assert!(taken > 20, "{taken} documents were still taken");
    }
}

#[test]
fn a_document_cut_short_is_refused_at_its_end() {
    for signal in Signal::ALL {
        let json = encoded(signal, &generate::request(signal, 5, 2));
        for len in 0..json.len() {
            let error = decode(signal, &json.as_bytes()[..len], &Limits::default()).unwrap_err();
            // A literal or number that is cut is wrong from its first byte on.
            assert!(error.offset <= len && len - error.offset < 64, "{error} of {len}");
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: cases(500) as u32, failure_persistence: None, ..Default::default() })]

    #[test]
    fn texts_keys_and_numbers_of_all_kinds_come_back(
        text in ".{0,40}",
        bits in proptest::num::u64::ANY,
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let kinds = [
            Value::StringValue(text.clone()),
            Value::IntValue(bits as i64),
            Value::DoubleValue(f64::from_bits(bits)),
            Value::BytesValue(bytes),
            Value::BoolValue(bits & 1 == 1),
        ];
        let attributes = kinds
            .into_iter()
            .map(|kind| KeyValue { key: text.clone(), value: Some(AnyValue { value: Some(kind) }), ..Default::default() })
            .collect();
        let span = Span { name: text, start_time_unix_nano: bits, flags: bits as u32, kind: bits as i32, attributes, ..Default::default() };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![opentelemetry_proto::tonic::trace::v1::ResourceSpans {
                scope_spans: vec![opentelemetry_proto::tonic::trace::v1::ScopeSpans { spans: vec![span], ..Default::default() }],
                ..Default::default()
            }],
        };
        let json = encoded(Signal::Traces, &request.encode_to_vec());
        let again = protobuf(Signal::Traces, &json).unwrap();
        let again = ExportTraceServiceRequest::decode(&*again).unwrap();
        if f64::from_bits(bits).is_nan() {
            proptest::prop_assert!(has_nan(&json));
        } else {
            proptest::prop_assert_eq!(again, request);
        }
    }
}
