//! The `control-plane` binary.

#[global_allocator]
static ALLOCATOR: authguardian_memory::Allocator = authguardian_memory::ALLOCATOR;

fn main() -> std::process::ExitCode {
    control_plane::cli::run()
}
