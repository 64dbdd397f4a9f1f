//! From bytes to a [`Batch`], and to typed messages and back.

use bytes::Bytes;

use crate::batch::Batch;
use crate::signal::Signal;
use crate::unit::ItemCount;

use super::normalize::{adopt_legacy, normalize};
use super::validate::{Limits, Malformed, validate};

/// What a request had that is worth telling the operator, although it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Whether its shape was odd and has been rewritten. The bytes differ from those received; their meaning does not.
    pub normalized: bool,
    /// Items with an id that the specification calls invalid; see
    /// [`Checked::invalid_ids`](super::validate::Checked::invalid_ids).
    pub invalid_ids: ItemCount,
    /// Keys and values that are an index into a string table, which this signal does not have (OTLP common.proto,
    /// `key_strindex`). They read as absent.
    pub string_indexes: u64,
    /// Whether scopes stood in the field of releases before OTLP 0.15 and were taken from there.
    pub legacy: bool,
}

impl Batch {
    /// Validates the uncompressed body of a request and puts it into canonical shape.
    ///
    /// A request of no items gives a batch of none: the caller answers it and passes nothing on (OTLP, Empty Telemetry
    /// Envelopes). A body in canonical shape is taken as it is, without a copy.
    ///
    /// # Errors
    ///
    /// [`Malformed`], as [`validate`].
    pub fn check(signal: Signal, body: Bytes, limits: &Limits) -> Result<(Batch, Findings), Malformed> {
        let mut checked = validate(signal, &body, limits)?;
        let mut body = body;
        let mut legacy = false;
        if checked.legacy {
            let adopted = adopt_legacy(signal, &body);
            // What does not hold scopes there stays the unknown field that it is.
            if let Ok(again) = validate(signal, &adopted, limits)
                && again.items > checked.items
            {
                (checked, body, legacy) = (again, adopted, true);
            }
        }
        let normalized = legacy || !checked.canonical;
        if !checked.canonical {
            body = normalize(signal, &body);
            // Of two members of a oneof only the last is left, and its items with it.
            checked = validate(signal, &body, limits)?;
        }
        let findings =
            Findings { normalized, invalid_ids: checked.invalid_ids, string_indexes: checked.string_indexes, legacy };
        Ok((Batch::trusted(signal, checked.items, body), findings))
    }
}

#[cfg(feature = "types")]
pub use typed::Request;

#[cfg(feature = "types")]
mod typed {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    use super::*;

    mod sealed {
        pub trait Sealed {}
        impl Sealed for super::ExportTraceServiceRequest {}
        impl Sealed for super::ExportMetricsServiceRequest {}
        impl Sealed for super::ExportLogsServiceRequest {}
    }

    /// The request of a signal as opentelemetry-proto has it.
    pub trait Request: Message + Default + sealed::Sealed {
        /// Its signal.
        const SIGNAL: Signal;
    }

    impl Request for ExportTraceServiceRequest {
        const SIGNAL: Signal = Signal::Traces;
    }

    impl Request for ExportMetricsServiceRequest {
        const SIGNAL: Signal = Signal::Metrics;
    }

    impl Request for ExportLogsServiceRequest {
        const SIGNAL: Signal = Signal::Logs;
    }

    impl Batch {
        /// The batch as typed messages. Unknown fields are not in them.
        ///
        /// # Errors
        ///
        /// None for bytes that were checked; prost's error for a batch that was made by
        /// [`trusted`](Batch::trusted) from others, or that is of another signal than asked for and happens not to fit.
        ///
        /// # Panics
        ///
        /// Where the batch is of another signal.
        pub fn decode<R: Request>(&self) -> Result<R, prost::DecodeError> {
            assert_eq!(self.signal(), R::SIGNAL, "the request is of the batch's signal");
            R::decode(self.body().clone())
        }

        /// A batch of typed messages, for whom nobody waits.
        ///
        /// # Errors
        ///
        /// [`Malformed`] where the encoded request is 4 GiB or larger, or nests deeper than 100.
        pub fn encode<R: Request>(request: &R) -> Result<Batch, Malformed> {
            Batch::check(R::SIGNAL, request.encode_to_vec().into(), &Limits::default()).map(|(batch, _)| batch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::generate;

    #[test]
    fn a_canonical_body_is_taken_without_a_copy_from_an_sdk_and_from_a_collector() {
        for signal in Signal::ALL {
            let body = generate::request(signal, 1, 5);
            for body in [generate::in_collector_order(signal, &body), body] {
                let (batch, findings) = Batch::check(signal, body.clone(), &Limits::default()).unwrap();
                assert_eq!((batch.items(), findings), (ItemCount(5), Findings::default()));
                assert_eq!(batch.body().as_ptr(), body.as_ptr());
            }
        }
    }

    #[test]
    fn an_odd_body_is_normalized_and_legacy_scopes_count() {
        // One resource: field 1000 with one empty span; then the resource itself.
        let body: &[u8] = &[0x0a, 8, 0xc2, 0x3e, 2, 0x12, 0, 0x1a, 0, 0x0a];
        let body = Bytes::from([body, &[0]].concat());
        let body = Bytes::from([&[0x0a, 9][..], &body[2..]].concat());
        let (batch, findings) = Batch::check(Signal::Traces, body, &Limits::default()).unwrap();
        assert!(findings.legacy && findings.normalized);
        assert_eq!((batch.items(), findings.invalid_ids), (ItemCount(1), ItemCount(1)));
        assert_eq!(batch.body()[..], [0x0a, 8, 0x12, 2, 0x12, 0, 0x1a, 0, 0x0a, 0]);
        // The same field with what are no scopes stays unknown.
        let body = Bytes::from_static(&[0x0a, 4, 0xc2, 0x3e, 1, 0xff]);
        let (batch, findings) = Batch::check(Signal::Traces, body.clone(), &Limits::default()).unwrap();
        assert_eq!((batch.items(), batch.body(), findings), (ItemCount::ZERO, &body, Findings::default()));
    }

    #[test]
    fn items_are_counted_as_they_are_left() {
        // A metric with a gauge of two points and then a sum of one: of two members of a oneof the last is meant.
        let metric = [0x2a, 4, 0x0a, 0, 0x0a, 0, 0x3a, 2, 0x0a, 0];
        let body: &[u8] = &[0x0a, 14, 0x12, 12, 0x12, 10];
        let body = Bytes::from([body, &metric].concat());
        let (batch, findings) = Batch::check(Signal::Metrics, body, &Limits::default()).unwrap();
        assert!(findings.normalized);
        assert_eq!(batch.items(), ItemCount(1));
        assert_eq!(batch.body()[..], [0x0a, 8, 0x12, 6, 0x12, 4, 0x3a, 2, 0x0a, 0]);
    }

    #[cfg(feature = "types")]
    #[test]
    fn typed_messages_go_in_and_out() {
        use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
        let batch = generate::batch(Signal::Traces, 1, 7);
        let typed: ExportTraceServiceRequest = batch.decode().unwrap();
        let again = Batch::encode(&typed).unwrap();
        assert_eq!((again.items(), again.body()), (ItemCount(7), batch.body()));
    }
}
