//! A body, or several in a row, compressed.

use std::fmt;

use super::Coding;

/// Why a body could not be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The coding is not built into this program.
    Unsupported,
    /// The coding has no such level; see [`Coding::has_level`].
    Level {
        /// The coding.
        coding: Coding,
        /// The level that was asked for.
        level: i32,
    },
    /// The compressor gave up: a body of 4 GiB or more for Snappy, or no memory.
    Failed {
        /// The coding.
        coding: Coding,
    },
}

/// Compresses the concatenation of `parts` and appends it to `out`.
///
/// # Levels
///
/// `level` is the Collector's `compression_params::level`; `None` and 0 are the default. For gzip, zlib and deflate that
/// is 1, not zlib's 6 as in the Collector: on OTLP level 6 costs two to four times the CPU for a body a fifth smaller,
/// and compressing is the dearest step of the whole pipeline. 6 is there for whoever pays for traffic. For zstd it is
/// the fastest; other levels are rounded to 1, 3, 6 and 11 as the Collector does. The others have one level.
///
/// # Errors
///
/// See [`EncodeError`]; `out` is then as it was.
pub fn encode(coding: Coding, level: Option<i32>, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let level = level.filter(|&level| level != 0);
    if let Some(level) = level.filter(|&level| !coding.has_level(level)) {
        return Err(EncodeError::Level { coding, level });
    }
    let length = out.len();
    let done = match coding {
        Coding::Identity => {
            out.reserve(total(parts));
            parts.iter().for_each(|part| out.extend_from_slice(part));
            Some(())
        }
        #[cfg(feature = "gzip-encode")]
        Coding::Gzip => super::deflate_encode::encode(super::deflate_encode::Wrapping::Gzip, level, parts, out),
        #[cfg(feature = "gzip-encode")]
        Coding::Zlib | Coding::Deflate => {
            super::deflate_encode::encode(super::deflate_encode::Wrapping::Zlib, level, parts, out)
        }
        #[cfg(feature = "zstd")]
        Coding::Zstd => super::zstd::encode(level, parts, out),
        #[cfg(feature = "snappy")]
        Coding::Snappy => super::snappy::encode_block(parts, out),
        #[cfg(feature = "snappy")]
        Coding::SnappyFramed => super::snappy::encode_framed(parts, out),
        #[cfg(feature = "lz4")]
        Coding::Lz4 => super::lz4::encode(parts, out),
        #[allow(unreachable_patterns, reason = "reachable where a feature is off")]
        _ => return Err(EncodeError::Unsupported),
    };
    done.ok_or_else(|| {
        out.truncate(length);
        EncodeError::Failed { coding }
    })
}

pub(super) fn total(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// Calls `run` with the parts as one piece: the only part itself, or all of them copied into `scratch`.
#[cfg(feature = "snappy")]
pub(super) fn joined<R>(parts: &[&[u8]], scratch: &mut Vec<u8>, run: impl FnOnce(&[u8]) -> R) -> R {
    /// What is kept for the next body.
    const KEPT_BYTES_MAX: usize = 1 << 20;
    if let [only] = parts {
        return run(only);
    }
    scratch.clear();
    parts.iter().for_each(|part| scratch.extend_from_slice(part));
    let result = run(scratch);
    if scratch.capacity() > KEPT_BYTES_MAX {
        *scratch = Vec::new();
    }
    result
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::Unsupported => f.write_str("the content coding is not supported"),
            EncodeError::Level { coding, level } => write!(f, "{coding} has no compression level {level}"),
            EncodeError::Failed { coding } => write!(f, "cannot compress with {coding}"),
        }
    }
}

impl std::error::Error for EncodeError {}
