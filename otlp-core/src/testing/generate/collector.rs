//! Requests as the OpenTelemetry Collector encodes them.

use bytes::Bytes;

use crate::signal::Signal;
use crate::wire::reader::{Field, Value, fields};
use crate::wire::schema::{Kind, Message};
use crate::wire::writer::put_delimited;

/// The same request with the fields of every message in the order in which the Collector sends them.
///
/// It writes each message from the end of its buffer to the front, and visits the fields in the order in which the `.proto`
/// files declare them: the first declared stands last. The elements of a list keep their order. Every message that is not
/// part of a list is written, and every id, empty or not. Of what [`request`](super::request) makes these are the very bytes
/// that Collector 0.161 sends on, for each signal.
pub fn in_collector_order(signal: Signal, body: &[u8]) -> Bytes {
    message(Message::request(signal), body).into()
}

fn message(of: Message, body: &[u8]) -> Vec<u8> {
    let mut found: Vec<Field<'_>> = fields(body).map_while(Result::ok).collect();
    let absent = always(of).iter().filter(|&&number| found.iter().all(|field| field.number != number));
    let absent: Vec<_> = absent.map(|&number| Field { number, value: Value::Len(&[]), start: 0, end: 0 }).collect();
    found.extend(absent);
    // Stable: what is repeated stays as it was.
    found.sort_by_key(|field| std::cmp::Reverse(declared(of, field.number)));
    let mut out = Vec::with_capacity(body.len());
    for field in found {
        match (of.field(field.number).map(|known| known.kind), field.value) {
            (Some(Kind::Message(inner)), Value::Len(body)) => {
                put_delimited(&mut out, field.number, &message(inner, body))
            }
            (_, Value::Len(body)) => put_delimited(&mut out, field.number, body),
            _ => out.extend_from_slice(&body[field.start..field.end]),
        }
    }
    out
}

/// What is written even where it is empty.
fn always(of: Message) -> &'static [u32] {
    use Message::*;
    match of {
        ResourceSpans | ResourceMetrics | ResourceLogs | ScopeSpans | ScopeMetrics | ScopeLogs => &[1],
        KeyValue => &[2],
        Span => &[1, 2, 4, 15],
        Link => &[1, 2],
        LogRecord => &[5, 9, 10],
        ExponentialHistogramDataPoint => &[8, 9],
        Exemplar => &[4, 5],
        _ => &[],
    }
}

/// Where the `.proto` file declares a field: by number, but for these.
fn declared(of: Message, number: u32) -> u32 {
    use Message::*;
    match (of, number) {
        (Span, 16) => 4 * 2 + 1,
        (LogRecord, 11) => 2 + 1,
        (NumberDataPoint | SummaryDataPoint | HistogramDataPoint | Exemplar, 7 | 9)
            if of.field(number).is_some_and(|field| matches!(field.kind, Kind::Message(KeyValue))) =>
        {
            0
        }
        // The two members of the oneof are declared together.
        (NumberDataPoint, 6) => 4 * 2 + 1,
        (Exemplar, 6) => 3 * 2 + 1,
        _ => number * 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::generate::request;

    #[test]
    fn the_first_field_stands_last() {
        // A resource's items: schema, scopes, resource.
        let body = in_collector_order(Signal::Traces, &[0x0a, 8, 0x0a, 0, 0x12, 0, 0x1a, 2, b'a', b'b']);
        assert_eq!(body[..], [0x0a, 10, 0x1a, 2, b'a', b'b', 0x12, 2, 0x0a, 0, 0x0a, 0]);
        for signal in Signal::ALL {
            let body = request(signal, 1, 20);
            let turned = in_collector_order(signal, &body);
            assert_ne!(turned, body);
            assert_eq!(in_collector_order(signal, &turned), turned);
        }
    }

    /// Field numbers of the first message that has that path, each run of the same once.
    fn order(bytes: &[u8], path: &[u32]) -> Option<Vec<u32>> {
        let all: Vec<_> = fields(bytes).map(Result::unwrap).collect();
        if let Some((&next, rest)) = path.split_first() {
            return all.iter().filter(|field| field.number == next).find_map(|field| match field.value {
                Value::Len(content) => order(content, rest),
                _ => None,
            });
        }
        let mut numbers: Vec<_> = all.iter().map(|field| field.number).collect();
        numbers.dedup();
        Some(numbers)
    }

    #[test]
    fn fields_stand_as_the_collector_writes_them() {
        let of = |signal| in_collector_order(signal, &request(signal, 1, 200));
        let order = |body: &[u8], path: &[u32]| order(body, path).unwrap();
        let traces = of(Signal::Traces);
        assert_eq!(order(&traces, &[1]).last(), Some(&1));
        let span = order(&traces, &[1, 2, 2]);
        let declared = [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 16, 4, 3, 2, 1];
        let expected: Vec<_> = declared.into_iter().filter(|number| span.contains(number)).collect();
        assert_eq!(span, expected);
        assert!(span.len() > 8, "{span:?}");
        let logs = of(Signal::Logs);
        assert!(order(&logs, &[1, 2, 2]).ends_with(&[3, 2, 11, 1]), "{:?}", order(&logs, &[1, 2, 2]));
        let metrics = of(Signal::Metrics);
        assert!(order(&metrics, &[1, 2, 2, 7, 1]).ends_with(&[3, 2, 7]));
        assert!(order(&metrics, &[1, 2, 2, 9, 1]).ends_with(&[3, 2, 9]));
    }
}
