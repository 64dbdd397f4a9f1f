//! Legal requests in the oddest shapes.
//!
//! Fields are written at random from the schema: in any order, singular ones several times, unknown ones of every wire
//! type and groups at every level, lists of scalars packed and not, lengths and tags longer than they need to be, ids of
//! any length, numbers at their ends, NaN with payloads, text that is not ASCII, values nested in values, envelopes with
//! nothing in them.

use bytes::Bytes;

use crate::signal::Signal;
use crate::testing::random::Random;
use crate::wire::reader::{FIXED32, FIXED64, GROUP_END, GROUP_START, LEN, VARINT};
use crate::wire::schema::{Field, Kind, Label, Message};
use crate::wire::writer::{put_tag, put_varint};

/// A legal request in odd shapes, of up to a few kB; the same arguments always give the same bytes.
pub fn ugly(signal: Signal, seed: u64) -> Bytes {
    let mut random = Random::new(seed.wrapping_mul(3).wrapping_add(signal.index() as u64));
    let oddness = [0, 8, 30][random.index(3)];
    let budget = 40 + random.below(160) as u32;
    let mut ugly = Ugly { random, budget, oddness };
    let mut out = Vec::new();
    while ugly.budget > 0 {
        ugly.message(&mut out, Message::request(signal), 0);
    }
    out.into()
}

struct Ugly {
    random: Random,
    /// Fields that may still be written.
    budget: u32,
    /// How many fields of a hundred are odd: unknown, over-long, not packed.
    oddness: u64,
}

impl Ugly {
    fn odd(&mut self) -> bool {
        self.random.below(100) < self.oddness
    }

    fn message(&mut self, out: &mut Vec<u8>, message: Message, depth: u32) {
        let fields = message.fields();
        let count = match depth {
            0..4 => 1 + self.random.index(4),
            4..20 => self.random.index(7),
            _ => self.random.index(2),
        };
        // Most messages in order and without repetition, so that the straight-line paths are taken as well.
        let orderly = !self.odd();
        let mut at = 0;
        for _ in 0..count {
            if self.budget == 0 {
                return;
            }
            self.budget -= 1;
            if self.odd() {
                self.unknown(out, message, 3);
                continue;
            }
            let field = if orderly {
                at += self.random.index(3);
                match fields.get(at) {
                    Some(field) => field,
                    None => return,
                }
            } else {
                &fields[self.random.index(fields.len())]
            };
            if orderly && field.label != Label::Repeated {
                at += 1;
            }
            self.field(out, field, depth);
            if orderly && field.label == Label::Oneof {
                while fields.get(at).is_some_and(|field| field.label == Label::Oneof) {
                    at += 1;
                }
            }
        }
    }

    fn field(&mut self, out: &mut Vec<u8>, field: &Field, depth: u32) {
        let packs = field.label == Label::Repeated;
        match field.kind {
            Kind::Message(message) => {
                let mut body = Vec::new();
                self.message(&mut body, message, depth + 1);
                self.delimited(out, field.number, &body);
            }
            Kind::Bytes => {
                let length = [16, 8, 0, 1, 15, 17, 32][self.random.index(7)];
                let mut body = vec![0; length];
                if !self.random.once_in(6) {
                    body.iter_mut().for_each(|byte| *byte = self.random.bits() as u8);
                }
                self.delimited(out, field.number, &body);
            }
            Kind::Text => {
                let body = self.text();
                self.delimited(out, field.number, body.as_bytes());
            }
            Kind::Varint | Kind::Fixed64 if packs && !self.odd() => {
                let mut body = Vec::new();
                for _ in 0..self.random.below(6) {
                    let number = self.number();
                    match field.kind {
                        Kind::Varint => put_varint(&mut body, number),
                        _ => body.extend_from_slice(&number.to_le_bytes()),
                    }
                }
                self.delimited(out, field.number, &body);
            }
            Kind::Varint => {
                self.tag(out, field.number, VARINT);
                let number = self.number();
                self.varint(out, number);
            }
            Kind::Fixed64 => {
                self.tag(out, field.number, FIXED64);
                out.extend_from_slice(&self.number().to_le_bytes());
            }
            Kind::Fixed32 => {
                self.tag(out, field.number, FIXED32);
                out.extend_from_slice(&(self.number() as u32).to_le_bytes());
            }
        }
    }

