//! Joins what waits into larger requests. No clock, no channel: the worker that holds it tells it the time.
//!
//! Invariants:
//!
//! - What is sent together came with the same values of the partition keys.
//! - Nothing larger than `max_size` leaves, but for a single item that is.
//! - The place in the queue stays taken until the last piece of what took it is settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use otlp_core::flow::gate::{Admitted, Permit};
use otlp_core::wire::{PartLimit, split_group};
use otlp_core::{ByteSize, Group, ItemCount};

use super::config::{Batch, Sizer};

/// A group to be sent, with the places that it takes in the queue.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) group: Group,
    pub(crate) places: Places,
}

/// Places in a queue, given back when dropped.
#[derive(Debug)]
#[allow(dead_code, reason = "held for what dropping them does")]
pub(crate) enum Places {
    One(Permit),
    Shared(Vec<Arc<Permit>>),
}

/// What waits to be joined, by partition.
#[derive(Debug)]
pub(crate) struct Batcher {
    config: Batch,
    /// In the order in which they were begun. A partition with nothing in it is not kept, so their number is bounded by
    /// what the queue holds.
    partitions: VecDeque<Partition>,
}

#[derive(Debug)]
struct Partition {
    key: Vec<String>,
    since: Instant,
    size: u64,
    waiting: VecDeque<(Group, Arc<Permit>)>,
}

impl Batcher {
    pub(crate) fn new(config: Batch) -> Batcher {
        Batcher { config, partitions: VecDeque::new() }
    }

    /// Takes a group in at `now`.
    pub(crate) fn add(&mut self, admitted: Admitted<Group>, now: Instant) {
        let Admitted { item: group, permit } = admitted;
        let permit = Arc::new(permit);
        if self.config.partition_metadata_keys.is_empty() {
            return self.put(Vec::new(), group, permit, now);
        }
        // The parts of a group may come from several senders.
        let signal = group.signal();
        let mut by_key: Vec<(Vec<String>, Group)> = Vec::new();
        for batch in group.into_parts() {
            let key = self.key(batch.context());
            match by_key.iter_mut().find(|(found, _)| *found == key) {
                Some((_, group)) => group.push(batch),
                None => {
                    let mut group = Group::new(signal);
                    group.push(batch);
                    by_key.push((key, group));
                }
            }
        }
        for (key, group) in by_key {
            self.put(key, group, Arc::clone(&permit), now);
        }
    }

    fn key(&self, context: &otlp_core::Context) -> Vec<String> {
        let mut key = Vec::new();
        for name in &self.config.partition_metadata_keys {
            let values: Vec<&str> = context.metadata(name).collect();
            // The count keeps ["a", "b"] for one key and nothing for the next apart from ["a"] and ["b"].
            key.push(values.len().to_string());
            key.extend(values.into_iter().map(str::to_owned));
        }
        key
    }

    fn put(&mut self, key: Vec<String>, group: Group, permit: Arc<Permit>, now: Instant) {
        let size = self.size(&group);
        let index = self.partitions.iter().position(|partition| partition.key == key).unwrap_or_else(|| {
            self.partitions.push_back(Partition { key, since: now, size: 0, waiting: VecDeque::new() });
            self.partitions.len() - 1
        });
        let partition = &mut self.partitions[index];
        partition.size += size;
        partition.waiting.push_back((group, permit));
    }

    /// The next group to send at `now`: one that is large enough, or has waited long enough, or anything where `all`.
    pub(crate) fn next(&mut self, now: Instant, all: bool) -> Option<Entry> {
        let ready = |partition: &Partition| {
            all || partition.size >= self.config.min_size.max(1)
                || now.saturating_duration_since(partition.since) >= self.config.flush_timeout
        };
        let index = self.partitions.iter().position(ready)?;
        let entry = self.take(index);
        if self.partitions[index].waiting.is_empty() {
            self.partitions.remove(index);
        } else {
            // What is left came later than what has gone, but when is not kept: it waits from now at most as long again.
            self.partitions[index].since = now;
        }
        entry
    }

    /// Takes from the front of a partition as much as may leave at once.
    fn take(&mut self, index: usize) -> Option<Entry> {
        let (sizer, max) = (self.config.sizer, self.config.max_size);
        let partition = &mut self.partitions[index];
        let (group, permit) = partition.waiting.pop_front()?;
        let mut entry = (group, vec![permit]);
        let mut size = sizer.of(entry.0.weight());
        if max != 0 && size > max {
            let limit = match sizer {
                Sizer::Bytes => PartLimit::bytes(ByteSize(max)),
                Sizer::Items | Sizer::Requests => PartLimit::items(ItemCount(max)),
            };
            let mut pieces = split_group(entry.0, limit).into_iter();
            entry.0 = pieces.next()?;
            for piece in pieces.rev() {
                partition.waiting.push_front((piece, Arc::clone(&entry.1[0])));
            }
            // Cutting adds bytes: the envelopes around what is cut are needed in every piece.
            partition.size = partition.waiting.iter().map(|(group, _)| sizer.of(group.weight())).sum();
            return Some(Entry { group: entry.0, places: Places::Shared(entry.1) });
        }
        partition.size -= size;
        while let Some((next, _)) = partition.waiting.front() {
            let next_size = sizer.of(next.weight());
            if max != 0 && size + next_size > max {
                break;
            }
            let Some((next, permit)) = partition.waiting.pop_front() else { break };
            size += next_size;
            partition.size -= next_size;
            entry.0.append(next);
            entry.1.push(permit);
        }
        Some(Entry { group: entry.0, places: Places::Shared(entry.1) })
    }

    fn size(&self, group: &Group) -> u64 {
        self.config.sizer.of(group.weight())
    }

    /// When the next partition has waited long enough; `None` where nothing waits.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.partitions.iter().map(|partition| partition.since + self.config.flush_timeout).min()
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}
