//! Receives OTLP over gRPC and HTTP, and counts it: `count [grpc endpoint] [http endpoint] [directory]`. With a directory
//! that holds `cert.pem` and `key.pem` it speaks TLS; where it also holds `ca.pem`, clients must show a certificate.
//!
//! Prints the addresses, and when its input ends, how much came.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use otlp_core::component::{Outlet, Outlets, Receiver, Refused};
use otlp_core::{Batch, Deadline, Outcome, Signal};
use otlp_receive::{Config, Env, OtlpReceiver, tls};

// As otlpd has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Default)]
struct Count([AtomicU64; 3]);

impl Outlet for Count {
    fn try_send(&self, mut batch: Batch) -> Result<(), Refused> {
        self.0[batch.signal().index()].fetch_add(batch.items().get(), Ordering::Relaxed);
        batch.ticket_mut().queued();
        batch.settle(Outcome::Delivered);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut config = Config::default();
    let tls = args.get(2).map(PathBuf::from).map(|dir| tls::Config {
        cert_file: Some(dir.join("cert.pem")),
        key_file: Some(dir.join("key.pem")),
        client_ca_file: Some(dir.join("ca.pem")).filter(|file| file.exists()),
        ..tls::Config::default()
    });
    if let (Some(grpc), Some(http)) = (&mut config.grpc, &mut config.http) {
        (grpc.tls, http.tls) = (tls.clone(), tls);
        if let Some(endpoint) = args.first() {
            grpc.endpoint.clone_from(endpoint);
        }
        if let Some(endpoint) = args.get(1) {
            http.endpoint.clone_from(endpoint);
        }
    }
    let count = Arc::new(Count::default());
    let mut outlets = Outlets::default();
    Signal::ALL.into_iter().for_each(|signal| outlets.set(signal, count.clone()));
    let mut receiver = OtlpReceiver::new("otlp", config, Env::default());
    receiver.start(outlets)?;
    for address in [receiver.grpc_addr(), receiver.http_addr()].into_iter().flatten() {
        println!("{address}");
    }
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    receiver.shutdown(Deadline::after(Instant::now(), Duration::from_secs(5)));
    for signal in Signal::ALL {
        println!("{signal} {}", count.0[signal.index()].load(Ordering::Relaxed));
    }
    Ok(())
}
