//! A request's headers and its complete body → a [`Batch`]. Shared by every transport.

use std::sync::Arc;

use otlp_core::batch::Encoded;
use otlp_core::codec::{Coding, DecodeError};
use otlp_core::flow::Reservation;
use otlp_core::json::{self, Expected};
use otlp_core::wire::Findings;
use otlp_core::wire::validate::Limits;
use otlp_core::{Batch, ByteSize, Code, Context, Failure, Reason, Signal};

use crate::admission::{Body, RETRY_AFTER, too_large};
use crate::intake::Plan;

/// How a framed Snappy stream begins; no block does.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// How messages are written: that of the request is that of its answer (OTLP/HTTP Response).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl Encoding {
    /// The encoding that a Content-Type names: in any case, parameters ignored (RFC 9110, section 8.3.1).
    pub(crate) fn of(content_type: &[u8]) -> Option<Encoding> {
        let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        [Encoding::Protobuf, Encoding::Json]
            .into_iter()
            .find(|encoding| media_type.eq_ignore_ascii_case(encoding.media_type().as_bytes()))
    }

    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// The content codings that a receiver takes.
#[derive(Clone, Debug)]
pub(crate) struct Codings {
    /// `None`: every body is taken as it is, whatever its Content-Encoding.
    taken: Option<Vec<Coding>>,
    names: String,
}

impl Codings {
    /// What may stand in the configuration. `""` is a body without a coding.
    pub(crate) const NAMES: &[&str] = &["", "gzip", "zstd", "zlib", "snappy", "deflate", "lz4"];

    pub(crate) fn new(names: &[String]) -> Codings {
        let mut taken: Vec<Coding> =
            names.iter().filter_map(|name| Coding::from_config(name)).filter(|coding| coding.is_built()).collect();
        if taken.contains(&Coding::Snappy) {
            taken.push(Coding::SnappyFramed);
        }
        let list: Vec<_> = taken.iter().map(|coding| coding.as_str()).collect();
        Codings { names: list.join(", "), taken: (!names.is_empty()).then_some(taken) }
    }

    /// The coding that a Content-Encoding names, if it is taken.
    pub(crate) fn pick(&self, header: Option<&[u8]>) -> Option<Coding> {
        let Some(taken) = &self.taken else { return Some(Coding::Identity) };
        let coding = match header {
            None => Coding::Identity,
            Some(value) => Coding::from_header(std::str::from_utf8(value).ok()?)?,
        };
        taken.contains(&coding).then_some(coding)
    }

    /// For Accept-Encoding in an answer 415 (RFC 9110, section 12.5.3).
    pub(crate) fn names(&self) -> &str {
        &self.names
    }
}

/// OTLP/JSON → protobuf, the memory for both while they are there.
fn transcode(
    signal: Signal,
    document: &[u8],
    memory: &mut Reservation,
    size_max: ByteSize,
) -> Result<bytes::Bytes, Failure> {
    // Protobuf is smaller but for long lists of small numbers, which grow up to four times; those are paid for afterwards.
    let held = memory.bytes() + ByteSize::from(document.len());
    memory.grow_to(held).map_err(|failure| failure.retry_after(RETRY_AFTER))?;
    let limits = json::Limits { protobuf_bytes_max: size_max.as_usize(), ..json::Limits::default() };
    let protobuf = json::decode(signal, document, &limits).map_err(|error| match error.expected {
        Expected::Smaller { .. } => too_large(size_max),
        _ => Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, error.to_string()),
    })?;
    memory
        .grow_to(held.saturating_sub(ByteSize::from(document.len())) + ByteSize::from(protobuf.len()))
        .map_err(|failure| failure.retry_after(RETRY_AFTER))?;
    Ok(protobuf.into())
}

/// What a request turned out to be.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Nobody is told about it yet.
    pub(crate) batch: Batch,
    /// What was odd about it.
    pub(crate) findings: Findings,
}

