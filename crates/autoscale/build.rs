//! Compiles `proto/keda/` without protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked for when it runs: clones that share a target directory share the compiled script.
    let crate_dir = std::env::var("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&crate_dir).join("../../proto/keda");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile([root.join("external_scaler.proto")], [&root])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