    fn unknown(&mut self, out: &mut Vec<u8>, message: Message, groups: u32) {
        let number = loop {
            let number = match self.random.below(4) {
                0 => 1000,
                1 => (1 << 29) - 1,
                2 => 1 + self.random.below(40) as u32,
                _ => 1 + self.random.below(1 << 29) as u32,
            };
            if number < 1 << 29 && message.field(number).is_none() {
                break number;
            }
        };
        match self.random.below(if groups > 0 { 6 } else { 4 }) {
            0 => {
                self.tag(out, number, VARINT);
                let value = self.number();
                self.varint(out, value);
            }
            1 => {
                self.tag(out, number, FIXED64);
                out.extend_from_slice(&self.number().to_le_bytes());
            }
            2 => {
                let body = vec![self.random.bits() as u8; self.random.index(20)];
                self.delimited(out, number, &body);
            }
            3 => {
                self.tag(out, number, FIXED32);
                out.extend_from_slice(&(self.number() as u32).to_le_bytes());
            }
            _ => {
                self.tag(out, number, GROUP_START);
                for _ in 0..self.random.below(3) {
                    // Inside a group nothing is known: the numbers of the message around it mean nothing.
                    self.unknown(out, message, groups - 1);
                }
                self.tag(out, number, GROUP_END);
            }
        }
    }

    fn number(&mut self) -> u64 {
        match self.random.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => i64::MIN as u64,
            3 => 0x7ff0_0000_dead_beef,
            4 => f64::NEG_INFINITY.to_bits(),
            5 => (-0.0f64).to_bits(),
            6 => u64::from(u32::MAX),
            7 => self.random.bits(),
            _ => self.random.below(300),
        }
    }

    fn text(&mut self) -> String {
        match self.random.below(10) {
            0 => String::new(),
            1 => "schlüssel-ключ-鍵-🗝".to_owned(),
            2 => "\0\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10ffff}".to_owned(),
            3 => "x".repeat(self.random.index(300)),
            4 => "é".repeat(self.random.index(80)),
            _ => self
                .random
                .pick(&["service.name", "http.request.method", "GET", "k", "0123456789abcdef", "seven77"])
                .to_owned(),
        }
    }

    fn delimited(&mut self, out: &mut Vec<u8>, field: u32, body: &[u8]) {
        self.tag(out, field, LEN);
        self.varint(out, body.len() as u64);
        out.extend_from_slice(body);
    }

    fn tag(&mut self, out: &mut Vec<u8>, field: u32, wire_type: u8) {
        if self.odd() && self.random.once_in(8) {
            // One byte longer than it needs to be: legal, and still a number of 32 bits.
            put_tag(out, field, wire_type);
            lengthen(out);
        } else {
            put_tag(out, field, wire_type);
        }
    }

    fn varint(&mut self, out: &mut Vec<u8>, value: u64) {
        put_varint(out, value);
        if value < 1 << 56 && self.odd() && self.random.once_in(4) {
            lengthen(out);
        }
    }
}

fn lengthen(out: &mut Vec<u8>) {
    if let Some(last) = out.last_mut() {
        *last |= 0x80;
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message as _;

    #[test]
    fn ugly_requests_are_legal_and_most_hold_items() {
        let mut spans = 0;
        for seed in 0..300 {
            let traces = ExportTraceServiceRequest::decode(ugly(Signal::Traces, seed)).unwrap();
            spans += traces.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum::<usize>();
            ExportMetricsServiceRequest::decode(ugly(Signal::Metrics, seed)).unwrap();
            ExportLogsServiceRequest::decode(ugly(Signal::Logs, seed)).unwrap();
        }
        assert!(spans > 300, "{spans} spans in 300 requests");
    }
}
