//! Session keyring: the container's own, if its keys can be seen at all.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;

/// Judges that a session keyring was joined. Not a rule of the spec: engines can turn it off, and
/// usually mask the file that tells.
pub fn check(_: &Config, report: &mut Report) {
    let claim = "the session keyring is the container's own";
    let Some(keys) = report.seen(claim, "_ses", text("/proc/keys")) else {
        return;
    };
    let ok = keys
        .lines()
        .any(|line| line.contains("keyring") && line.contains("_ses."));
    report.holds(claim, "a keyring named _ses.<id>", keys, ok);
}
