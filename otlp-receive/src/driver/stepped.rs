//! For tests: a session of either protocol and everything around it, stepped by hand: no socket, no thread, a clock that
//! stands still.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use otlp_core::component::{Outlet, Outlets, Refused};
use otlp_core::flow::MemoryBudget;
use otlp_core::{AckMode, Batch, ByteSize, Clock, Failure, Outcome, Reason, Signal};
use parking_lot::Mutex;

use super::exchange::Exchange;
use super::inbox::{Inbox, Mailbox, Message};
use crate::intake::Common;
use crate::{Config, Env};

/// What the pipeline does with a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Keep,
    Refuse,
    Hold,
    Panic,
}

pub(crate) struct Pipeline {
    mode: Mutex<Mode>,
    pub(crate) taken: Mutex<Vec<Batch>>,
}

impl Outlet for Pipeline {
    fn try_send(&self, batch: Batch) -> Result<(), Refused> {
        let refused = |batch, hold| {
            let failure = Failure::refused(Reason::QUEUE_FULL, "sending queue is full");
            Err(Refused { batch: Box::new(batch), failure, hold })
        };
        match *self.mode.lock() {
            Mode::Keep => {
                self.taken.lock().push(batch);
                Ok(())
            }
            Mode::Refuse => refused(batch, false),
            Mode::Hold => refused(batch, true),
            Mode::Panic => panic!("a defect in the pipeline"),
        }
    }
}

/// What a test makes of the bytes that a session writes.
pub(crate) trait Reader {
    /// Takes what it understands so far.
    fn read(&mut self, output: &mut Vec<u8>);
}

/// A session and everything around it.
pub(crate) struct Stepped<S, R> {
    pub(crate) session: S,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) env: Env,
    pub(crate) now: Instant,
    /// What the session wrote and `seen` has not taken.
    pub(crate) output: Vec<u8>,
    pub(crate) seen: R,
    /// Whether the peer reads.
    pub(crate) reads: bool,
    pub(crate) closed: bool,
}

impl<S: Exchange, R: Reader> Stepped<S, R> {
    /// One whose requests wait for their outcome, with 8 MiB for bodies and one outlet, for traces.
    pub(crate) fn around(
        config: &Config,
        make: impl FnOnce(&Common, &Env, Mailbox, Instant) -> (S, R),
    ) -> Stepped<S, R> {
        let acknowledge = config.acknowledge.or(Some(AckMode::Exported));
        let config = Config { acknowledge, ..config.clone() };
        let env = Env { budget: MemoryBudget::new(ByteSize::mib(8)), clock: Clock::simulated(), ..Env::default() };
        let pipeline = Arc::new(Pipeline { mode: Mutex::new(Mode::Keep), taken: Mutex::default() });
        let mut outlets = Outlets::default();
        outlets.set(Signal::Traces, pipeline.clone());
        let common = Common::new("otlp", &config, outlets, &env);
        let inbox = Arc::new(Inbox::new(super::poll::waker().unwrap()));
        let now = env.clock.now();
        let (session, seen) = make(&common, &env, Mailbox::new(inbox.clone(), 0), now);
        Stepped { session, inbox, pipeline, env, now, output: Vec::new(), seen, reads: true, closed: false }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.session.receive(&mut bytes.to_vec(), self.now);
        self.turn()
    }

    /// What the driver does at the end of a turn.
    pub(crate) fn turn(&mut self) -> &mut Self {
        while let Some(message) = self.inbox.take() {
            let Message::Answered { request, outcome, .. } = message else { panic!("{message:?}") };
            self.session.answered(request, outcome, self.now);
        }
        self.session.advance(self.now, &|| SystemTime::UNIX_EPOCH);
        while self.reads && !self.session.output().is_empty() {
            self.output.extend_from_slice(self.session.output());
            let bytes = self.session.output().len();
            self.session.written(bytes, self.now);
            self.session.advance(self.now, &|| SystemTime::UNIX_EPOCH);
        }
        if !self.reads {
            self.session.written(0, self.now);
        }
        self.closed |= self.session.closes(self.now);
        self.seen.read(&mut self.output);
        self
    }

    /// Moves the clock to the session's deadlines, but not beyond `limit`, and does what is due.
    pub(crate) fn wait(&mut self, limit: Duration) -> &mut Self {
        let (end, mut turns) = (self.now + limit, 0);
        while let Some(at) = self.session.deadline().filter(|&at| at <= end) {
            self.advance_to(at);
            self.session.on_time(self.now);
            self.turn();
            turns += 1;
            assert!(turns < 10_000, "a driver would spin");
        }
        self.advance_to(end);
        self
    }

    pub(crate) fn advance_to(&mut self, at: Instant) {
        self.env.clock.advance(at.saturating_duration_since(self.now));
        self.now = self.now.max(at);
    }

    /// Gives a batch that was taken its outcome.
    pub(crate) fn settle(&mut self, index: usize, outcome: Outcome) -> &mut Self {
        let batch = self.pipeline.taken.lock().remove(index);
        batch.settle(outcome);
        self.turn()
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        *self.pipeline.mode.lock() = mode;
    }

    /// Batches that the pipeline has.
    pub(crate) fn taken(&self) -> usize {
        self.pipeline.taken.lock().len()
    }

    /// Of each of them, whether its sender has been answered already.
    pub(crate) fn withdrawn(&self) -> Vec<bool> {
        self.pipeline.taken.lock().iter().map(|batch| batch.ticket().ack().is_withdrawn()).collect()
    }
}
