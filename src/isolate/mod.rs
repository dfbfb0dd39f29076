//! ISOLATE: what the container sees of the host. Namespaces and what belongs into them.
#![forbid(unsafe_code)]

pub(crate) mod ids;
pub(crate) mod keyring;
pub(crate) mod names;
pub(crate) mod namespaces;
pub(crate) mod net;
pub(crate) mod netdevices;
pub(crate) mod sysctl;
pub(crate) mod time;
