//! The file under its path: opened, repaired, rotated.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use otlp_core::{ByteSize, Clock};

use super::disk::{OnDisk, Records};
use super::record::{self, Framing};
use super::{Config, Rotation, rotation};

#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    records: Records<OnDisk>,
    rotation: Option<Rotation>,
    clock: Clock,
    /// What an earlier run left is still there and is to go.
    stale: bool,
    /// Rotating failed and was reported; the file grows on.
    stuck: bool,
}

impl Writer {
    /// Opens the file and cuts off what a crash left of a record. What is to be overwritten is left until there is
    /// something to overwrite it with: a start that fails elsewhere must not cost a recording.
    pub(super) fn open(config: &Config, clock: Clock) -> io::Result<Writer> {
        if config.create_directory
            && let Some(folder) = config.path.parent().filter(|folder| !folder.as_os_str().is_empty())
        {
            make_folder(folder, config.directory_permissions)?;
        }
        let file = open(&config.path)?;
        let metadata = file.metadata()?;
        let disk = OnDisk { file: Arc::new(file), regular: metadata.is_file() };
        let keep = config.append || config.rotation.is_some();
        let mut len = if disk.regular { metadata.len() } else { 0 };
        if disk.regular && keep {
            let whole = record::whole(Framing::of(config), &mut &*disk.file, len)?;
            if whole.len < len {
                let (path, size) = (config.path.display(), ByteSize(len - whole.len));
                log::warn!("{path} ended in {size} of a request that was never written whole; they are cut off");
                disk.file.set_len(whole.len)?;
                len = whole.len;
            }
            if whole.unended {
                (&*disk.file).write_all(b"\n")?;
                len += 1;
            }
        }
        let writer = Writer {
            path: config.path.clone(),
            stale: disk.regular && !keep && len > 0,
            records: Records::new(disk, len),
            rotation: config.rotation,
            clock,
            stuck: false,
        };
        writer.prune();
        Ok(writer)
    }

    /// Writes a record, down to the disk if `sync`, or leaves the file as it was.
    pub(super) fn append(&mut self, record: &[u8], sync: bool) -> io::Result<()> {
        if self.stale {
            self.records.empty()?;
            self.stale = false;
        }
        if let Some(rotation) = &self.rotation
            && self.records.disk.regular
            && self.records.len > 0
            && self.records.len.saturating_add(record.len() as u64) > rotation.bytes_max()
        {
            match self.rotate() {
                Ok(()) => self.stuck = false,
                // Better a file that is too large than data refused.
                Err(error) if !self.stuck => {
                    log::error!("cannot rotate {}: {error}; it grows on", self.path.display());
                    self.stuck = true;
                }
                Err(_) => {}
            }
        }
        self.records.append(record, sync)
    }

    /// The file, for syncing it without holding up whoever writes; none for what has no disk below.
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.records.disk.regular.then(|| Arc::clone(&self.records.disk.file))
    }

    /// Why the file grows beyond its limit.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.records.disk.file.sync_data()?;
        let backup = self.free_backup_path()?;
        fs::rename(&self.path, &backup)?;
        match open(&self.path) {
            Ok(file) => {
                let disk = OnDisk { file: Arc::new(file), regular: true };
                self.records = Records::new(disk, 0);
                self.prune();
                Ok(())
            }
            Err(error) => {
                // What is open is the old file: under its own name it can be found.
                let _ = fs::rename(&backup, &self.path);
                Err(error)
            }
        }
    }

    /// A name that no old file has: several may end within the same millisecond.
    fn free_backup_path(&self) -> io::Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut time: SystemTime = self.clock.wall();
        loop {
            let path = self.path.with_file_name(rotation::backup_name(&name, time));
            if !path.try_exists()? {
                return Ok(path);
            }
            time += Duration::from_millis(1);
        }
    }

    fn prune(&self) {
        let Some(limits) = &self.rotation else { return };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let names = fs::read_dir(folder)
            .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect::<Vec<_>>());
        let removed = names.and_then(|names| {
            let names = names.iter().map(String::as_str);
            rotation::surplus(limits, &name, names, self.clock.wall())
                .into_iter()
                .try_for_each(|old| fs::remove_file(folder.join(old)))
        });
        if let Err(error) = removed {
            log::warn!("cannot delete old files of {}: {error}", self.path.display());
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Reading is for the end of what is there. Some devices and pipes cannot be read.
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    options.clone().read(true).open(path).or_else(|_| options.open(path))
}

fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    #[cfg(not(unix))]
    let _ = mode;
    builder.create(folder)
}
