//! Requests made of the items of another: the engine under [`retain`](mod@super::retain) and [`split`](mod@super::split).
//!
//! One pass over the body. Around the items that are taken, the messages that hold them are written again, each with its
//! own fields: resource, scope, schema URL, a metric's name and temporality, unknown fields. They are opened when their
//! first item arrives, so what gets no item is not written; what never had any is kept, since its unknown fields may be
//! the data of a later release.
//!
//! Invariants: the order of items is kept; a part is never larger than announced when its last item was decided
//! upon, but for empty envelopes that follow, because lengths are reserved for the old, larger messages; concatenated, the parts hold every item taken.

use std::ops::Range;

use smallvec::SmallVec;

use crate::signal::Signal;

use super::index::child;
use super::reader::{DEPTH_MAX, LEN, Read, delimited, skip, tag};
use super::schema::Message;
use super::writer::{Open, begin, delimited_len, end};

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes into the part that is being made.
    Take,
    /// That part is finished without it, and the item begins the next.
    TakeInNext,
    /// It is left out.
    Leave,
}

/// What there is to know when an item is decided upon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// Number of the item in the body, from 0.
    pub(super) number: u64,
    /// Items in the part so far.
    pub(super) part_items: u64,
    /// Bytes that the part would have with it, at most.
    pub(super) part_bytes_with: usize,
}

/// A request with its number of items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) items: u64,
    pub(super) body: Vec<u8>,
}

/// Makes requests of the items that `decide` takes. No part is without items, but for the only one.
///
/// # Errors
///
/// For bytes that were not validated.
pub(super) fn rebuild(
    signal: Signal,
    body: &[u8],
    capacity: usize,
    decide: impl FnMut(Offer) -> Verdict,
) -> Read<Vec<Part>> {
    let mut rebuild = Rebuild {
        body,
        capacity,
        decide,
        number: 0,
        levels: SmallVec::new(),
        pending: 0..0,
        part: Part { items: 0, body: Vec::with_capacity(capacity) },
        parts: Vec::new(),
    };
    rebuild.message(Message::request(signal), 0..body.len())?;
    rebuild.flush();
    let Rebuild { part, mut parts, .. } = rebuild;
    match parts.last_mut() {
        // What follows the last item: empty envelopes and unknown fields of the request itself.
        Some(last) if part.items == 0 => last.body.extend_from_slice(&part.body),
        _ => parts.push(part),
    }
    Ok(parts)
}

struct Rebuild<'a, D> {
    body: &'a [u8],
    capacity: usize,
    decide: D,
    /// Items met so far.
    number: u64,
    /// The messages that we are in, the request itself not included.
    levels: SmallVec<[Level; 4]>,
    /// Items taken and not yet copied: neighbours go in one piece.
    pending: Range<usize>,
    part: Part,
    parts: Vec<Part>,
}

struct Level {
    of: Message,
    field: u32,
    content: Range<usize>,
    /// Its fields other than what holds items, found when first needed.
    head: Option<Head>,
    /// Written in the current part, not ended yet.
    open: Option<Open>,
    had_items: bool,
}

#[derive(Clone, Default)]
struct Head {
    runs: SmallVec<[Range<usize>; 4]>,
    bytes: usize,
}

impl Head {
    fn find(body: &[u8], of: Message, content: &Range<usize>) -> Read<Head> {
        let mut head = Head::default();
        let bytes = &body[..content.end];
        let mut at = content.start;
        while at < bytes.len() {
            let start = at;
            let (number, wire_type) = tag(bytes, &mut at)?;
            skip(bytes, &mut at, number, wire_type, DEPTH_MAX)?;
            if wire_type == LEN && child(of, number).is_some() {
                continue;
            }
            head.bytes += at - start;
            match head.runs.last_mut() {
                Some(run) if run.end == start => run.end = at,
                _ => head.runs.push(start..at),
            }
        }
        Ok(head)
    }
}

