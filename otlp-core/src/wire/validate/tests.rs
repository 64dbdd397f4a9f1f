use super::*;
use crate::testing::generate;
use crate::wire::reader::{self, LEN};
use crate::wire::schema::{Kind, Message};
use crate::wire::writer::{put_delimited, put_tag, put_varint};

fn check(signal: Signal, bytes: &[u8]) -> Result<Checked, Malformed> {
    let limits = Limits::default();
    let checked = validate(signal, bytes, &limits);
    let table = table::validate(signal, bytes, limits.depth_max);
    assert_eq!(checked, table, "the two validators agree");
    checked
}

/// Wraps a message into the fields of these numbers, the last one innermost.
fn nest(path: &[u32], body: &[u8]) -> Vec<u8> {
    path.iter().rev().fold(body.to_vec(), |body, field| {
        let mut out = Vec::new();
        put_delimited(&mut out, *field, &body);
        out
    })
}

fn span(body: &[u8]) -> Result<Checked, Malformed> {
    check(Signal::Traces, &nest(&[1, 2, 2], body))
}

#[test]
fn realistic_requests_are_canonical_and_counted() {
    for signal in Signal::ALL {
        for items in [0, 1, 20, 100] {
            let body = generate::request(signal, 1, items);
            for body in [generate::in_collector_order(signal, &body), body] {
                let checked = check(signal, &body).unwrap();
                assert_eq!(checked.items, ItemCount::from(items));
                assert!(checked.canonical && checked.invalid_ids == ItemCount::ZERO);
            }
        }
    }
}

#[test]
fn faults_are_named_and_placed() {
    let name = nest(&[1, 2, 2, 5], b"ab\xff");
    let table: &[(&str, Vec<u8>, Fault, usize, &str)] = &[
        ("not utf-8", name, Fault::Utf8, 10, "resource_spans[0].scope_spans[0].spans[0].name"),
        ("field 0", vec![0x02, 0x00], Fault::Tag, 0, ""),
        ("wire type 7", vec![0x4f], Fault::WireType, 0, ""),
        ("wire type 6 of a known field", vec![0x0e], Fault::WireType, 0, "resource_spans[0]"),
        ("stray group end", vec![0x4c], Fault::Group, 0, ""),
        ("known field with another wire type", vec![0x08, 0x01], Fault::WireType, 0, "resource_spans[0]"),
        ("cut short", vec![0x0a, 0x02, 0x12], Fault::Truncated, 0, "resource_spans[0]"),
        (
            "second resource, second scope, kind cut short",
            [nest(&[1], b""), nest(&[1], &[nest(&[2], b""), nest(&[2, 2], &[0x30])].concat())].concat(),
            Fault::Truncated,
            10,
            "resource_spans[1].scope_spans[1].spans[0].kind",
        ),
    ];
    for (case, bytes, fault, offset, path) in table {
        let malformed = check(Signal::Traces, bytes).unwrap_err();
        assert_eq!((malformed.fault, malformed.offset, malformed.path.as_str()), (*fault, *offset, *path), "{case}");
    }
}

#[test]
fn ids_are_counted_not_refused() {
    let ids = |trace: &[u8], span: &[u8], fields: [u32; 2]| {
        let mut body = Vec::new();
        put_delimited(&mut body, fields[0], trace);
        put_delimited(&mut body, fields[1], span);
        body
    };
    let table: &[(&[u8], &[u8], u64, u64)] = &[
        (&[1; 16], &[1; 8], 0, 0),
        (&[0; 16], &[1; 8], 1, 1),
        (&[1; 16], &[0; 8], 1, 1),
        (&[1; 15], &[1; 8], 1, 1),
        (&[1; 16], &[1; 9], 1, 1),
        (&[1; 16], &[], 1, 0),
        (&[], &[], 1, 0),
    ];
    for (trace, span_id, of_span, of_log) in table {
        // With and without more bytes behind, for both ways of reading ids.
        for tail in [&[][..], &[0x2a, 12, b'n', b'a', b'm', b'e', b'n', b'a', b'm', b'e', b'n', b'a', b'm', b'e']] {
            let body = [&ids(trace, span_id, [1, 2]), tail].concat();
            assert_eq!(span(&body).unwrap().invalid_ids, ItemCount(*of_span), "{trace:?} {span_id:?}");
        }
        let log = check(Signal::Logs, &nest(&[1, 2, 2], &ids(trace, span_id, [9, 10]))).unwrap();
        assert_eq!(log.invalid_ids, ItemCount(*of_log), "{trace:?} {span_id:?}");
    }
    assert_eq!(span(&[]).unwrap().invalid_ids, ItemCount(1));
}

