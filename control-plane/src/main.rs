//! The `control-plane` binary.

fn main() {}
