//! Compiles the .proto files with protox, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/lp_rpc.proto", "proto/redeemer.proto", "proto/live_worker.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        // Ordered maps: what we encode is the same bytes every time.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