#[test]
fn shapes_that_are_not_canonical_are_recognised() {
    let attribute = |body: &[u8]| nest(&[1, 2, 2, 9], body);
    let point = |data: u32, body: &[u8]| nest(&[1, 2, 2, data, 1], body);
    let table: &[(&str, Signal, Vec<u8>, bool)] = &[
        ("one resource", Signal::Traces, nest(&[1, 1], b""), true),
        ("two resources", Signal::Traces, nest(&[1], &[0x0a, 0, 0x0a, 0]), false),
        ("resource last", Signal::Traces, nest(&[1], &[0x12, 0, 0x0a, 0]), true),
        ("schema url first", Signal::Traces, nest(&[1], &[0x1a, 0, 0x0a, 0, 0x12, 0]), true),
        ("scope last", Signal::Logs, nest(&[1, 2], &[0x12, 0, 0x0a, 0]), true),
        ("key, value", Signal::Traces, attribute(&[0x0a, 1, b'k', 0x12, 2, 0x10, 1]), true),
        ("value, key", Signal::Traces, attribute(&[0x12, 2, 0x10, 1, 0x0a, 1, b'k']), true),
        ("two keys", Signal::Traces, attribute(&[0x0a, 1, b'k', 0x0a, 1, b'l']), false),
        ("two kinds of value", Signal::Traces, attribute(&[0x12, 4, 0x10, 1, 0x18, 1]), false),
        ("two statuses", Signal::Traces, nest(&[1, 2, 2], &[0x7a, 0, 0x7a, 0]), false),
        ("two names", Signal::Traces, nest(&[1, 2, 2], &[0x2a, 0, 0x2a, 0]), false),
        ("unknown fields", Signal::Traces, nest(&[1, 2, 2], &[0xa3, 1, 0xa4, 1, 0xa0, 1, 0, 0xa0, 1, 0]), true),
        ("gauge and sum", Signal::Metrics, nest(&[1, 2, 2], &[0x2a, 0, 0x3a, 0]), false),
        ("packed counts", Signal::Metrics, point(9, &[&[0x32, 8][..], &[0; 8]].concat()), true),
        ("unpacked counts", Signal::Metrics, point(9, &[&[0x31][..], &[0; 8]].concat()), false),
        ("unpacked bounds", Signal::Metrics, point(9, &[&[0x39][..], &[0; 8]].concat()), false),
        ("packed twice", Signal::Metrics, point(10, &nest(&[8], &[0x12, 0, 0x12, 0])), false),
        ("unpacked buckets", Signal::Metrics, point(10, &nest(&[8], &[0x10, 1])), false),
        ("positive twice", Signal::Metrics, point(10, &[0x42, 0, 0x42, 0]), false),
    ];
    for (case, signal, bytes, canonical) in table {
        assert_eq!(check(*signal, bytes).unwrap().canonical, *canonical, "{case}");
    }
}

