//! Environment: exactly what is listed, and HOME.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;
use std::collections::BTreeMap;

/// Judges `process.env`.
pub fn check(config: &Config, report: &mut Report) {
    let process = &config.process;
    let claim = "process.env is the environment";
    let mut want: BTreeMap<&str, &str> = pairs(process.env.iter().map(String::as_str));
    let passwd = text("/etc/passwd").unwrap_or_default();
    // The spec leaves HOME to the list; runc, and who follows it, fills an empty one in.
    if want.get("HOME").is_none_or(|home| home.is_empty()) {
        want.insert("HOME", home(&passwd, process.user.uid));
    }
    let Some(all) = report.seen(claim, &want, text("/proc/self/environ")) else {
        return;
    };
    let mut got = pairs(all.split('\0').filter(|pair| !pair.is_empty()));
    if config.asked.preserve_fds > 0 {
        // Socket activation: what was passed on is announced.
        for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
            if !want.contains_key(name) {
                got.remove(name);
            }
        }
    }
    report.equal(claim, want, got);
    let names = all
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .count();
    let distinct = pairs(all.split('\0')).len();
    report.equal("process.env: no variable is set twice", distinct, names);
}

/// The last of several values for a name counts.
fn pairs<'a>(list: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    list.filter_map(|pair| pair.split_once('=')).collect()
}

/// passwd(5): the home of a user, `/` for one who is not there.
fn home(passwd: &str, uid: u32) -> &str {
    passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2).is_some_and(|id| id.parse() == Ok(uid)))
        .and_then(|fields| fields.get(5).copied())
        .filter(|home| !home.is_empty())
        .unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_that_of_the_uid() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/false";
        assert_eq!(home(passwd, 0), "/root");
        assert_eq!(home(passwd, 33), "/srv");
        assert_eq!(home(passwd, 1), "/");
    }

    #[test]
    fn values_may_hold_equal_signs() {
        assert_eq!(pairs(["A=b=c", "A=d"].into_iter()).get("A"), Some(&"d"));
        assert_eq!(pairs(["A=b=c"].into_iter()).get("A"), Some(&"b=c"));
    }
}
