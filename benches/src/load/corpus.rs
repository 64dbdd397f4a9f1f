//! Bodies to send: seeded, encoded and compressed before the clock starts, each written over with a stamp as it is sent.
//!
//! # Indexes
//!
//! Item i of a body has i + 1 as its span id (spans, log records) or i nanoseconds after the beginning as its time (data
//! points), so that an item says which one it is after it was regrouped.
//!
//! # Limits
//!
//! A few bodies are sent in turn: enough that caches and branch predictors do not learn them by heart, few enough to stay in
//! the last-level cache, where a network card would put them too.

use std::collections::VecDeque;

use bytes::Bytes;
use otlp_core::Signal;
use otlp_core::codec::Coding;
use otlp_core::testing::generate::{self, BEGIN_UNIX_NANO};
use otlp_core::wire::index::walk;
use otlp_core::wire::reader::{Value, fields};
use otlp_core::wire::schema::Message;
use otlp_core::wire::writer::{begin, end, put_delimited};

use super::compress::{self, Trailer};
use super::stamp::{self, Stamp};
use super::{Problem, doing};

/// What bodies there shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The signal.
    pub signal: Signal,
    /// Items in a request. At least 1.
    pub items: usize,
    /// What bodies are compressed with: identity, gzip or zstd.
    pub coding: Coding,
    /// The compression level; `None` is 6 for gzip and 3 for zstd, as most senders have it.
    pub level: Option<i32>,
    /// The same seed gives the same bodies.
    pub seed: u64,
    /// How the fields of messages follow each other.
    pub field_order: FieldOrder,
    /// How many different bodies; `None` is as many as hold 8192 items, from 8 to 256.
    pub bodies: Option<usize>,
}

/// How the fields of messages follow each other on the wire; what they say is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldOrder {
    /// By number, as nearly all SDKs write them.
    #[default]
    Ascending,
    /// From the last to the first, as the Collector does: see [`generate::in_collector_order`].
    Collector,
}

/// The bodies.
#[derive(Debug)]
pub struct Corpus {
    /// What they were made by.
    pub plan: Plan,
    templates: Vec<Template>,
}

/// One body, but for its stamp.
#[derive(Debug)]
pub struct Template {
    /// Uncompressed, with an all-zero stamp.
    pub plain: Vec<u8>,
    encoded: Bytes,
    /// Where the stamp stands in the encoded body.
    stamp_at: usize,
    trailer: Option<Trailer>,
}

impl Corpus {
    /// Makes the bodies. Takes a while: not to be timed.
    ///
    /// # Errors
    ///
    /// Where the coding is none of those above, or has no such level.
    pub fn new(plan: Plan) -> Result<Corpus, Problem> {
        let count = plan.bodies.unwrap_or_else(|| (8192 / plan.items.max(1)).clamp(8, 256)).max(1);
        let templates = (0..count as u64)
            .map(|number| Template::new(&plan, plan.seed.wrapping_add(number)))
            .collect::<Result<_, _>>()?;
        Ok(Corpus { plan, templates })
    }

    /// How many different bodies there are.
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether there is none; there always is one.
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// The body of request number `request`.
    pub fn template(&self, request: u64) -> &Template {
        &self.templates[(request % self.templates.len() as u64) as usize]
    }

    /// Mean bytes of an item, uncompressed and as sent.
    pub fn item_bytes(&self) -> (f64, f64) {
        let items = (self.plan.items * self.len()) as f64;
        let of = |len: fn(&Template) -> usize| self.templates.iter().map(len).sum::<usize>() as f64 / items;
        (of(|template| template.plain.len()), of(|template| template.encoded.len()))
    }
}

impl Template {
    fn new(plan: &Plan, seed: u64) -> Result<Template, Problem> {
        let (plain, at) = stamped(plan.signal, &generate::request(plan.signal, seed, plan.items), plan.field_order)
            .ok_or_else(|| Problem("the generated body is not as expected".into()))?;
        let (encoded, stamp_at, trailer) = match plan.coding {
            Coding::Identity => (plain.clone(), at, None),
            Coding::Gzip => {
                let (encoded, at, trailer) = compress::gzip(&plain, at, plan.level.unwrap_or(6).clamp(0, 9) as u32);
                (encoded, at, Some(trailer))
            }
            // All that stands before the stamp is not compressed, and here that is nearly everything.
            Coding::Zstd if plan.field_order == FieldOrder::Collector => {
                return Err(Problem("cannot send zstd in the Collector's field order; only none and gzip".into()));
            }
            Coding::Zstd => {
                let (encoded, at) = compress::zstd(&plain, at, plan.level.unwrap_or(3)).map_err(doing("zstd"))?;
                (encoded, at, None)
            }
            other => return Err(Problem(format!("cannot send {other}; only none, gzip and zstd"))),
        };
        Ok(Template { plain, encoded: encoded.into(), stamp_at, trailer })
    }

