//! Compiles `proto/keda/` without protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/keda");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile([root.join("external_scaler.proto")], [&root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
