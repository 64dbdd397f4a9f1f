//! The short way: whoever hands a batch over takes it through the chain himself.
//!
//! Invariants:
//!
//! - Nobody waits: where the chain is busy, or its work would take too long, the batch comes back and goes by the inlet.
//! - Only where handing on to the destinations never waits, see [`Fanout::may_wait`].
//! - Once the stage has let go of what its processors hold, nothing comes in by this way any more.
//!
//! A batch that goes this way may overtake one that the pipeline's thread has just taken out of the inlet: OTLP promises no
//! order between requests.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use otlp_core::Batch;
use otlp_core::component::{Fanout, Guest};
use parking_lot::Mutex;

use super::Processing;

/// A batch whose way through the chain takes longer than this, going by what was measured lately, is left to the
/// pipeline's thread: a few times what waking that costs, and not so long that the receiver's other connections notice.
pub const EXPRESS_WORK_MAX: Duration = Duration::from_micros(100);

/// The same where processing has one thread, since the process has one core: the work then takes nobody else's turn
/// whoever does it, and what the pipeline's thread would add is two switches. And where little comes, whatever the cores:
/// the receiver then has no other turn to take, most likely, and waking another core takes longer than the work.
pub const EXPRESS_WORK_MAX_ALONE: Duration = Duration::from_millis(2);

/// The short way into one pipeline.
pub struct Express {
    processing: Arc<Mutex<Processing>>,
    fanout: Arc<dyn Fanout>,
    work_max: Duration,
    /// Makes the pipeline's thread look at its timer again.
    wake: Sender<()>,
}

impl Express {
    /// `None` where handing on may wait.
    pub(super) fn new(
        processing: &Arc<Mutex<Processing>>,
        fanout: Arc<dyn Fanout>,
        work_max: Duration,
    ) -> Option<Arc<Express>> {
        if fanout.may_wait() {
            return None;
        }
        let wake = processing.lock().wake().clone();
        Some(Arc::new(Express { processing: Arc::clone(processing), fanout, work_max, wake }))
    }

    /// Takes a batch through the chain, in the caller's thread. It comes back where that has to be the pipeline's own.
    pub(crate) fn process(&self, batch: Batch) -> Option<Batch> {
        let Some(mut processing) = self.processing.try_lock() else { return Some(batch) };
        let work = processing.estimate_all(batch.size().get());
        let takes_long = work > self.work_max && !(work <= EXPRESS_WORK_MAX_ALONE && processing.is_quiet(work));
        if takes_long || !processing.is_open() {
            return Some(batch);
        }
        processing.process(batch);
        if let Some(due) = processing.tick(false)
            && processing.waits_until().is_none_or(|until| due < until)
        {
            processing.set_waits_until(Some(due));
            // A full channel has woken it already.
            let _ = self.wake.try_send(());
        }
        None
    }

    /// See [`otlp_core::component::Outlet::guests`].
    pub(crate) fn guests(&self) -> Vec<Arc<dyn Guest>> {
        self.fanout.guests()
    }
}

impl std::fmt::Debug for Express {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Express")
    }
}
