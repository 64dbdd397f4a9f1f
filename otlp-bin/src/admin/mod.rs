//! What a person or an orchestrator asks the running program: its health and its metrics.
//!
//! | file            | purpose                                                              |
//! |-----------------|----------------------------------------------------------------------|
//! | `endpoints.rs`  | those that a configuration asks for, started                        |
//! | `server.rs`     | a small HTTP/1.1 server for endpoints that are asked now and then    |
//! | `health.rs`     | the `health_check` extension                                         |
//! | `prometheus.rs` | metrics in the Prometheus text format                                |
//! | `process.rs`    | the process's own figures: uptime, CPU, memory                       |

pub mod endpoints;
pub mod health;
pub mod process;
pub mod prometheus;
pub mod server;
