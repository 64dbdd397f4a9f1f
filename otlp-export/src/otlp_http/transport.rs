//! The seam between what is sent and how: a request goes out in parts, an answer comes back.
//!
//! Two implementations stand behind it: `plain.rs`, our own connection, and `tls.rs`, ureq for https.

use std::io::IoSlice;
use std::sync::Arc;

use otlp_core::telemetry::registry::Counter;
use otlp_core::{Code, Deadline, Failure, Reason};

use super::answer::Answer;
use super::url::Url;

/// A request, ready to be sent. The body goes out as it lies.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) url: &'a Url,
    /// All but `Host` and `Content-Length`, which the transport writes.
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a [&'a [u8]],
}

/// A way to a server.
///
/// # Threads
///
/// Called by several threads at once; blocks its caller, until the deadline.
pub(crate) trait Transport: Send + Sync {
    /// Writes a request, over a connection that is open already where there is one and it need not be `fresh`.
    ///
    /// # Errors
    ///
    /// Where no connection can be had or it breaks before anything could have been taken.
    fn send<'a>(
        &'a self,
        request: &Request<'_>,
        fresh: bool,
        deadline: Deadline,
    ) -> Result<Box<dyn Pending + 'a>, Broken>;

    /// Closes all connections, also those in use: whoever waits on one gets an error at once.
    fn close(&self);
}

/// A request whose answer has not come yet.
pub(crate) trait Pending {
    /// Reads the answer and keeps the connection where it may be used again.
    ///
    /// # Errors
    ///
    /// Where none came.
    fn answer(self: Box<Self>, deadline: Deadline) -> Result<Answer, Broken>;
}

/// No answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    /// A connection that had been kept open was closed before any byte of an answer: the server had closed it before it
    /// saw the request, most likely. Sending again at once over a new one is safe, since OTLP may arrive twice.
    pub(crate) stale: bool,
}

impl Broken {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Broken {
        Broken { reason, message: message.into(), stale: false }
    }

    /// For a port where something else is spoken. A TLS server answers a request in the open so, and whatever took over a
    /// port whose owner is being restarted: nobody has judged the request, so it is sent again.
    pub(crate) fn foreign() -> Broken {
        Broken::new(
            Reason::CONNECTION,
            "what answers there does not speak HTTP/1.1; if it speaks TLS, the URL has to begin with https://",
        )
    }

    /// For a failure of the system's.
    pub(crate) fn io(doing: &str, error: &std::io::Error) -> Broken {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                Broken::new(Reason::TIMEOUT, format!("{doing}: no progress before the deadline; raise timeout"))
            }
            _ => Broken::new(Reason::CONNECTION, format!("{doing}: {error}")),
        }
    }

    pub(crate) fn failure(self, url: &Url) -> Failure {
        let message = format!("failed to make an HTTP request to {url}: {}", self.message);
        match self.reason {
            // What makes no sense now makes none the next time.
            Reason::BAD_ANSWER => Failure::rejected(Code::Unknown, Reason::BAD_ANSWER, message),
            reason => Failure::refused(reason, message),
        }
    }
}

/// How connections are kept.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    pub(crate) idle_max: usize,
    pub(crate) idle_timeout: Option<std::time::Duration>,
    pub(crate) opened: Counter,
    pub(crate) reused: Counter,
    pub(crate) names: Arc<crate::resolve::Names>,
}

/// `parts` from byte `skip` on, for a vectored write.
pub(crate) fn slices<'a>(parts: &[&'a [u8]], mut skip: usize) -> Vec<IoSlice<'a>> {
    let mut slices = Vec::with_capacity(parts.len());
    for part in parts {
        if skip >= part.len() {
            skip -= part.len();
        } else {
            slices.push(IoSlice::new(&part[skip..]));
            skip = 0;
        }
    }
    slices
}
