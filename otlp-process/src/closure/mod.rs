//! Processing by closures: what a service that links a pipeline wants to do to its telemetry, in one line each.
//!
//! | file           | purpose                                                                     |
//! |----------------|-----------------------------------------------------------------------------|
//! | `item.rs`      | [`Item`]: an item with what it stands in, as a closure sees it               |
//! | `filter.rs`    | [`filter`]: keeps the items of which a closure says so                       |
//! | `map.rs`       | [`map`]: sets attributes, renames                                            |
//! | `rename.rs`    | names written anew on the wire; under `map`                                  |
//! | `partition.rs` | [`partition`]: one stream into two outlets                                   |
//! | `aggregate.rs` | [`aggregate`](fn@aggregate): every so many items as one window               |
//! | `retry.rs`     | [`retry`](fn@retry): a step that may fail, tried again                       |
//! | `tests/`       | each against prost's decode, change, encode; the contract; the books         |
//!
//! # What it does
//!
//! Every closure sees views over the bytes: nothing is decoded, what is not touched is copied in runs or not at all, and
//! unknown fields survive.
//!
//! # Place in the pipeline
//!
//! Anywhere in a [`Chain`](crate::Chain); [`partition`] stands between a receiver or a connector and two pipelines. Several
//! receivers are joined, in fair turns, by [`merge`](crate::merge).
//!
//! # Threads
//!
//! Closures of [`filter`], [`map`] and [`partition`] run on any thread, on several batches at once, and so are `Fn`. Those
//! of [`aggregate`](fn@aggregate) and [`retry`](fn@retry) run on the pipeline's own thread, one batch after another.
//!
//! # Limits
//!
//! None but those said with each.
//!
//! # On failure
//!
//! A closure that panics costs the batch that it saw: the stage rejects it and counts it.
//!
//! # On shutdown
//!
//! What is held leaves by `flush`.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use otlp_core::wire::edit::Value;
//! use otlp_process::Chain;
//! use otlp_process::closure::{filter, map};
//!
//! let mut chain = Chain::new(vec![
//!     Box::new(filter(|item| item.duration() >= Duration::from_millis(5))),
//!     Box::new(map(|item| {
//!         item.set_name("slow");
//!         item.attributes().upsert("team", &Value::string("storage"));
//!     })),
//! ]);
//! // A resource, a scope, and a span from the second 1 to the second 2.
//! let span = [0x39, 0, 202, 154, 59, 0, 0, 0, 0, 0x41, 0, 148, 53, 119, 0, 0, 0, 0];
//! let body = [&[0x0a, 22, 0x12, 20, 0x12, 18][..], &span].concat();
//! let limits = otlp_core::wire::Limits::default();
//! let (batch, _) = otlp_core::Batch::check(otlp_core::Signal::Traces, body.into(), &limits).unwrap();
//! let groups = chain.process(batch).unwrap();
//! let view = otlp_core::wire::view::resources(groups[0].parts()[0].body());
//! let span = view.flat_map(|resource| resource.scopes()).flat_map(|scope| scope.spans()).next().unwrap();
//! assert_eq!((span.name(), span.attributes().get("team").unwrap().as_str()), ("slow", Some("storage")));
//! ```

pub mod aggregate;
mod filter;
mod item;
mod map;
mod partition;
mod rename;
pub mod retry;

#[cfg(test)]
mod tests;

pub use aggregate::{Aggregated, Window, aggregate};
pub use filter::filter;
pub use item::Item;
pub use map::{ItemMut, map};
pub use partition::{Partition, partition};
pub use retry::{retries, retry};
