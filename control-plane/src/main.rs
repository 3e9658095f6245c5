//! The `control-plane` binary.

fn main() -> std::process::ExitCode {
    control_plane::cli::run()
}
