//! otlpd's engine on tokio.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    otlp_async_variant::main::<otlp_async_variant::wire::Wire>("engine-on-tokio")
}
