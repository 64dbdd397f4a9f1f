//! The keys of a `file` exporter, their defaults, their limits.

use std::path::PathBuf;
use std::time::Duration;

use otlp_core::codec::Coding;

use crate::ConfigError;

/// A `file` exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to write. Required.
    pub path: PathBuf,
    /// How a request is written. Default JSON.
    pub format: Format,
    /// Whether what the file holds at the start is kept. Default false: it is emptied by the first request written. Neither
    /// with `rotation`, which always keeps it, nor with `compression`.
    pub append: bool,
    /// [`Coding::Identity`], the default, or [`Coding::Zstd`]: each request is compressed by itself.
    pub compression: Coding,
    /// `compression_params::level`. Default 0: the fastest.
    pub compression_level: i32,
    /// What was written is on the disk that much later at the latest. Default 1 s. 0: before each request is confirmed.
    pub flush_interval: Duration,
    /// When to begin another file. Default: never.
    pub rotation: Option<Rotation>,
    /// Whether to make the folder of `path` where it is missing. Default false.
    pub create_directory: bool,
    /// The mode of folders that are made. Default 0755; on Unix only, as the umask allows.
    pub directory_permissions: u32,
}

/// How a request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// OTLP/JSON: one request a line, or after its length where it is compressed.
    #[default]
    Json,
    /// Protobuf, after its length.
    Proto,
}

/// When to begin another file, and how many of the old ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// No file grows beyond this many MiB unless by a single request. Default 100, which 0 means, too.
    pub max_megabytes: u64,
    /// Old files are deleted after this many days. Default 0: never.
    pub max_days: u64,
    /// So many old files are kept. Default 100; 0: all.
    pub max_backups: usize,
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation { max_megabytes: 100, max_days: 0, max_backups: 100 }
    }
}

impl Rotation {
    pub(super) fn bytes_max(&self) -> u64 {
        let megabytes = if self.max_megabytes == 0 { Rotation::default().max_megabytes } else { self.max_megabytes };
        megabytes.saturating_mul(1 << 20)
    }
}

impl Config {
    /// The defaults with a path.
    pub fn new(path: impl Into<PathBuf>) -> Config {
        Config {
            path: path.into(),
            format: Format::Json,
            append: false,
            compression: Coding::Identity,
            compression_level: 0,
            flush_interval: Duration::from_secs(1),
            rotation: None,
            create_directory: false,
            directory_permissions: 0o755,
        }
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.path.file_name().is_none() {
            return Err(ConfigError::new("path", "must name a file"));
        }
        if !matches!(self.compression, Coding::Identity | Coding::Zstd) {
            return Err(ConfigError::new("compression", format!("expected zstd or nothing, got {}", self.compression)));
        }
        if self.append && self.rotation.is_some() {
            return Err(ConfigError::new("append", "cannot be combined with rotation"));
        }
        if self.append && self.compression != Coding::Identity {
            return Err(ConfigError::new("append", "cannot be combined with compression"));
        }
        if self.directory_permissions > 0o7777 {
            return Err(ConfigError::new("directory_permissions", "must be at most 7777"));
        }
        Ok(())
    }
}
