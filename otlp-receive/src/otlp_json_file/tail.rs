//! The files that are read, wherever they are moved to, and how far each has been read.
//!
//! A file is known by its identity, not by its name: one that was rotated is read to its end under its new name, or under
//! none, while it is open.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::config::{Config, StartAt};
use super::pattern;
use super::records::{Framing, Record, Records};

/// What is read in one call.
const PIECE_BYTES: usize = 64 << 10;

/// What is remembered of the record read last, to see whether a file was begun anew: its end, where times and ids are.
const LAST_BYTES: usize = 1 << 10;

/// A file whose name is gone is forgotten after so many looks: one that is being renamed may be missed once.
const LOOKS_MISSED_MAX: u32 = 3;

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(_: &Path, metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(path: &Path, _: &Metadata) -> Identity {
    path.to_owned()
}

#[derive(Debug)]
struct Tail {
    path: PathBuf,
    file: Option<File>,
    records: Records,
    /// The end of the record before [`Records::position`], without its line end; empty where that is not known.
    last: Vec<u8>,
    /// How long the file was when its torn end was looked at.
    torn_at: u64,
    /// Nothing is to be had until the next look.
    at_end: bool,
    missed: u32,
    /// When it was last read from, in reads of all.
    used: u64,
}

/// The files, one of which is read at a time.
#[derive(Debug)]
pub(super) struct Tails {
    config: Config,
    known: HashMap<Identity, Tail>,
    /// In the order in which they are read: those found first, first.
    order: Vec<Identity>,
    first_look: bool,
    reads: u64,
    piece: Vec<u8>,
}

/// What was found in a file.
#[derive(Debug)]
pub(super) enum Found {
    /// A line.
    Line(Vec<u8>),
    /// A record that stood behind its length.
    Frame(Vec<u8>),
    /// What follows the last line end: to be taken as a line if it is one, and left otherwise.
    Rest(Vec<u8>),
    /// A record longer than is taken.
    TooLong,
}

#[allow(clippy::clone_on_copy, reason = "a path where there are no inodes")]
impl Tails {
    pub(super) fn new(config: &Config) -> Tails {
        Tails {
            config: config.clone(),
            known: HashMap::new(),
            order: Vec::new(),
            first_look: true,
            reads: 0,
            piece: Vec::new(),
        }
    }

    /// Looks for new files and for what has come to those known.
    pub(super) fn look(&mut self) {
        let replay = self.config.replay_file;
        let mut seen = HashSet::new();
        for path in pattern::find(&self.config.include, &self.config.exclude) {
            // Gone again, or not for us to read.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            let identity = identity(&path, &metadata);
            if !seen.insert(identity.clone()) {
                continue;
            }
            if let Some(tail) = self.known.get_mut(&identity) {
                tail.path = path;
                tail.missed = 0;
                continue;
            }
            let at_end = self.first_look && self.config.start_at == StartAt::End && !replay;
            let max = self.config.line_bytes_max.as_usize();
            let records = if at_end { records_behind(&path, metadata.len(), max) } else { Records::new(max) };
            log::info!("reading {} from byte {}", path.display(), records.position());
            let tail = Tail {
                path,
                file: None,
                records,
                last: Vec::new(),
                torn_at: u64::MAX,
                at_end: false,
                missed: 0,
                used: 0,
            };
            self.known.insert(identity.clone(), tail);
            self.order.push(identity);
        }
        self.first_look = false;
        self.known.retain(|identity, tail| {
            if !seen.contains(identity) {
                tail.missed += 1;
            } else if replay && tail.at_end {
                tail.restart();
            }
            let over = tail.missed > LOOKS_MISSED_MAX && tail.at_end;
            tail.at_end = false;
            !over
        });
        self.order.retain(|identity| self.known.contains_key(identity));
    }

    /// The next thing in any of the files; none where nothing is to be had before the next look.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read; it is left alone until the next look.
    pub(super) fn next(&mut self) -> Option<(PathBuf, io::Result<Found>)> {
        for index in 0..self.order.len() {
            let identity = self.order[index].clone();
            let Some(tail) = self.known.get_mut(&identity).filter(|tail| !tail.at_end) else { continue };
            let was_closed = tail.file.is_none();
            let next = tail.next(&mut self.piece, &identity);
            self.reads += 1;
            tail.used = self.reads;
            if !matches!(next, Ok(Some(_))) {
                tail.at_end = true;
            }
            let path = tail.path.clone();
            if was_closed {
                self.close_one_too_many();
            }
            match next {
                Ok(Some(found)) => return Some((path, Ok(found))),
                Ok(None) => {}
                Err(error) => return Some((path, Err(error))),
            }
        }
        None
    }

    /// Says that what was last found as [`Found::Rest`] was taken.
    pub(super) fn rest_taken(&mut self) {
        if let Some(tail) = self.known.values_mut().max_by_key(|tail| tail.used) {
            tail.records.take_rest();
            tail.last.clear();
        }
    }

    fn close_one_too_many(&mut self) {
        if self.known.values().filter(|tail| tail.file.is_some()).count() <= self.config.open_files_max {
            return;
        }
        let oldest = self.known.values_mut().filter(|tail| tail.file.is_some()).min_by_key(|tail| tail.used);
        if let Some(tail) = oldest {
            tail.file = None;
        }
    }
}

impl Tail {
    /// From the file's beginning again.
    fn restart(&mut self) {
        self.records.restart();
        self.last.clear();
        self.torn_at = u64::MAX;
    }

    fn next(&mut self, piece: &mut Vec<u8>, known: &Identity) -> io::Result<Option<Found>> {
        loop {
            match self.records.next() {
                Some(Record::Whole(record)) => {
                    self.last.clear();
                    self.last.extend_from_slice(&record[record.len().saturating_sub(LAST_BYTES)..]);
                    return Ok(Some(match self.records.framing() {
                        Some(Framing::Lengths) => Found::Frame(record),
                        _ => Found::Line(record),
                    }));
                }
                Some(Record::TooLong) => {
                    self.last.clear();
                    return Ok(Some(Found::TooLong));
                }
                None => {}
            }
            let file = match &mut self.file {
                Some(file) => file,
                none => {
                    let file = File::open(&self.path)?;
                    // Between the look and now another may have taken the name; the next look finds both.
                    if identity(&self.path, &file.metadata()?) != *known {
                        return Ok(None);
                    }
                    none.insert(file)
                }
            };
            let len = file.metadata()?.len();
            if len < self.records.position() {
                // Emptied and begun anew.
                self.restart();
                continue;
            } else if len < self.records.end() {
                // Whoever writes it cut off its torn end.
                self.records.forget_rest();
            }
            if len > self.records.end() {
                let end_bytes = self.records.framing().map_or(0, Framing::end_bytes);
                if !self.last.is_empty()
                    && !stands_before(file, self.records.position() - end_bytes, &self.last, piece)?
                {
                    // Begun anew, and longer already than it was.
                    self.restart();
                    continue;
                }
                file.seek(SeekFrom::Start(self.records.end()))?;
                piece.resize(PIECE_BYTES, 0);
                let count = file.read(piece)?;
                if count > 0 {
                    self.records.push(&piece[..count]);
                    continue;
                }
            }
            // A torn end is looked at once for each length. A JSON object is whole or it is none, so one that is whole need
            // not wait for its line end, which a file made by hand may never have.
            if self.torn_at != len && self.records.rest().trim_ascii_end().ends_with(b"}") {
                self.torn_at = len;
                return Ok(Some(Found::Rest(self.records.rest().to_vec())));
            }
            self.torn_at = len;
            // Not held while nothing comes: it is read again when something has.
            self.records.forget_rest();
            return Ok(None);
        }
    }
}

/// Whether the bytes that end at `end` are these.
fn stands_before(file: &mut File, end: u64, bytes: &[u8], piece: &mut Vec<u8>) -> io::Result<bool> {
    file.seek(SeekFrom::Start(end - bytes.len() as u64))?;
    piece.resize(bytes.len(), 0);
    file.read_exact(piece)?;
    Ok(piece == bytes)
}

/// What comes behind the `len` bytes that the file has now.
fn records_behind(path: &Path, len: u64, max: usize) -> Records {
    let open = || -> io::Result<Records> {
        let mut file = BufReader::new(File::open(path)?);
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        match Framing::of(byte[0]) {
            Framing::Lines => {
                file.seek(SeekFrom::Start(len - 1))?;
                file.read_exact(&mut byte)?;
                Ok(Records::from(max, Framing::Lines, len, byte[0] != b'\n'))
            }
            // A torn one at the end is read: its rest is still to come.
            Framing::Lengths => Ok(Records::from(max, Framing::Lengths, last_frame_end(&mut file, len)?, false)),
        }
    };
    match open() {
        Ok(records) if len > 0 => records,
        // Empty, or not to be read now.
        _ if len == 0 => Records::new(max),
        _ => Records::from(max, Framing::Lines, len, false),
    }
}

/// Where the last whole record ends: every length has to be read, since nothing tells where they stand.
fn last_frame_end(file: &mut BufReader<File>, len: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut end = 0;
    while len - end >= 4 {
        let mut length = [0; 4];
        file.read_exact(&mut length)?;
        let length = u64::from(u32::from_be_bytes(length));
        if len - end - 4 < length {
            break;
        }
        // A u32 is in range.
        file.seek_relative(length as i64)?;
        end += 4 + length;
    }
    Ok(end)
}