/// Inflates and checks a body. The memory it takes goes with the batch, and so does the compressed form, as long as the
/// bytes are still those.
///
/// # Errors
///
/// A rejection for what the sender has to mend, a refusal where memory does not suffice.
pub(crate) fn decode(plan: &Plan, body: Body, context: Arc<Context>, size_max: ByteSize) -> Result<Decoded, Failure> {
    let Plan { signal, encoding, coding, .. } = *plan;
    let (received, mut memory) = body.finish();
    let coding = match coding {
        // The framed format under the block format's name goes on under its own, or the next hop would not know.
        Coding::Snappy if received.starts_with(SNAPPY_STREAM) => Coding::SnappyFramed,
        _ => coding,
    };
    let (plain, encoded) = if coding == Coding::Identity {
        (received.into(), None)
    } else {
        let compressed = ByteSize::from(received.len());
        let plain = otlp_core::codec::decode(coding, &received, size_max, &mut |size| {
            memory.grow_to(compressed + size).map_err(|failure| failure.retry_after(RETRY_AFTER))
        })
        .map_err(|error| match error {
            DecodeError::TooLarge { limit } => too_large(limit),
            DecodeError::Corrupt { coding, detail } => {
                Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, format!("not a {coding} body: {detail}"))
            }
            DecodeError::Unsupported => {
                Failure::rejected(Code::InvalidArgument, Reason::UNSUPPORTED, format!("{coding} is not supported"))
            }
            DecodeError::Refused(failure) => failure,
        })?;
        (bytes::Bytes::from(plain), Some(bytes::Bytes::from(received)))
    };
    let (plain, encoded) = match encoding {
        Encoding::Protobuf => (plain, encoded),
        // Another hop gets protobuf, so neither the document nor its compressed form is of any use any more.
        Encoding::Json => (transcode(signal, &plain, &mut memory, size_max)?, None),
    };
    let (batch, findings) = Batch::check(signal, plain, &Limits::default())
        .map_err(|malformed| Failure::rejected(Code::InvalidArgument, Reason::MALFORMED, malformed.to_string()))?;
    let batch = match encoded {
        // An odd shape means the same as it came. Not so scopes of old releases, which a newer peer would not find.
        Some(body) if !findings.legacy => batch.with_encoded(Encoded { coding, body }),
        _ => batch,
    };
    let held = batch.size() + batch.encoded().map_or(ByteSize::ZERO, |encoded| ByteSize::from(encoded.body.len()));
    memory.shrink_to(held);
    Ok(Decoded { batch: batch.with_context(context).with_memory(memory), findings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_have_no_case_and_parameters_do_not_matter_http_15_16() {
        for (value, expected) in [
            ("application/x-protobuf", Some(Encoding::Protobuf)),
            ("APPLICATION/X-Protobuf ; x=y", Some(Encoding::Protobuf)),
            ("application/json; charset=utf-8", Some(Encoding::Json)),
            ("application/grpc", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(Encoding::of(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn codings_are_taken_as_configured_enc_09_17_18_19() {
        let of = |names: &[&str]| Codings::new(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let all = of(Codings::NAMES);
        for (value, expected) in [
            (None, Some(Coding::Identity)),
            (Some("identity"), Some(Coding::Identity)),
            (Some("GZIP"), Some(Coding::Gzip)),
            (Some("x-gzip"), Some(Coding::Gzip)),
            (Some("zstd"), Some(Coding::Zstd)),
            (Some("x-snappy-framed"), Some(Coding::SnappyFramed)),
            (Some("br"), None),
            (Some("gzip, gzip"), None),
            (Some("\u{fffd}"), None),
        ] {
            assert_eq!(all.pick(value.map(str::as_bytes)), expected, "{value:?}");
        }
        assert_eq!(of(&["gzip"]).pick(None), None, "plain bodies are left out");
        assert_eq!(of(&[""]).pick(Some(b"gzip")), None);
        assert_eq!(of(&[]).pick(Some(b"gzip")), Some(Coding::Identity), "an empty list ignores the header");
    }
}
