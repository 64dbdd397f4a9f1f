//! Whose turn it is: deficit round robin over lanes. No thread, no channel, no clock.
//!
//! Invariants:
//!
//! - Within a lane order is kept.
//! - Of two lanes that always have something waiting, neither gets ahead of the other by more than a quantum and the
//!   largest single cost.
//! - A lane that has nothing waiting saves nothing up.

use std::collections::VecDeque;

/// What waits, lane by lane.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    /// What a lane may hand on in one turn.
    quantum: u64,
    /// How many may wait in one lane.
    capacity: usize,
    /// Whose turn it is.
    turn: usize,
    /// That lane's credit for this turn has been given.
    begun: bool,
    len: usize,
}

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<(u64, T)>,
    credit: u64,
}

impl<T> Lanes<T> {
    pub(super) fn new(lanes: usize, capacity: usize, quantum: u64) -> Lanes<T> {
        let lanes = (0..lanes).map(|_| Lane { waiting: VecDeque::new(), credit: 0 }).collect();
        Lanes { lanes, quantum: quantum.max(1), capacity: capacity.max(1), turn: 0, begun: false, len: 0 }
    }

    /// Puts something at the end of a lane; it comes back where the lane is full.
    pub(super) fn push(&mut self, lane: usize, cost: u64, item: T) -> Result<(), T> {
        let lane = &mut self.lanes[lane];
        if lane.waiting.len() >= self.capacity {
            return Err(item);
        }
        lane.waiting.push_back((cost, item));
        self.len += 1;
        Ok(())
    }

    /// What is next.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        loop {
            let lane = &mut self.lanes[self.turn];
            let Some(&(cost, _)) = lane.waiting.front() else {
                lane.credit = 0;
                self.pass();
                continue;
            };
            if !std::mem::replace(&mut self.begun, true) {
                lane.credit += self.quantum;
            }
            if cost > lane.credit {
                self.pass();
                continue;
            }
            lane.credit -= cost;
            self.len -= 1;
            return lane.waiting.pop_front().map(|(_, item)| item);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn pass(&mut self) {
        self.turn = (self.turn + 1) % self.lanes.len();
        self.begun = false;
    }
}
