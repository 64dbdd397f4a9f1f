//! What data is between receiver and exporter.

use bytes::{Buf, BufMut, Bytes};
use otlp_bin::config::Resolved;
use otlp_core::Signal;
use otlp_core::codec::{self, Coding};

use crate::Problem;
use crate::settings::PipelineSettings;

/// A representation of telemetry, and what processors do to it.
pub trait Engine: Send + Sync + Sized + 'static {
    /// One request, or several joined.
    type Data: Send + Sync + 'static;

    /// With the processors of a pipeline.
    ///
    /// # Errors
    ///
    /// Where they are not understood.
    fn new(tree: &Resolved, settings: &PipelineSettings) -> Result<Self, Problem>;

    /// Reads a request.
    ///
    /// # Errors
    ///
    /// Where it is malformed.
    fn decode(signal: Signal, body: impl Buf) -> Result<Self::Data, String>;

    /// Tells in what form a body came, for those who can make use of it.
    fn came_as(data: Self::Data, coding: Coding, body: Bytes) -> Self::Data {
        let _ = (coding, body);
        data
    }

    /// Runs the processors that need one request only.
    fn process(&self, data: Self::Data) -> Self::Data;

    /// Spans, data points or log records.
    fn items(data: &Self::Data) -> usize;

    /// Joins another request of the same signal.
    fn append(data: &mut Self::Data, other: Self::Data);

    /// Bytes when written.
    fn encoded_len(data: &Self::Data) -> usize;

    /// Writes it.
    fn write(data: &Self::Data, to: &mut impl BufMut);

    /// As the body of a request.
    fn body(data: &Self::Data, coding: Coding) -> Bytes {
        let mut plain = Vec::with_capacity(Self::encoded_len(data));
        Self::write(data, &mut plain);
        compressed(coding, plain)
    }
}

/// A plain body in a coding.
pub fn compressed(coding: Coding, plain: Vec<u8>) -> Bytes {
    if coding == Coding::Identity {
        return plain.into();
    }
    let mut out = Vec::with_capacity(plain.len() / 2);
    // Settings take only codings that are built.
    codec::encode(coding, None, &[&plain], &mut out).expect("the coding is built");
    out.into()
}
