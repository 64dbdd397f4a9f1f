//! Content codings: what a body may be compressed with.

use std::fmt;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Not compressed.
    Identity,
    /// RFC 1952, of one or several members.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// RFC 1950. What HTTP calls `deflate`, too.
    Zlib,
    /// RFC 1951 without a wrapping. No coding of HTTP's, but some senders call it `deflate`.
    Deflate,
    /// Snappy's block format.
    Snappy,
    /// Snappy's framed format.
    SnappyFramed,
    /// LZ4's frame format.
    Lz4,
}

impl Coding {
    /// The name in `Content-Encoding` and in the `compression` key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
            Coding::Zlib => "zlib",
            Coding::Deflate => "deflate",
            Coding::Snappy => "snappy",
            Coding::SnappyFramed => "x-snappy-framed",
            Coding::Lz4 => "lz4",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