#[test]
fn nesting_is_bounded_at_the_limit_exactly() {
    // Request, resource, scope, span, attribute, value stand at 100 to 95; each array and value below take one more.
    let nested = |arrays: usize| nest(&[1, 2, 2, 9, 2], &nest(&[5, 1].repeat(arrays), b""));
    assert!(check(Signal::Traces, &nested(47)).is_ok());
    assert_eq!(check(Signal::Traces, &nested(48)).unwrap_err().fault, Fault::Depth);
    assert_eq!(check(Signal::Traces, &nested(20_000)).unwrap_err().fault, Fault::Depth);
    let mut groups = Vec::new();
    for _ in 0..20_000 {
        put_tag(&mut groups, 99, crate::wire::reader::GROUP_START);
    }
    assert_eq!(check(Signal::Traces, &groups).unwrap_err().fault, Fault::Depth);
    let shallow = Limits { depth_max: 4 };
    assert_eq!(validate(Signal::Traces, &nested(0), &shallow).unwrap_err().fault, Fault::Depth);
    assert!(validate(Signal::Traces, &nest(&[1, 2, 2], b""), &shallow).is_ok());
}

#[test]
fn string_indexes_and_legacy_scopes_are_noticed() {
    let mut body = Vec::new();
    put_tag(&mut body, 3, 0);
    put_varint(&mut body, 7);
    let checked = check(Signal::Traces, &nest(&[1, 2, 2, 9], &body)).unwrap();
    assert_eq!(checked.string_indexes, 1);
    let checked = check(Signal::Logs, &nest(&[1, 2, 2, 5], &[0x40, 3])).unwrap();
    assert_eq!(checked.string_indexes, 1);
    let mut resource = Vec::new();
    put_tag(&mut resource, 1000, LEN);
    put_varint(&mut resource, 0);
    assert!(check(Signal::Traces, &nest(&[1], &resource)).unwrap().legacy);
    assert!(!check(Signal::Traces, &nest(&[1, 2], &resource)).unwrap().legacy);
}

#[test]
fn packed_varints_are_checked_at_every_length_and_position() {
    let buckets = |list: &[u8]| check(Signal::Metrics, &nest(&[1, 2, 2, 10, 1, 8, 2], list)).is_ok();
    for before in 0..20 {
        for continued in 0..12 {
            for last in [0, 1, 2, 0x7f, 0x80] {
                for after in [0, 1, 7, 9] {
                    let list = [&vec![1; before][..], &vec![0x80; continued], &[last], &vec![1; after]].concat();
                    let mut at = 0;
                    let mut legal = true;
                    while legal && at < list.len() {
                        legal = crate::wire::reader::varint(&list, &mut at).is_ok();
                    }
                    assert_eq!(buckets(&list), legal, "{list:02x?}");
                }
            }
        }
    }
}

#[test]
fn both_validators_find_the_same_in_damaged_requests() {
    let cases = std::env::var("OTLPD_CASES").map_or(100_000, |cases| cases.parse().unwrap());
    let mut canonical = [0, 0];
    for case in 0..cases {
        let signal = Signal::ALL[(case % 3) as usize];
        let mut body = generate::ugly(signal, case).to_vec();
        if case.is_multiple_of(2) {
            crate::testing::mutate::mutate(&mut crate::testing::random::Random::new(case), &mut body);
        }
        if let Ok(checked) = check(signal, &body) {
            canonical[usize::from(checked.canonical)] += 1;
        }
    }
    assert!(canonical.iter().all(|count| count * 100 > cases), "{canonical:?} of {cases}");
}

