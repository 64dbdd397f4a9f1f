//! Messages with their fields as the Collector writes them: from the last one of the schema's text to the first.
//!
//! The Collector's own marshaller fills its buffer from the end in the order in which a message's fields are
//! declared, so they stand the other way round on the wire, and whoever has a Collector in front of it receives such bodies. Entries of
//! a repeated field keep their order. Checked against what 0.161.0 sends for each signal.

use std::cmp::Reverse;

use otlp_core::wire::reader::{Value, fields};
use otlp_core::wire::schema::{Kind, Message};
use otlp_core::wire::writer::put_delimited;

/// The requests, by signal.
pub const REQUESTS: [Message; 3] = [Message::TraceRequest, Message::MetricsRequest, Message::LogsRequest];

/// The message with all its fields backwards, those of messages in it too; `None` where it is none.
pub fn backwards(message: Message, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut parts = Vec::new();
    for field in fields(bytes) {
        let field = field.ok()?;
        let inner = message.fields().iter().find(|known| known.number == field.number).map(|known| known.kind);
        let part = match (inner, field.value) {
            (Some(Kind::Message(inner)), Value::Len(content)) => {
                let mut part = Vec::with_capacity(content.len() + 8);
                put_delimited(&mut part, field.number, &backwards(inner, content)?);
                part
            }
            _ => bytes[field.start..field.end].to_vec(),
        };
        parts.push((place(message, field.number), part));
    }
    // Stable: entries of a repeated field stay as they are.
    parts.sort_by_key(|&(place, _)| Reverse(place));
    Some(parts.into_iter().flat_map(|(_, part)| part).collect())
}

/// Where a field is declared in its message; for most that is its number.
fn place(message: Message, number: u32) -> u32 {
    let first: &[u32] = match message {
        Message::Span => &[1, 2, 3, 4, 16],
        Message::LogRecord => &[1, 11],
        Message::NumberDataPoint => &[7, 2, 3, 4, 6],
        Message::HistogramDataPoint => &[9],
        Message::SummaryDataPoint => &[7],
        Message::Exemplar => &[7, 2, 3, 6],
        _ => &[],
    };
    // All numbers are below 32, and those declared first come before the rest.
    first.iter().position(|&early| early == number).map_or(32 + number, |place| place as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use otlp_core::Signal;
    use otlp_core::testing::generate;

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
        let of = |signal: Signal| backwards(REQUESTS[signal.index()], &generate::request(signal, 1, 200)).unwrap();
        let order = |body: &[u8], path: &[u32]| order(body, path).unwrap();
        let traces = of(Signal::Traces);
        assert_eq!(order(&traces, &[1]).last(), Some(&1));
        let span = order(&traces, &[1, 2, 2]);
        // What the Collector sends for a span with these fields: 15 9 8 7 6 5 16 4 2 1.
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

    #[test]
    fn prost_reads_the_same_message() {
        for signal in Signal::ALL {
            let forwards = generate::request(signal, 9, 30);
            let turned = backwards(REQUESTS[signal.index()], &forwards).unwrap();
            assert!(turned != forwards && turned.len() == forwards.len());
            assert!(same(signal, &turned, &forwards), "{signal}");
            assert!(!same(signal, &turned, &generate::request(signal, 8, 30)), "{signal}");
        }
    }

    fn same(signal: Signal, one: &[u8], other: &[u8]) -> bool {
        fn decoded<M: prost::Message + PartialEq + Default>(one: &[u8], other: &[u8]) -> bool {
            M::decode(one).unwrap() == M::decode(other).unwrap()
        }
        match signal {
            Signal::Traces => decoded::<ExportTraceServiceRequest>(one, other),
            Signal::Metrics => decoded::<ExportMetricsServiceRequest>(one, other),
            Signal::Logs => decoded::<ExportLogsServiceRequest>(one, other),
        }
    }
}
