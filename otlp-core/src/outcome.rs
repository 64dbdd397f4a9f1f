//! What became of a batch, and what whoever sent it should do about it.
//!
//! Words: **refuse**: not taken, send it again later. **reject**: invalid, the same bytes will fail again. **drop**: it
//! had been accepted and was lost. **remove**: a processor took it out, as configured.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::unit::ItemCount;

/// The end of a batch's journey, as far as one destination is concerned.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Taken, all of it.
    Delivered,
    /// Taken but for some items, which must not be sent again (OTLP, Partial Success).
    Partial {
        /// Items the destination did not take. Zero with a message is a warning.
        rejected: ItemCount,
        /// The destination's own words.
        message: Arc<str>,
    },
    /// Not taken.
    Failed(Failure),
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The gRPC status code; [`Code::http`] gives the HTTP one.
    pub code: Code,
    /// What the caller should do.
    pub retry: Retry,
    /// The label under which it is counted.
    pub reason: Reason,
    /// One line for a person: lower case, no full stop, no secrets.
    pub message: Arc<str>,
}

/// What the caller of something that failed should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing: the same input fails again.
    Never,
    /// Try again, not before this much time has passed.
    After(Duration),
    /// Try again by one's own schedule.
    Backoff,
}

/// The label under which something refused, rejected or dropped is counted. A closed list: see the constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason(&'static str);

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $name: Reason = Reason($text);)*

            /// Every reason there is, for tables and golden tests.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];
        }
    };
}

reasons! {
    /// The process-wide memory budget had no room.
    MEMORY_BUDGET = "memory_budget";
    /// The memory_limiter found the process above its limit.
    MEMORY_LIMIT = "memory_limit";
    /// A gate or queue was full.
    QUEUE_FULL = "queue_full";
    /// A configured rate was exceeded.
    RATE_LIMIT = "rate_limit";
    /// The process is stopping.
    SHUTDOWN = "shutdown";
    /// Retrying went on for longer than configured.
    RETRIES_EXHAUSTED = "retries_exhausted";
    /// The sender had been told to send again, or had gone, before anything was sent on.
    WITHDRAWN = "withdrawn";
    /// A component panicked.
    PANIC = "panic";
    /// A batch vanished without anyone saying why: always a defect of ours.
    LOST = "lost";
    /// The bytes are not a request of this signal.
    MALFORMED = "malformed";
    /// Larger than a limit allows.
    TOO_LARGE = "too_large";
    /// The destination took the request but for some items.
    PARTIAL_SUCCESS = "partial_success";
    /// The destination answered that it will never take this request.
    PERMANENT = "permanent";
    /// The destination answered that the credentials are missing or not enough.
    UNAUTHORIZED = "unauthorized";
    /// The destination could not be reached, or the connection broke.
    CONNECTION = "connection";
    /// The destination did not answer in time.
    TIMEOUT = "timeout";
    /// The destination answered that it cannot take the request now.
    UNAVAILABLE = "unavailable";
    /// The destination's answer makes no sense.
    BAD_ANSWER = "bad_answer";
    /// Reading or writing a file failed.
    IO = "io";
    /// Too many combinations of metadata values in a batch processor.
    CARDINALITY = "cardinality";
    /// The path, method, content type or coding of a request is none that we serve.
    UNSUPPORTED = "unsupported";
}

impl Reason {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// A dense number below `ALL.len()`, for tables.
    pub fn index(self) -> usize {
        Reason::ALL.iter().position(|&reason| reason == self).unwrap_or(0)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A gRPC status code, with the tables that translate it to and from HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are those of the gRPC specification")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// The code of that number; numbers out of range are `Unknown`, as gRPC clients take them.
    pub fn from_number(number: i64) -> Code {
        use Code::*;
        const CODES: [Code; 17] = [
            Ok,
            Cancelled,
            Unknown,
            InvalidArgument,
            DeadlineExceeded,
            NotFound,
            AlreadyExists,
            PermissionDenied,
            ResourceExhausted,
            FailedPrecondition,
            Aborted,
            OutOfRange,
            Unimplemented,
            Internal,
            Unavailable,
            DataLoss,
            Unauthenticated,
        ];
        usize::try_from(number).ok().and_then(|index| CODES.get(index).copied()).unwrap_or(Unknown)
    }

    /// The number on the wire.
    pub const fn number(self) -> i32 {
        self as i32
    }

    /// The HTTP status with which an OTLP/HTTP receiver answers this code; conformance row ERR-16.
    pub const fn http(self) -> u16 {
        use Code::*;
        match self {
            Ok => 200,
            Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss => 503,
            ResourceExhausted => 429,
            InvalidArgument => 400,
            Unauthenticated => 401,
            PermissionDenied => 403,
            Unimplemented => 404,
            Unknown | NotFound | AlreadyExists | FailedPrecondition | Internal => 500,
        }
    }

    /// The code written into the `Status` body that goes with an HTTP status; conformance row ERR-17.
    pub const fn from_http(status: u16) -> Code {
        match status {
            200..=299 => Code::Ok,
            400 => Code::InvalidArgument,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 => Code::ResourceExhausted,
            502..=504 => Code::Unavailable,
            _ => Code::Unknown,
        }
    }

    /// Whether a client may send the same request again (OTLP/gRPC, Failures).
    ///
    /// `ResourceExhausted` only where the answer carries a RetryInfo, which is why that is asked for.
    pub const fn retryable(self, has_retry_info: bool) -> bool {
        use Code::*;
        match self {
            Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss => true,
            ResourceExhausted => has_retry_info,
            _ => false,
        }
    }

    /// Whether a client may send the same request again (OTLP/HTTP Response, Retryable Response Codes).
    pub const fn http_retryable(status: u16) -> bool {
        matches!(status, 429 | 502 | 503 | 504)
    }
}

impl Outcome {
    /// Orders outcomes by how much whoever waits has to do: the worst of several parts is the answer for the whole.
    ///
    /// Delivered, partial, rejected, refused. A refusal is worse than a rejection because the part refused can still
    /// be saved by sending again.
    fn severity(&self) -> u8 {
        match self {
            Outcome::Delivered => 0,
            Outcome::Partial { .. } => 1,
            Outcome::Failed(failure) if failure.retry == Retry::Never => 2,
            Outcome::Failed(_) => 3,
        }
    }

