//! The program over real sockets: one test binary, so that it links once.
//!
//! | file           | what it shows                                                        |
//! |----------------|----------------------------------------------------------------------|
//! | `support/`     | starts the program, plays backends and senders                       |
//! | `delivery.rs`  | what goes in comes out, once, to each destination; the books balance |
//! | `shutdown.rs`  | a stop loses nothing that can be delivered, and ends in time         |
//! | `refusal.rs`   | full means "try again later"; bad input gets a clear answer          |
//! | `simulation.rs`| a whole pipeline on a simulated clock, stepped from a seed           |
//! | `embedding.rs` | pipelines in a host's own process                                    |
//! | `examples.rs`  | every example runs                                                   |
//! | `replay.rs`    | what was recorded in a file comes back, once                         |
//! | `admin.rs`     | health, metrics, command line, exit codes, secrets                   |
//! | `auth.rs`      | who may send, and who does not                                       |
//! | `secrets.rs`   | what is secret is not shown, wherever something is written           |
//! | `tidy.rs`      | the structure that ARCHITECTURE.md promises                          |
//! | `unix.rs`      | Unix sockets on both sides                                           |

mod admin;
mod auth;
mod delivery;
mod embedding;
mod examples;
mod refusal;
mod replay;
mod secrets;
mod shutdown;
mod simulation;
mod support;
mod tidy;
mod unix;
