//! What the operating system asks of the program: stop, stop at once, reload.

use std::io;

use crossbeam_channel::{Receiver, bounded};
use otlp_core::thread::{Thread, ThreadOptions};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Watched};

/// Watches for signals until it is dropped. A second request to stop ends the process at once, with exit code 1.
///
/// # Threads
///
/// One, blocked in a read: it costs nothing until a signal comes.
#[derive(Debug)]
pub struct Signals {
    stop: Receiver<&'static str>,
    handle: Handle,
    thread: Option<Thread>,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP for the whole process.
    ///
    /// # Errors
    ///
    /// Where the system refuses.
    pub fn watch() -> io::Result<Signals> {
        let mut watched = Watched::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = watched.handle();
        let (sender, stop) = bounded(1);
        let thread = Thread::spawn("signals", ThreadOptions::stack_kib(256), move || {
            let mut stopping = false;
            for signal in &mut watched {
                match signal {
                    SIGHUP => log::warn!(
                        "Received signal from OS: SIGHUP; reloading the configuration is not built yet, nothing changed"
                    ),
                    _ if stopping => {
                        log::error!("Received signal from OS: {}, the second one; stopping at once", name(signal));
                        // Nothing more can be promised: whoever asked twice does not want to wait for the drain.
                        signal_hook::low_level::exit(1);
                    }
                    _ => {
                        stopping = true;
                        log::info!("Received signal from OS: {}", name(signal));
                        let _ = sender.try_send(name(signal));
                    }
                }
            }
        })?;
        Ok(Signals { stop, handle, thread: Some(thread) })
    }

    /// Yields the first request to stop.
    pub fn stop(&self) -> &Receiver<&'static str> {
        &self.stop
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        self.thread = None;
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        _ => "a signal",
    }
}
