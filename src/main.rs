//! The binary: arguments in, one call.

use std::process::ExitCode;

/// Batches are made in one task and dropped in another, all day long: mimalloc gives such memory back to the thread
/// that owns it without a lock, and the resident size of an endless run stays flat, where glibc's arenas grow. Its feature
/// `override` puts it in the place of C's `malloc` too: librdkafka makes each record in one thread and drops it in another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    acequia::cli::main()
}
