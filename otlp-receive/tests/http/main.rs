//! OTLP over HTTP from outside: real sockets on 127.0.0.1, a hostile client that writes bytes. Ids such as CON-09 are
//! rows of the conformance list that the project works by.

mod auth;
mod connections;
mod encodings;
mod errors;
mod json;
mod lifecycle;
mod requests;
mod server;
