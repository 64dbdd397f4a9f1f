//! Every operation on wire bytes equals prost's decode, change, encode.
//!
//! `OTLPD_CASES` sets how many requests each test looks at (default 100 000 for the validator and normalising, 50 000 for
//! each operation on items; about 12 s of CPU together). A failure names the case; the same number
//! gives the same bytes.

mod items;
mod normalize;
mod support;
mod validate;
