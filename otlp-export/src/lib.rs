//! The crate is laid out; its parts follow.
