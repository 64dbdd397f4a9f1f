use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_core::Signal;
use otlp_core::testing::generate;
use otlp_core::testing::mutate::mutate;
use otlp_core::testing::random::Random;
use prost::Message;

/// How many cases a test looks at.
pub(crate) fn cases(default: u64) -> u64 {
    std::env::var("OTLPD_CASES").map_or(default, |cases| cases.parse().expect("OTLPD_CASES is a number"))
}

/// A request of the sender's making or, for `damaged`, of what became of it: realistic, in an SDK's or the Collector's order
/// of fields, ugly, or either, changed.
pub(crate) fn sample(case: u64, damaged: bool) -> (Signal, Vec<u8>) {
    let signal = Signal::ALL[(case % 3) as usize];
    let mut random = Random::new(case);
    let mut body = match random.below(5) {
        0 => {
            let body = generate::request(signal, case, 1 + random.index(4));
            if random.once_in(2) { generate::in_collector_order(signal, &body).into() } else { body.into() }
        }
        _ => generate::ugly(signal, case).to_vec(),
    };
    if damaged {
        mutate(&mut random, &mut body);
    }
    (signal, body)
}

/// A request as prost sees it.
#[derive(Clone, Debug)]
pub(crate) enum Typed {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

impl Typed {
    pub(crate) fn decode(signal: Signal, body: &[u8]) -> Result<Typed, prost::DecodeError> {
        Ok(match signal {
            Signal::Traces => Typed::Traces(Message::decode(body)?),
            Signal::Metrics => Typed::Metrics(Message::decode(body)?),
            Signal::Logs => Typed::Logs(Message::decode(body)?),
        })
    }

    /// Encoded, which unlike `==` tells NaNs apart and equal ones together.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Typed::Traces(request) => request.encode_to_vec(),
            Typed::Metrics(request) => request.encode_to_vec(),
            Typed::Logs(request) => request.encode_to_vec(),
        }
    }
}