impl<D: FnMut(Offer) -> Verdict> Rebuild<'_, D> {
    fn message(&mut self, of: Message, content: Range<usize>) -> Read<()> {
        let bytes = &self.body[..content.end];
        let mut at = content.start;
        while at < bytes.len() {
            let start = at;
            let (number, wire_type) = tag(bytes, &mut at)?;
            match child(of, number) {
                Some(inner) if wire_type == LEN => {
                    let length = delimited(bytes, &mut at)?.len();
                    if inner.is_item() {
                        self.item(start..at)?;
                    } else {
                        self.enter(inner, number, start..at, at - length..at)?;
                    }
                }
                _ => {
                    skip(bytes, &mut at, number, wire_type, DEPTH_MAX)?;
                    // Unknown fields of the request itself; those of other levels come with the level.
                    if self.levels.is_empty() {
                        self.copy(start..at);
                    }
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, of: Message, field: u32, whole: Range<usize>, content: Range<usize>) -> Read<()> {
        self.levels.push(Level { of, field, content: content.clone(), head: None, open: None, had_items: false });
        self.message(of, content)?;
        let Some(level) = self.levels.pop() else { return Ok(()) };
        if let Some(outer) = self.levels.last_mut() {
            outer.had_items |= level.had_items;
        }
        match level.open {
            Some(open) => {
                self.flush();
                end(&mut self.part.body, open);
            }
            None if !level.had_items => {
                self.open_levels()?;
                self.copy(whole);
            }
            None => {}
        }
        Ok(())
    }

    #[inline]
    fn item(&mut self, whole: Range<usize>) -> Read<()> {
        let opening = self.opening()?;
        let offer = Offer {
            number: self.number,
            part_items: self.part.items,
            part_bytes_with: self.part.body.len() + self.pending.len() + opening + whole.len(),
        };
        self.number += 1;
        if let Some(level) = self.levels.last_mut() {
            level.had_items = true;
        }
        match (self.decide)(offer) {
            Verdict::Leave => return Ok(()),
            Verdict::Take => {}
            Verdict::TakeInNext => self.finish_part(),
        }
        if opening > 0 || self.part.items == 0 {
            self.open_levels()?;
        }
        self.part.items += 1;
        self.copy(whole);
        Ok(())
    }

    fn copy(&mut self, whole: Range<usize>) {
        if self.pending.end == whole.start && !self.pending.is_empty() {
            self.pending.end = whole.end;
        } else {
            self.flush();
            self.pending = whole;
        }
    }

    fn flush(&mut self) {
        let pending = std::mem::replace(&mut self.pending, 0..0);
        self.part.body.extend_from_slice(&self.body[pending]);
    }

    /// Bytes that the levels not yet open in this part would take, without their items.
    #[inline]
    fn opening(&mut self) -> Read<usize> {
        // Levels open from the outside in: where the innermost is open, all are.
        if self.levels.last().is_none_or(|level| level.open.is_some()) {
            return Ok(0);
        }
        let mut bytes = 0;
        for level in &mut self.levels {
            if level.open.is_none() {
                let head = match &mut level.head {
                    Some(head) => head.bytes,
                    none => none.insert(Head::find(self.body, level.of, &level.content)?).bytes,
                };
                bytes += delimited_len(level.field, level.content.len()) - level.content.len() + head;
            }
        }
        Ok(bytes)
    }

    fn open_levels(&mut self) -> Read<()> {
        self.opening()?;
        self.flush();
        for level in &mut self.levels {
            if level.open.is_none() {
                level.open = Some(begin(&mut self.part.body, level.field, level.content.len()));
                for run in level.head.iter().flat_map(|head| &head.runs) {
                    self.part.body.extend_from_slice(&self.body[run.clone()]);
                }
            }
        }
        Ok(())
    }

    fn finish_part(&mut self) {
        self.flush();
        for level in self.levels.iter_mut().rev() {
            if let Some(open) = level.open.take() {
                end(&mut self.part.body, open);
            }
        }
        let next = Part { items: 0, body: Vec::with_capacity(self.capacity) };
        self.parts.push(std::mem::replace(&mut self.part, next));
    }
}
