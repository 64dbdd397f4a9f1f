//! One request head: bytes in, what the server has to know out. No state, no socket.
//!
//! Everything that decides where a request ends is strict, because a proxy in front of us may decide otherwise (RFC 9112,
//! section 11.2, Request Smuggling): anything ambiguous is answered 400 and the connection closed.

use std::mem::MaybeUninit;

/// Bytes of a request line with all its header fields. Beyond it: 431.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Header fields of one request. Beyond it: 431.
pub(crate) const FIELDS_MAX: usize = 100;

/// Why a request cannot be read. The connection is of no use after it: nobody knows where the next request begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request line or a header field is malformed.
    Head,
    /// Not HTTP/1.0 or HTTP/1.1.
    Version,
    /// More header bytes or fields than the limit.
    HeadTooLarge,
    /// HTTP/1.1 without exactly one Host.
    Host,
    /// Content-Length is not one number.
    ContentLength,
    /// Transfer-Encoding is anything but one `chunked`, comes with Content-Length, or in HTTP/1.0.
    TransferEncoding,
    /// An expectation other than 100-continue.
    Expectation,
    /// The chunked framing is broken.
    Chunk,
}

impl Fault {
    /// The status with which it is answered.
    pub(crate) fn status(self) -> u16 {
        match self {
            Fault::HeadTooLarge => 431,
            Fault::Expectation => 417,
            _ => 400,
        }
    }

    /// What the sender is told.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Fault::Head => "the request line or a header field is malformed",
            Fault::Version => "the HTTP version is neither 1.0 nor 1.1",
            Fault::HeadTooLarge => "more than 64 KiB or 100 fields of headers",
            Fault::Host => "the request has not exactly one Host field",
            Fault::ContentLength => "Content-Length is not one number",
            Fault::TransferEncoding => "Transfer-Encoding is not exactly chunked, or comes with Content-Length",
            Fault::Expectation => "the expectation is not 100-continue",
            Fault::Chunk => "the chunked body is malformed",
        }
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes; 0 where there is no body.
    Length(u64),
    /// With a chunk of size 0.
    Chunked,
}

/// A request head, borrowed from the bytes that were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// As sent: methods are case-sensitive.
    pub(crate) method: &'a str,
    /// Without scheme, authority and query.
    pub(crate) path: &'a str,
    /// Where the body ends.
    pub(crate) framing: Framing,
    /// Whether the sender wants to keep the connection.
    pub(crate) keep_alive: bool,
    /// Whether the sender waits for `100 Continue` before it sends the body.
    pub(crate) expect_continue: bool,
    /// The first Content-Type.
    pub(crate) content_type: Option<&'a [u8]>,
    /// The first Content-Encoding.
    pub(crate) content_encoding: Option<&'a [u8]>,
    /// Whether there are several Content-Encoding fields: a list, which nobody sends.
    pub(crate) several_codings: bool,
    /// Origin, for CORS.
    pub(crate) origin: Option<&'a [u8]>,
    /// Access-Control-Request-Method, for CORS.
    pub(crate) cors_method: Option<&'a [u8]>,
    /// Access-Control-Request-Headers, for CORS.
    pub(crate) cors_headers: Option<&'a [u8]>,
    /// All of it, as received, for [`Head::fields`].
    pub(crate) raw: &'a [u8],
}

impl<'a> Head<'a> {
    /// Parses a complete head.
    ///
    /// `Ok(None)` where `bytes` ends before the head does.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Option<(Head<'a>, usize)>, Fault> {
        let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut []);
        let used = match request.parse_with_uninit_headers(bytes, &mut slots) {
            Ok(httparse::Status::Complete(used)) => used,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Fault::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(Fault::Version),
            Err(_) => return Err(Fault::Head),
        };
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
            return Err(Fault::Head);
        };
        let mut head = Head {
            method,
            path: path_of(target),
            framing: Framing::Length(0),
            keep_alive: minor == 1,
            expect_continue: false,
            content_type: None,
            content_encoding: None,
            several_codings: false,
            origin: None,
            cors_method: None,
            cors_headers: None,
            raw: &bytes[..used],
        };
        head.read_fields(request.headers, minor)?;
        Ok(Some((head, used)))
    }

    fn read_fields(&mut self, fields: &[httparse::Header<'a>], minor: u8) -> Result<(), Fault> {
        let (mut hosts, mut length, mut chunked) = (0, None, false);
        for field in fields {
            let (name, value) = (field.name, field.value);
            // The length of the name rules nearly all of them out before a byte is compared.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => hosts += 1,
                6 if name.eq_ignore_ascii_case("origin") => self.origin = Some(value),
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Fault::Expectation);
                    }
                    self.expect_continue = minor == 1;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    let close =
                        value.split(|&byte| byte == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"close"));
                    self.keep_alive &= !close;
                }
                12 if name.eq_ignore_ascii_case("content-type") => {
                    self.content_type.get_or_insert(value);
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let value = decimal(value).ok_or(Fault::ContentLength)?;
                    // Repeated with the same value is harmless (RFC 9112, section 6.3); anything else is not.
                    if length.replace(value).is_some_and(|before| before != value) {
                        return Err(Fault::ContentLength);
                    }
                }
                16 if name.eq_ignore_ascii_case("content-encoding") => match self.content_encoding {
                    None => self.content_encoding = Some(value),
                    Some(_) => self.several_codings = true,
                },
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                        return Err(Fault::TransferEncoding);
                    }
                    chunked = true;
                }
                29 if name.eq_ignore_ascii_case("access-control-request-method") => self.cors_method = Some(value),
                30 if name.eq_ignore_ascii_case("access-control-request-headers") => self.cors_headers = Some(value),
                _ => {}
            }
        }
        if minor == 1 && hosts != 1 {
            return Err(Fault::Host);
        }
        self.framing = match (chunked, length) {
            (true, None) if minor == 1 => Framing::Chunked,
            (true, _) => return Err(Fault::TransferEncoding),
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(())
    }

    /// All header fields, in order of arrival, names in lower case. Parses the head again: only for those who asked for
    /// metadata.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut slots);
        let _ = request.parse(self.raw);
        request
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
            .collect()
    }

    /// The values of the fields of that name, whose case does not matter. Parses the head again.
    pub(crate) fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let mut slots = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut slots);
        let _ = request.parse(self.raw);
        let named = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    }
}

