//! The usual async collector: messages of prost on tokio.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    otlp_async_variant::main::<otlp_async_variant::objects::Objects>("async-variant")
}
