//! Kernel parameters: each reads back as it was set.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::{squeezed, text};
use crate::report::Report;

/// Judges `linux.sysctl`.
pub fn check(config: &Config, report: &mut Report) {
    for (key, value) in &config.linux.sysctl {
        let claim = format!("linux.sysctl: {key} has the value listed");
        let want = squeezed(value);
        if let Some(got) = report.seen(&claim, &want, text(path(key))) {
            report.equal(claim, want, squeezed(&got));
        }
    }
}

/// sysctl.d(5): whichever separator comes first separates, the other stands for itself.
fn path(key: &str) -> String {
    let swapped = key.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    let slashes_first = key.chars().find(|c| matches!(c, '.' | '/')) == Some('/');
    let relative = if slashes_first {
        key.to_owned()
    } else {
        swapped.collect()
    };
    format!("/proc/sys/{relative}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_separates() {
        assert_eq!(path("net.ipv4.ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(
            path("net.ipv4.conf.eth0/1.mtu"),
            "/proc/sys/net/ipv4/conf/eth0.1/mtu"
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/mtu"),
            "/proc/sys/net/ipv4/conf/eth0.1/mtu"
        );
    }
}