/// `1*DIGIT` and nothing else: no sign, no list, no overflow.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// The path of a target in origin form or absolute form (RFC 9112, section 3.2), without its query.
fn path_of(target: &str) -> &str {
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    match origin.split('?').next() {
        Some("") | None => "/",
        Some(path) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Head<'_>, usize)>, Fault> {
        Head::parse(text.as_bytes())
    }

    fn with(fields: &str) -> Result<Framing, Fault> {
        let text = format!("POST /v1/traces HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        parse(&text).map(|found| found.expect("complete").0.framing)
    }

    #[test]
    fn framing_is_decided_strictly_con_09_10_12() {
        for (fields, expected) in [
            ("", Ok(Framing::Length(0))),
            ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
            ("content-LENGTH:\t 5 \r\n", Ok(Framing::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Ok(Framing::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(Fault::ContentLength)),
            ("Content-Length: 5, 5\r\n", Err(Fault::ContentLength)),
            ("Content-Length: abc\r\n", Err(Fault::ContentLength)),
            ("Content-Length: -1\r\n", Err(Fault::ContentLength)),
            ("Content-Length: +1\r\n", Err(Fault::ContentLength)),
            ("Content-Length: 0x10\r\n", Err(Fault::ContentLength)),
            ("Content-Length:\r\n", Err(Fault::ContentLength)),
            ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Length(u64::MAX))),
            ("Content-Length: 18446744073709551616\r\n", Err(Fault::ContentLength)),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: CHUNKED\r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(Fault::TransferEncoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Fault::TransferEncoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(Fault::TransferEncoding)),
            ("Transfer-Encoding: identity\r\n", Err(Fault::TransferEncoding)),
            ("Transfer-Encoding: xchunked\r\n", Err(Fault::TransferEncoding)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Fault::TransferEncoding)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(Fault::TransferEncoding)),
            ("Expect: 200-maybe\r\n", Err(Fault::Expectation)),
        ] {
            assert_eq!(with(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn heads_that_are_not_http_are_refused_con_06_19_21() {
        for (text, expected) in [
            ("POST /v1/traces HTTP/1.1\r\n\r\n", Fault::Host),
            ("POST /v1/traces HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Fault::Host),
            ("POST /v1/traces HTTP/1.1\r\nHost : a\r\n\r\n", Fault::Head),
            ("POST /v1/traces HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Fault::Head),
            ("POST /v1/traces\r\n\r\n", Fault::Head),
            ("POST /v1/traces HTTP/2.0\r\n\r\n", Fault::Version),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Fault::Version),
            ("nonsense\r\n\r\n", Fault::Head),
            ("POST /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Head),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncoding),
        ] {
            assert_eq!(parse(text).map(drop), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn targets_lose_authority_and_query_con_16_http_18() {
        for (target, path) in [
            ("/v1/traces", "/v1/traces"),
            ("/v1/traces?x=1", "/v1/traces"),
            ("/v1/traces?x=http://a/b", "/v1/traces"),
            ("http://host:4318/v1/traces", "/v1/traces"),
            ("HTTP://host/v1/traces?x", "/v1/traces"),
            ("http://host", "/"),
            ("http://host?x", "/"),
            ("*", "*"),
            ("/v1/traces/", "/v1/traces/"),
        ] {
            assert_eq!(path_of(target), path, "{target:?}");
        }
    }

    #[test]
    fn connections_are_kept_as_the_version_and_the_sender_say() {
        for (version, fields, keep) in [
            ("1.1", "Host: a\r\n", true),
            ("1.1", "Host: a\r\nConnection: Close\r\n", false),
            ("1.1", "Host: a\r\nConnection: keep-alive, close\r\n", false),
            ("1.1", "Host: a\r\nConnection: upgrade\r\n", true),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", false),
        ] {
            let text = format!("POST / HTTP/{version}\r\n{fields}\r\n");
            let (head, used) = parse(&text).expect("valid").expect("complete");
            assert_eq!((head.keep_alive, used), (keep, text.len()), "{text:?}");
        }
    }

    #[test]
    fn fields_come_in_order_and_lower_case() {
        let text = "POST / HTTP/1.1\r\nHOST: a\r\nX-Tenant: one\r\nx-tenant: two\r\n\r\n";
        let (head, _) = parse(text).expect("valid").expect("complete");
        let fields: Vec<_> = head.fields();
        let pairs = [("host", "a"), ("x-tenant", "one"), ("x-tenant", "two")];
        assert_eq!(fields, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
