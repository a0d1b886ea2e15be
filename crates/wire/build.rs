//! Compiles `proto/` without protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked for when it runs: clones that share a target directory share the compiled script.
    let crate_dir = std::env::var("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&crate_dir).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files: Vec<_> = std::fs::read_dir(&root)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "proto"))
        .collect();
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
