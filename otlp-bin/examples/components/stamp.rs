//! A processor that remembers: it numbers the batches that pass.

use otlp_core::component::{Downstream, Processor, Refused};
use otlp_core::wire::edit::{AttributeList, Editor, Value, edit_batch};
use otlp_core::wire::view::ItemView;
use otlp_core::{Batch, Group};

/// The attribute that a span gets.
pub const KEY: &str = "batch.number";

#[derive(Default)]
pub struct Stamp {
    passed: i64,
}

struct Number(Value);

impl Editor for Number {
    fn item(&mut self, _: ItemView<'_>, attributes: &mut AttributeList<'_>) {
        attributes.upsert(KEY, &self.0);
    }
}

impl Processor for Stamp {
    // Called on the pipeline's own thread, batch after batch: no lock. One that needs no memory of other batches would
    // give a `transform` instead, and be run on several batches at once.
    fn process(&mut self, batch: Batch, downstream: &mut dyn Downstream) -> Result<(), Refused> {
        self.passed += 1;
        let stamped = edit_batch(batch, &mut Number(Value::int(self.passed)));
        downstream.emit(Group::of(stamped));
        Ok(())
    }
}
