//! Names: the host and domain name of a new UTS namespace.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::report::Report;
use nix::sys::utsname::uname;

/// Judges `hostname` and `domainname`.
pub fn check(config: &Config, report: &mut Report) {
    let Some(names) = report.seen("uname can be called", "names", uname()) else {
        return;
    };
    let node = names.nodename().to_string_lossy().into_owned();
    let domain = names.domainname().to_string_lossy().into_owned();
    for (claim, want, got) in [
        ("hostname is the name of the node", &config.hostname, node),
        (
            "domainname is the domain of the node",
            &config.domainname,
            domain,
        ),
    ] {
        if !want.is_empty() {
            report.equal(claim, want.clone(), got);
        }
    }
}
