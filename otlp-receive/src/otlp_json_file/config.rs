//! The keys of an `otlp_json_file` receiver, their defaults, their limits.

use std::time::Duration;

use otlp_core::ByteSize;

/// An `otlp_json_file` receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which files are read: paths with `*`, `?`, `[a-z]`, `[!a-z]` within a name and `**` for any number of folders.
    /// Required.
    pub include: Vec<String>,
    /// Which of those are not.
    pub exclude: Vec<String>,
    /// Where a file that is there at the start is begun. Files that come later are read whole. Default end.
    pub start_at: StartAt,
    /// How long to wait between two looks for new files and new lines. Default 200 ms; at least 1 ms.
    pub poll_interval: Duration,
    /// Whether to read every file again from its beginning at each look. Default false.
    pub replay_file: bool,
    /// The longest request as it stands in a file, and after inflating. Default 64 MiB, not the Collector's 1 MiB, which
    /// cuts a longer line into pieces that nobody can read. A longer one is passed over and counted.
    pub line_bytes_max: ByteSize,
    /// Files kept open between two looks. Default 512. Others are opened again when they have grown.
    pub open_files_max: usize,
}

/// Where a file that is there at the start is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At its first line.
    Beginning,
    /// Behind its last.
    #[default]
    End,
}

/// A value that a key cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key.
    pub key: &'static str,
    /// What it must be.
    pub message: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            include: Vec::new(),
            exclude: Vec::new(),
            start_at: StartAt::End,
            poll_interval: Duration::from_millis(200),
            replay_file: false,
            line_bytes_max: ByteSize::mib(64),
            open_files_max: 512,
        }
    }
}

impl Config {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// Names the key.
    pub fn check(&self) -> Result<(), Invalid> {
        let require = |good: bool, key, message: &str| {
            if good { Ok(()) } else { Err(Invalid { key, message: message.to_owned() }) }
        };
        require(!self.include.is_empty(), "include", "must name at least one file")?;
        require(self.include.iter().all(|path| !path.is_empty()), "include", "must not hold an empty path")?;
        require(self.poll_interval >= Duration::from_millis(1), "poll_interval", "must be at least 1ms")?;
        require(self.line_bytes_max > ByteSize::ZERO, "max_log_size", "must be positive")?;
        require(self.open_files_max > 0, "max_concurrent_files", "must be positive")
    }
}
