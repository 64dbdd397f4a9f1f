//! A destination without threads: its owner does, step by step, what its workers would do.
//!
//! For a service that has a loop of its own, and for a whole pipeline on a simulated clock. The deciding parts are the
//! same as with threads; only the waiting is the owner's.

use std::fmt;
use std::time::{Duration, Instant};

use crate::delivery::Journey;
use crate::destination::{Destination, Way};
use crate::queue::{Entry, Next, Places};

/// What is on its way to one destination. What is in it when it is dropped is lost, and counted as that.
#[derive(Default)]
pub struct Steps {
    under_way: Vec<(Instant, Journey, Places)>,
}

impl Destination {
    /// Takes from the queue while fewer than `consumers` groups are on their way, makes every attempt that is due, and
    /// says when to come back at the latest; `None` where nothing is left to be done. Never waits, but for the exporter.
    ///
    /// For a destination that was made with [`Threads::none`](crate::Threads::none), and one [`Steps`] for each. At the
    /// end [`Destination::shutdown`] drops what is still in the queue.
    pub fn step(&self, steps: &mut Steps, consumers: usize) -> Option<Instant> {
        let Way::Queue { queue, delivery, .. } = self.way() else { return None };
        let mut index = 0;
        loop {
            let now = self.clock().now();
            if let Some((due, journey, _)) = steps.under_way.get_mut(index) {
                if *due <= now {
                    match delivery.advance(journey) {
                        Some(pause) => *due = self.clock().now() + pause,
                        None => {
                            steps.under_way.remove(index);
                            continue;
                        }
                    }
                }
                index += 1;
                continue;
            }
            if steps.under_way.len() >= consumers {
                break;
            }
            let Next::Entry(Entry { group, places }) = queue.next(self.stop(), Duration::ZERO) else { break };
            if let Some(journey) = delivery.begin(group) {
                steps.under_way.push((now, journey, places));
            }
        }
        let has_room = steps.under_way.len() < consumers;
        let attempts = steps.under_way.iter().map(|(due, ..)| *due);
        attempts.chain(queue.due().filter(|_| has_room)).min()
    }
}

impl Steps {
    /// How many groups are on their way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Steps({} on their way)", self.under_way.len())
    }
}
