//! Content codings: what a body may be compressed with, and how it is undone and done.
//!
//! | file         | purpose                                                                            |
//! |--------------|------------------------------------------------------------------------------------|
//! | `decode.rs`  | a body back to what it was, bounded after inflating                                |
//! | `encode.rs`  | a body, or several in a row, compressed                                            |
//! | `deflate.rs` | gzip, zlib and raw deflate, by libdeflate and zlib-rs                              |
//! | `deflate_encode.rs` | gzip and zlib compressed, by zlib-rs alone                                  |
//! | `zstd.rs`    | zstd                                                                               |
//! | `snappy.rs`  | Snappy, block and framed                                                           |
//! | `lz4.rs`     | LZ4 frames                                                                         |
//! | `tests.rs`   | every coding against the plain library, damaged, cut short and as a bomb           |
//!
//! # Threads
//!
//! Compressors and decompressors are kept one per thread and coding, for good: making one costs more than inflating a
//! small body. Framed Snappy and LZ4, which hardly anybody sends, make theirs for each body.
//!
//! # Limits
//!
//! A body never inflates beyond the limit given, nor takes memory for more than that limit, whatever the sizes in its
//! headers say; they are hints only. Before the output grows its reservation is asked for. A zstd stream of unknown size
//! may need a window of at most 8 MiB (RFC 8878, section 3.1.1.1.2) beside it, an LZ4 frame blocks of at most 4 MiB.
//!
//! # Features
//!
//! `gzip` (with zlib and deflate), `zstd`, `snappy`, `lz4`. A coding that is not built is `Unsupported`. `gzip-encode` is
//! the half of `gzip` that compresses, for senders: it needs no C compiler.

mod decode;
#[cfg(feature = "gzip")]
mod deflate;
#[cfg(feature = "gzip-encode")]
mod deflate_encode;
mod encode;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(all(test, feature = "gzip", feature = "zstd", feature = "snappy", feature = "lz4"))]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

use std::fmt;

pub use decode::{DecodeError, decode, decode_into};
pub use encode::{EncodeError, encode};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Not compressed.
    Identity,
    /// RFC 1952, of one or several members.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// RFC 1950.
    Zlib,
    /// RFC 1950 under the name that HTTP has for it (RFC 9110, section 8.4.1.2). RFC 1951 without a wrapping, which
    /// some senders mean by it, is taken as well, and never sent.
    Deflate,
    /// Snappy's block format. The framed format, which older collectors send under this name, is taken as well.
    Snappy,
    /// Snappy's framed format.
    SnappyFramed,
    /// LZ4's frame format.
    Lz4,
}

impl Coding {
    /// Every coding.
    pub const ALL: [Coding; 8] = [
        Coding::Identity,
        Coding::Gzip,
        Coding::Zstd,
        Coding::Zlib,
        Coding::Deflate,
        Coding::Snappy,
        Coding::SnappyFramed,
        Coding::Lz4,
    ];

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

    /// The coding that a `Content-Encoding` or `grpc-encoding` header names; `None` for one that we do not know, and for
    /// several in a row. Case does not matter and `x-gzip` is `gzip` (RFC 9110, section 8.4.1); nothing is identity.
    pub fn from_header(value: &str) -> Option<Coding> {
        let value = value.trim_ascii();
        if value.is_empty() {
            return Some(Coding::Identity);
        }
        if value.eq_ignore_ascii_case("x-gzip") {
            return Some(Coding::Gzip);
        }
        Coding::ALL.into_iter().find(|coding| value.eq_ignore_ascii_case(coding.as_str()))
    }

    /// The coding that the Collector's `compression` key names: `none` and the empty string are identity.
    pub fn from_config(value: &str) -> Option<Coding> {
        match value {
            "" | "none" => Some(Coding::Identity),
            "identity" => None,
            _ => Coding::ALL.into_iter().find(|coding| value == coding.as_str()),
        }
    }

    /// Whether it is built into this program; see the features above.
    pub const fn is_built(self) -> bool {
        match self {
            Coding::Identity => true,
            Coding::Gzip | Coding::Zlib | Coding::Deflate => cfg!(feature = "gzip"),
            Coding::Zstd => cfg!(feature = "zstd"),
            Coding::Snappy | Coding::SnappyFramed => cfg!(feature = "snappy"),
            Coding::Lz4 => cfg!(feature = "lz4"),
        }
    }

    /// Whether [`encode`] has it: as [`Coding::is_built`], and gzip, zlib and deflate with `gzip-encode` alone.
    pub const fn can_encode(self) -> bool {
        match self {
            Coding::Gzip | Coding::Zlib | Coding::Deflate => cfg!(feature = "gzip-encode"),
            _ => self.is_built(),
        }
    }

    /// Whether the Collector's `compression_params::level` may be `level` for this coding: -2 to 9 for gzip, zlib and
    /// deflate, any number for zstd, 0 for the others. 0 is the default; see [`encode`] for what that is.
    pub const fn has_level(self, level: i32) -> bool {
        match self {
            Coding::Gzip | Coding::Zlib | Coding::Deflate => level >= -2 && level <= 9,
            Coding::Zstd => true,
            Coding::Identity | Coding::Snappy | Coding::SnappyFramed | Coding::Lz4 => level == 0,
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
