//! Compiles the `.proto` files with protox, so that no protoc has to be installed.

use std::path::PathBuf;

const FILES: [&str; 20] = [
    "common/v1/common.proto",
    "identity/v1/enrolment.proto",
    "identity/v1/session.proto",
    "identity/v1/key.proto",
    "identity/v1/rate.proto",
    "identity/v1/admin.proto",
    "identity/v1/bootstrap.proto",
    "identity/v1/signing_key.proto",
    "identity/v1/suspension.proto",
    "registry/v1/registry.proto",
    "registry/v1/agent.proto",
    "policy/v1/policy.proto",
    "grants/v1/grant.proto",
    "audit/v1/audit.proto",
    "events/v1/event.proto",
    "blackboard/v1/blackboard.proto",
    "blackboard/v1/replica.proto",
    "blackboard/v1/version.proto",
    "budgets/v1/budget.proto",
    "status/v1/status.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=authguardian");
    let files = FILES.map(|file| format!("authguardian/{file}"));
    let descriptors = protox::compile(files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .build_client(cfg!(feature = "client"))
        .build_server(cfg!(feature = "server"))
        .compile_fds(descriptors)?;
    Ok(())
}
