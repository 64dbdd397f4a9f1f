//! A file that only ever holds whole records: what was half written is taken back.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// What is written to. Tests write to disks that fill up.
pub(super) trait Disk {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts it to `len` bytes; what is written next follows there.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Returns once the disk has what was written.
    fn sync(&mut self) -> io::Result<()>;
}

/// An open file, made for appending. Pipes and devices cannot be cut.
#[derive(Clone, Debug)]
pub(super) struct OnDisk {
    pub(super) file: Arc<File>,
    pub(super) regular: bool,
}

impl Disk for OnDisk {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if self.regular { self.file.set_len(len) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.regular { self.file.sync_data() } else { Ok(()) }
    }
}

/// Invariant: the first `len` bytes are whole records, and there is nothing behind them unless `torn`.
#[derive(Debug)]
pub(super) struct Records<D> {
    pub(super) disk: D,
    pub(super) len: u64,
    torn: bool,
}

impl<D: Disk> Records<D> {
    pub(super) fn new(disk: D, len: u64) -> Records<D> {
        Records { disk, len, torn: false }
    }

    /// Writes a record, down to the disk if `sync`, or leaves the file as it was.
    ///
    /// Where even taking back fails that is done first the next time: nothing is ever written behind half a record.
    pub(super) fn append(&mut self, record: &[u8], sync: bool) -> io::Result<()> {
        if self.torn {
            self.disk.truncate(self.len)?;
            self.torn = false;
        }
        match self.disk.write_all(record).and_then(|()| if sync { self.disk.sync() } else { Ok(()) }) {
            Ok(()) => {
                self.len += record.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.torn = self.disk.truncate(self.len).is_err();
                Err(error)
            }
        }
    }

    /// Forgets everything.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.disk.truncate(0)?;
        self.len = 0;
        Ok(())
    }
}
