//! `hostname` and `domainname`, in a UTS namespace of the container's (config.md).
#![forbid(unsafe_code)]

use super::namespaces::{Namespaces, UTS};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};

/// What uname(2) says in the container; empty means the host's.
#[derive(Debug)]
pub(crate) struct Names {
    host: String,
    domain: String,
}

impl Names {
    pub(crate) fn plan(config: &Config, namespaces: &Namespaces) -> Result<Self> {
        for (field, name) in [
            ("hostname", &config.hostname),
            ("domainname", &config.domainname),
        ] {
            // __NEW_UTS_LEN in the kernel.
            if name.len() > 64 {
                let why = "a name has at most 64 bytes";
                return Err(Error::rule(Doing::CheckConfig, why).field(field));
            }
            if !name.is_empty() && !namespaces.has(UTS) {
                return Err(Error::rule(
                    Doing::CheckConfig,
                    format!("unable to set {field} without a private UTS namespace"),
                )
                .field(field));
            }
        }
        Ok(Self {
            host: config.hostname.clone(),
            domain: config.domainname.clone(),
        })
    }

    /// Sets them; needs CAP_SYS_ADMIN in the UTS namespace's user namespace.
    pub(crate) fn set(&self) -> Result<()> {
        if !self.host.is_empty() {
            nix::unistd::sethostname(&self.host)
                .doing(Doing::SetName)
                .on("hostname")
                .field("hostname")?;
        }
        if !self.domain.is_empty() {
            crate::sys::net::set_domainname(&self.domain)
                .doing(Doing::SetName)
                .on("domainname")
                .field("domainname")?;
        }
        Ok(())
    }
}
