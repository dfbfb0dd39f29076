//! The network of a new namespace: `lo`, up. The rest is the engine's (CNI, libnetwork).
#![forbid(unsafe_code)]

use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};

/// Refuses what is not built: `linux.netDevices`.
pub(crate) fn plan(config: &Config) -> Result<()> {
    match config.linux.net_devices.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::rule(
            Doing::CheckConfig,
            "moving network devices into a container is not supported yet",
        )
        .field(format!("linux.netDevices.{name}"))),
    }
}

/// Brings up the loopback interface of the namespace this process is in.
pub(crate) fn raise_loopback() -> Result<()> {
    crate::sys::net::raise_loopback()
        .doing(Doing::RaiseLoopback)
        .on("lo")
}