    /// Bytes as sent, headers excluded.
    pub fn encoded_len(&self) -> usize {
        self.encoded.len()
    }

    /// Calls `run` with the body in pieces that belong one after the other, the stamp among them.
    pub fn with_pieces<R>(&self, stamp: &Stamp, run: impl FnOnce(&[&[u8]]) -> R) -> R {
        let text = stamp.text();
        let (before, after) = (&self.encoded[..self.stamp_at], &self.encoded[self.stamp_at + stamp::LEN..]);
        match &self.trailer {
            None => run(&[before, &text, after]),
            Some(trailer) => {
                let checksum = trailer.checksum(&text);
                let (after, rest) = after.split_at(after.len() - trailer.len());
                run(&[before, &text, after, &checksum, &rest[checksum.len()..]])
            }
        }
    }

    /// `prefix` and the body in pieces that can be handed over: all but the first and the checksum are shared, not copied.
    pub fn pieces(&self, prefix: &[u8], stamp: &Stamp) -> VecDeque<Bytes> {
        // Small pieces cost a system call each where no vectored write takes them, so that much is copied together.
        const COPIED_BYTES: usize = 12 << 10;
        let end = self.encoded.len() - self.trailer.as_ref().map_or(0, Trailer::len);
        let shared_from = (self.stamp_at + stamp::LEN).max(COPIED_BYTES).min(end);
        let mut first = Vec::with_capacity(prefix.len() + shared_from);
        first.extend_from_slice(prefix);
        first.extend_from_slice(&self.encoded[..self.stamp_at]);
        first.extend_from_slice(&stamp.text());
        first.extend_from_slice(&self.encoded[self.stamp_at + stamp::LEN..shared_from]);
        let mut pieces = VecDeque::with_capacity(3);
        let mut last = Vec::new();
        if let Some(trailer) = &self.trailer {
            let checksum = trailer.checksum(&stamp.text());
            last.extend_from_slice(&checksum);
            last.extend_from_slice(&self.encoded[end + checksum.len()..]);
        }
        pieces.push_back(first.into());
        for piece in [self.encoded.slice(shared_from..end), last.into()] {
            if !piece.is_empty() {
                pieces.push_back(piece);
            }
        }
        pieces
    }

    /// The same in one piece.
    pub fn body(&self, stamp: &Stamp) -> Vec<u8> {
        self.with_pieces(stamp, |pieces| pieces.concat())
    }
}

/// Which item of its body this is.
pub fn item_index(kind: Message, item: &[u8]) -> Option<u64> {
    let id = |wanted: u32| {
        fields(item).map_while(Result::ok).find_map(|field| match field.value {
            Value::Len(id) if field.number == wanted => id_index(id),
            _ => None,
        })
    };
    match kind {
        Message::Span => id(2),
        Message::LogRecord => id(10),
        _ => fields(item).map_while(Result::ok).find_map(|field| match (field.number, field.value) {
            (3, Value::Fixed64(time)) => time_index(time),
            _ => None,
        }),
    }
}

/// The index that a span id says.
pub fn id_index(id: &[u8]) -> Option<u64> {
    u64::from_be_bytes(id.try_into().ok()?).checked_sub(1)
}

/// The index that a data point's time says.
pub fn time_index(time_unix_nano: u64) -> Option<u64> {
    time_unix_nano.checked_sub(BEGIN_UNIX_NANO)
}

