//! Links the release binary without what can never be read at run time: it aborts instead of
//! unwinding and carries no symbols, so unwind tables (a tenth of it) would only be sealed, mapped
//! and carried along at each start. Relocations are packed as a bitmap (`DT_RELR`, glibc 2.36).

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.ld");
    // Tests unwind, and only Linux has the linkers that know these flags.
    if var("PROFILE").is_ok_and(|profile| profile == "release")
        && var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux")
    {
        let here = var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{here}/build.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-eh-frame-hdr,-z,pack-relative-relocs");
    }
}