    /// The worse of two outcomes of parts of one batch. Items rejected in both parts add up.
    pub fn worst(self, other: Outcome) -> Outcome {
        match (self, other) {
            (Outcome::Partial { rejected: one, message }, Outcome::Partial { rejected: two, .. }) => {
                Outcome::Partial { rejected: one + two, message }
            }
            (one, two) if two.severity() > one.severity() => two,
            (one, _) => one,
        }
    }

    /// Whether the destination took it, if only in part.
    pub fn is_delivered(&self) -> bool {
        !matches!(self, Outcome::Failed(_))
    }
}

impl Failure {
    /// A failure that the sender should answer by sending again.
    pub fn refused(reason: Reason, message: impl Into<Arc<str>>) -> Failure {
        Failure { code: Code::Unavailable, retry: Retry::Backoff, reason, message: message.into() }
    }

    /// A failure that will repeat itself with the same bytes.
    pub fn rejected(code: Code, reason: Reason, message: impl Into<Arc<str>>) -> Failure {
        Failure { code, retry: Retry::Never, reason, message: message.into() }
    }

    /// The same with a delay that the sender must keep. What is not to be sent again stays so.
    pub fn retry_after(mut self, delay: Duration) -> Failure {
        if self.is_retryable() {
            self.retry = Retry::After(delay);
        }
        self
    }

    /// Whether sending the same bytes again may help.
    pub fn is_retryable(&self) -> bool {
        self.retry != Retry::Never
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Outcome {
        Outcome::Failed(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_parts_is_the_answer() {
        let refused = Outcome::Failed(Failure::refused(Reason::QUEUE_FULL, "sending queue is full"));
        let rejected = Outcome::Failed(Failure::rejected(Code::InvalidArgument, Reason::PERMANENT, "no"));
        let partial = |n| Outcome::Partial { rejected: ItemCount(n), message: "some".into() };
        assert_eq!(Outcome::Delivered.worst(refused.clone()), refused);
        assert_eq!(refused.clone().worst(rejected.clone()), refused);
        assert_eq!(rejected.clone().worst(refused.clone()), refused);
        assert_eq!(partial(1).worst(partial(2)), partial(3));
        assert_eq!(partial(1).worst(rejected.clone()), rejected);
    }

    #[test]
    fn http_and_grpc_tables_are_those_of_the_reference() {
        for (status, code) in
            [(400, 3), (401, 16), (403, 7), (404, 12), (429, 8), (502, 14), (503, 14), (504, 14), (500, 2), (413, 2)]
        {
            assert_eq!(Code::from_http(status).number(), code, "HTTP {status}");
        }
        for (code, status) in [
            (1, 503),
            (4, 503),
            (10, 503),
            (11, 503),
            (14, 503),
            (15, 503),
            (8, 429),
            (3, 400),
            (16, 401),
            (7, 403),
            (12, 404),
            (2, 500),
            (13, 500),
            (5, 500),
        ] {
            assert_eq!(Code::from_number(code).http(), status, "code {code}");
        }
        let retryable: Vec<_> = (0..=17).filter(|&n| Code::from_number(n).retryable(false)).collect();
        assert_eq!(retryable, [1, 4, 10, 11, 14, 15]);
        assert!(Code::ResourceExhausted.retryable(true));
        assert_eq!((100..600).filter(|&s| Code::http_retryable(s)).collect::<Vec<_>>(), [429, 502, 503, 504]);
    }

    #[test]
    fn reasons_are_distinct_and_numbered() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