/// The body with a stamp and with an index in every item, and where the stamp stands.
fn stamped(signal: Signal, generated: &[u8], field_order: FieldOrder) -> Option<(Vec<u8>, usize)> {
    let mut out = Vec::with_capacity(generated.len() + 128);
    for envelope in fields(generated) {
        let envelope = envelope.ok()?;
        let Value::Len(content) = envelope.value else { return None };
        let open = begin(&mut out, envelope.number, content.len() + 128);
        for field in fields(content) {
            let field = field.ok()?;
            match (field.number, field.value) {
                (1, Value::Len(resource)) => {
                    let mut with = Vec::with_capacity(resource.len() + 128);
                    Stamp::default().put(&mut with);
                    with.extend_from_slice(resource);
                    put_delimited(&mut out, 1, &with);
                }
                _ => out.extend_from_slice(&content[field.start..field.end]),
            }
        }
        end(&mut out, open);
    }
    if field_order == FieldOrder::Collector {
        out = generate::in_collector_order(signal, &out).into();
    }
    let text = Stamp::default().text();
    let at = out.windows(text.len()).position(|window| window == text)?;
    let mut places = Vec::new();
    walk(signal, &out, |item| {
        let number = [2, 3, 10][signal.index()];
        let field = fields(item.bytes).map_while(Result::ok).find(|field| field.number == number);
        places.extend(field.map(|field| item.field.end - item.bytes.len() + field.end - 8));
    });
    for (index, place) in places.into_iter().enumerate() {
        let index = index as u64;
        let bytes = match signal {
            Signal::Metrics => (BEGIN_UNIX_NANO + index).to_le_bytes(),
            Signal::Traces | Signal::Logs => (index + 1).to_be_bytes(),
        };
        out[place..place + 8].copy_from_slice(&bytes);
    }
    Some((out, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use otlp_core::ByteSize;
    use otlp_core::codec::decode;
    use otlp_core::wire::{Limits, validate};

    fn plan(signal: Signal, items: usize, coding: Coding) -> Plan {
        Plan { signal, items, coding, level: None, seed: 3, field_order: FieldOrder::Ascending, bodies: Some(3) }
    }

    #[test]
    fn every_coding_carries_the_stamp_and_the_indexes() {
        for signal in Signal::ALL {
            for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
                for items in [1, 10, 512] {
                    let corpus = Corpus::new(plan(signal, items, coding)).unwrap();
                    for request in [0, 1, 2, 0x7fff_1234] {
                        let stamp = Stamp { request, due_unix_nano: !request };
                        let sent = corpus.template(request).body(&stamp);
                        assert_eq!(sent.len(), corpus.template(request).encoded_len());
                        let pieces = corpus.template(request).pieces(b"before", &stamp);
                        let whole: Vec<u8> = pieces.iter().flatten().copied().collect();
                        assert_eq!(whole.strip_prefix(b"before"), Some(&sent[..]));
                        let body = decode(coding, &sent, ByteSize(1 << 24), &mut |_| Ok(())).unwrap();
                        assert_eq!(validate(signal, &body, &Limits::default()).unwrap().items.get(), items as u64);
                        let mut index = 0;
                        walk(signal, &body, |item| {
                            assert_eq!(item_index(item.kind, item.bytes), Some(index), "{signal} {coding}");
                            assert_eq!(Stamp::of_resource(item.resource), Some(stamp));
                            index += 1;
                        });
                        assert_eq!(index, items as u64);
                    }
                    let (plain, encoded) = corpus.item_bytes();
                    assert!(items < 512 || coding == Coding::Identity || plain > encoded * 3.0);
                }
            }
        }
    }

    #[test]
    fn the_collectors_order_carries_the_same_items() {
        for signal in Signal::ALL {
            for coding in [Coding::Identity, Coding::Gzip] {
                let ascending = plan(signal, 40, coding);
                let backwards = Plan { field_order: FieldOrder::Collector, ..ascending.clone() };
                let stamp = Stamp { request: 77, due_unix_nano: 1 << 60 };
                let body = |plan: Plan| {
                    let sent = Corpus::new(plan).unwrap().template(1).body(&stamp);
                    decode(coding, &sent, ByteSize(1 << 24), &mut |_| Ok(())).unwrap()
                };
                let (ascending, backwards) = (body(ascending), body(backwards));
                assert_ne!(ascending, backwards);
                let mut index = 0;
                walk(signal, &backwards, |item| {
                    assert_eq!(item_index(item.kind, item.bytes), Some(index), "{signal} {coding}");
                    assert_eq!(Stamp::of_resource(item.resource), Some(stamp));
                    index += 1;
                });
                assert_eq!(index, 40);
            }
        }
        let zstd = Plan { field_order: FieldOrder::Collector, ..plan(Signal::Logs, 10, Coding::Zstd) };
        assert!(Corpus::new(zstd).is_err());
    }

    #[test]
    fn other_decoders_read_the_compressed_bodies_too() {
        use std::io::Read as _;
        let stamp = Stamp { request: 77, due_unix_nano: 1 << 60 };
        let one = |coding| Corpus::new(plan(Signal::Logs, 512, coding)).unwrap().template(0).body(&stamp);
        let plain = one(Coding::Identity);
        let mut inflated = Vec::new();
        flate2::read::GzDecoder::new(&one(Coding::Gzip)[..]).read_to_end(&mut inflated).unwrap();
        assert_eq!(inflated, plain);
        assert_eq!(zstd::stream::decode_all(&one(Coding::Zstd)[..]).unwrap(), plain);
    }
}
