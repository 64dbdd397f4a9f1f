//! The destinations of one pipeline: room in all of them or in none.
//!
//! # What it does
//!
//! Reserves a place in every destination's queue before anything is accepted, then hands each its share.
//!
//! # Limits
//!
//! Those of the queues. Where one has no room its `when_full` decides: `refuse` refuses for all of them, before any queue
//! took anything; `block` waits; `drop_newest` and `drop_oldest` drop for that destination alone, counted, with a warning
//! a minute, and the destination is unhealthy. The default is `refuse` where there is one destination, and `drop_newest`
//! where there are several, so that a dead one holds up nobody.
//!
//! # On failure
//!
//! A refusal reserves nothing anywhere. After acceptance nothing can fail: every share ends in the books.
//!
//! # Specification
//!
//! OTLP, Multi-Destination Exporting: a queue, a schedule and an acknowledgement for each.

use std::fmt;
use std::sync::Arc;

use otlp_core::component::{Fanout, Guest};
use otlp_core::flow::gate::{Place, Room, Weight, WhenFull};
use otlp_core::{Failure, Group, Reason};
use smallvec::SmallVec;

use crate::destination::Destination;

/// The destinations of one pipeline, in the order in which its ledger names them.
///
/// # Threads
///
/// `reserve` waits only where a destination is configured to block; `send` exports in the caller's thread for those that
/// have no queue, after all others have their share.
pub struct Destinations {
    list: Vec<(Arc<Destination>, WhenFull)>,
}

impl Destinations {
    /// In the ledger's order.
    pub fn new(destinations: impl IntoIterator<Item = Arc<Destination>>) -> Destinations {
        let destinations: Vec<_> = destinations.into_iter().collect();
        let default = if destinations.len() > 1 { WhenFull::DropNewest } else { WhenFull::Refuse };
        let with_policy = |destination: Arc<Destination>| {
            let when_full = destination.when_full().unwrap_or(default);
            (destination, when_full)
        };
        Destinations { list: destinations.into_iter().map(with_policy).collect() }
    }

    /// The destinations.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.list.iter().map(|(destination, _)| destination)
    }

    /// One try at a place everywhere, with one place got already; the index of the blocking destination that had none.
    fn try_reserve(&self, weight: Weight, mut got: Option<(usize, Place)>) -> Result<Result<Room, usize>, Failure> {
        let mut places: SmallVec<[Place; 2]> = SmallVec::new();
        let mut blocked = None;
        // Those that may refuse come first, and those that drop last: nothing is to be dropped at one destination for a
        // group that another then refuses.
        let mut slots: SmallVec<[Option<Place>; 2]> = self.list.iter().map(|_| None).collect();
        for pass in [WhenFull::Refuse, WhenFull::Block, WhenFull::DropNewest, WhenFull::DropOldest] {
            for (index, (destination, when_full)) in self.list.iter().enumerate() {
                if *when_full != pass {
                    continue;
                }
                if got.as_ref().is_some_and(|(of, _)| *of == index) {
                    slots[index] = got.take().map(|(_, place)| place);
                    continue;
                }
                match destination.try_place(weight, *when_full) {
                    Ok(place) => slots[index] = Some(place),
                    Err(failure) if *when_full == WhenFull::Block && destination.can_hold(weight) => {
                        if destination.is_stopping() {
                            return Err(failure);
                        }
                        blocked = Some(index);
                    }
                    Err(failure) => return Err(failure),
                }
            }
            if let Some(index) = blocked {
                return Ok(Err(index));
            }
        }
        places.extend(slots.into_iter().flatten());
        Ok(Ok(Room { permits: places }))
    }
}

impl Fanout for Destinations {
    fn reserve(&self, weight: Weight) -> Result<Room, Failure> {
        let mut got = None;
        loop {
            match self.try_reserve(weight, got.take())? {
                Ok(room) => return Ok(room),
                // Waits for the one without holding a place in the others: two pipelines with the same destinations
                // would otherwise wait for each other's places for ever.
                Err(index) => {
                    let (destination, _) = &self.list[index];
                    got = destination.wait_for_place(weight).map(|place| (index, place));
                }
            }
        }
    }

    fn try_reserve(&self, weight: Weight) -> Result<Room, Failure> {
        self.try_reserve(weight, None)?.map_err(|_| Failure::refused(Reason::QUEUE_FULL, "sending queue is full"))
    }

    fn send(&self, group: Group, room: Room) {
        let mut direct: SmallVec<[(usize, Group); 2]> = SmallVec::new();
        let groups = group.assign(self.list.len());
        let places = room.permits.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for ((index, group), place) in groups.into_iter().enumerate().zip(places) {
            match place.unwrap_or(Place::Dropped) {
                Place::Direct => direct.push((index, group)),
                place => self.list[index].0.hand_over(group, place),
            }
        }
        for (index, group) in direct {
            self.list[index].0.hand_over(group, Place::Direct);
        }
    }

    fn may_wait(&self) -> bool {
        self.list.iter().any(|(destination, when_full)| *when_full == WhenFull::Block || !destination.has_queue())
    }

    fn guests(&self) -> Vec<Arc<dyn Guest>> {
        self.iter().filter_map(|destination| destination.guest()).collect()
    }
}

impl fmt::Debug for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
