//! containerd-shim-creel-v2: not written yet.
//!
//! Until it is, containerd's own `io.containerd.runc.v2` shim drives creel (`BinaryName`).
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    eprintln!(
        "containerd-shim-creel-v2 is not implemented yet; use the runtime type \
         io.containerd.runc.v2 with the option BinaryName set to creel's path"
    );
    std::process::ExitCode::FAILURE
}