#[test]
fn both_validators_and_prost_judge_usual_requests_alike_whatever_byte_is_changed() {
    let (mut accepted, mut refused) = (0, 0);
    for signal in Signal::ALL {
        for seed in 0..2 {
            let usual = generate::request(signal, seed, 2);
            for body in [generate::in_collector_order(signal, &usual), usual] {
                let mut body = body.to_vec();
                for at in 0..body.len() {
                    let was = body[at];
                    for byte in [
                        0,
                        1,
                        2,
                        0x0a,
                        0x12,
                        0x22,
                        0x7f,
                        0x80,
                        0xff,
                        was ^ 0x80,
                        was.wrapping_add(1),
                        was.wrapping_sub(1),
                    ] {
                        body[at] = byte;
                        let judged = check(signal, &body).is_ok();
                        assert_eq!(judged, prost_accepts(signal, &body), "{signal} {seed}: {byte} at {at}");
                        *if judged { &mut accepted } else { &mut refused } += 1;
                    }
                    body[at] = was;
                }
                for length in 0..body.len() {
                    assert_eq!(check(signal, &body[..length]).is_ok(), prost_accepts(signal, &body[..length]));
                }
            }
        }
    }
    assert!(accepted > 5_000 && refused > 5_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn fields_around_what_a_span_usually_begins_or_ends_with_count_once() {
    let body = generate::request(Signal::Traces, 3, 1);
    let item = |body: &[u8]| {
        let mut span = Vec::new();
        crate::wire::walk(Signal::Traces, body, |item| span = item.bytes.to_vec());
        span
    };
    let spans = [item(&body), item(&generate::in_collector_order(Signal::Traces, &body))];
    assert!(spans.iter().all(|usual| span(usual).unwrap().canonical));
    for usual in spans {
        for field in reader::fields(&usual.clone()) {
            let field = field.unwrap();
            let again = &usual[field.start..field.end];
            for twice in [[&usual[..], again].concat(), [again, &usual].concat()] {
                let repeats = [9, 11, 13].contains(&field.number);
                assert_eq!(span(&twice).unwrap().canonical, repeats, "field {}", field.number);
            }
        }
    }
}

/// Every message of a signal, with the field numbers that lead to it first.
fn messages(signal: Signal) -> Vec<(Message, Vec<u32>)> {
    let mut found = vec![(Message::request(signal), Vec::new())];
    let mut next = 0;
    while next < found.len() {
        let (message, path) = found[next].clone();
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind
                && found.iter().all(|(known, _)| *known != inner)
            {
                found.push((inner, [&path[..], &[field.number]].concat()));
            }
        }
        next += 1;
    }
    found
}

fn prost_accepts(signal: Signal, body: &[u8]) -> bool {
    use opentelemetry_proto::tonic::collector::{logs, metrics, trace};
    use prost::Message;
    match signal {
        Signal::Traces => trace::v1::ExportTraceServiceRequest::decode(body).is_ok(),
        Signal::Metrics => metrics::v1::ExportMetricsServiceRequest::decode(body).is_ok(),
        Signal::Logs => logs::v1::ExportLogsServiceRequest::decode(body).is_ok(),
    }
}

#[test]
fn every_field_is_judged_as_prost_does_and_every_pair_alike() {
    // One of each wire type, groups included; text that is UTF-8 and not, as a list it is three varints.
    let values: [(u8, &[u8]); 9] = [
        (0, &[1]),
        (1, &[0; 8]),
        (2, &[0]),
        (2, &[3, 0xc3, 0xa9, 1]),
        (2, &[3, 0xff, 0xff, 1]),
        (2, &[8, 0x19, 0, 0, 0, 0, 0, 0, 0]),
        (3, &[]),
        (4, &[]),
        (5, &[0; 4]),
    ];
    let mut seen = std::collections::HashSet::new();
    for signal in Signal::ALL {
        for (message, path) in messages(signal) {
            seen.insert(message);
            let mut fields = Vec::new();
            for number in 1..=18 {
                for (wire_type, value) in values {
                    let mut field = Vec::new();
                    put_tag(&mut field, number, wire_type);
                    field.extend_from_slice(value);
                    if wire_type == 3 {
                        put_tag(&mut field, number, 4);
                    }
                    let body = nest(&path, &field);
                    let accepted = check(signal, &body).is_ok();
                    assert_eq!(accepted, prost_accepts(signal, &body), "{message:?} {field:02x?}");
                    if accepted {
                        fields.push(field);
                    }
                }
            }
            for first in &fields {
                for second in &fields {
                    check(signal, &nest(&path, &[&first[..], second].concat())).unwrap();
                }
            }
        }
    }
    assert_eq!(seen.len(), Message::ALL.len());
}
