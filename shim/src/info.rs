//! `-info`: what kind of runtime this is, for `ctr` and CRI.
#![forbid(unsafe_code)]

use crate::bootstrap;
use crate::options::Options;
use crate::status::{Doing, Result, Status};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use std::io::Write;
use std::process::Command;

const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// See the module.
pub fn info() -> Result<()> {
    let input = bootstrap::input()?;
    let any = Any::parse_from_bytes(&input).doing("options")?;
    let options = Options::decode(Some(&any))?;
    let mut version = RuntimeVersion::new();
    version.version = env!("CARGO_PKG_VERSION").into();
    let mut said = RuntimeInfo::new();
    said.name = crate::NAME.into();
    said.version = Some(version).into();
    if !any.type_url.is_empty() {
        let mut any = Any::new();
        any.type_url = "containerd.runc.v1.Options".into();
        any.value = options.message().write_to_bytes()?;
        said.options = Some(any).into();
    }
    let mut features = Any::new();
    features.type_url = FEATURES.into();
    features.value = ask(&options)?;
    said.features = Some(features).into();
    let mut out = std::io::stdout().lock();
    out.write_all(&said.write_to_bytes()?)?;
    Ok(out.flush()?)
}

/// What the runtime itself says.
fn ask(options: &Options) -> Result<Vec<u8>> {
    let binary = options.binary();
    let output = Command::new(&binary)
        .arg("features")
        .output()
        .doing(binary.display())?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        let why = format!("{} features: {}", binary.display(), why.trim());
        return Err(Status::precondition(why));
    }
    Ok(output.stdout)
}
