//! The network of a new namespace: `lo`, up. The rest is the engine's (CNI, libnetwork), or asked for
//! in [`netDevices`](super::netdevices).
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Explain, Result};

/// Brings up the loopback interface of the namespace this process is in.
pub(crate) fn raise_loopback() -> Result<()> {
    crate::sys::net::raise_loopback()
        .doing(Doing::RaiseLoopback)
        .on("lo")
}
