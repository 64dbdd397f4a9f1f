//! Every operation on wire bytes equals prost's decode, change, encode.
//!
//! `OTLPD_CASES` sets how many requests each test looks at (default 100 000). A failure names the case; the same
//! number gives the same bytes.

mod items;
mod normalize;
mod support;
mod validate;
