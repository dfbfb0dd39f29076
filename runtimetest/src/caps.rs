//! Capabilities: the five sets, as execve(2) leaves them to the program.
#![forbid(unsafe_code)]

use crate::config::{Capabilities, Config};
use crate::kernel::{status, text};
use crate::report::Report;
use caps::Capability;
use std::str::FromStr;

/// The five sets as the kernel writes them.
#[derive(Debug, Default, PartialEq)]
struct Sets {
    bounding: u64,
    inheritable: u64,
    permitted: u64,
    effective: u64,
    ambient: u64,
}

/// Judges `process.capabilities`.
pub fn check(config: &Config, report: &mut Report) {
    let claim = "process.capabilities: the sets can be seen";
    let Some(status) = report.seen(claim, "/proc/self/status", status()) else {
        return;
    };
    // A name beyond the kernel's or the host's capabilities is a warning, not an error: the
    // capability is simply not granted (config.md).
    let last = text("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|n| n.parse().ok());
    let known = u64::MAX >> (63 - last.unwrap_or(63_u32).min(63));
    let grantable = known & config.asked.host_caps.unwrap_or(u64::MAX);
    let is_root = config.process.user.uid == 0;
    let process = &config.process;
    let want = expected(
        &process.capabilities,
        grantable,
        is_root,
        process.no_new_privileges,
    );
    let got = Sets {
        bounding: status.capbnd.unwrap_or_default(),
        inheritable: status.capinh,
        permitted: status.capprm,
        effective: status.capeff,
        ambient: status.capamb.unwrap_or_default(),
    };
    for (set, want, got) in [
        ("bounding", want.bounding, got.bounding),
        ("inheritable", want.inheritable, got.inheritable),
        ("permitted", want.permitted, got.permitted),
        ("effective", want.effective, got.effective),
        ("ambient", want.ambient, got.ambient),
    ] {
        let claim = format!("process.capabilities.{set} is that of the process");
        report.equal(claim, names(want), names(got));
    }
}

/// capabilities(7), "Transformation of capabilities during execve()", for a file without any.
fn expected(asked: &Capabilities, grantable: u64, is_root: bool, nnp: bool) -> Sets {
    let set = |names: &[String]| mask(names) & grantable;
    let bounding = set(&asked.bounding);
    let inheritable = set(&asked.inheritable);
    let before = set(&asked.permitted);
    // The kernel raises a capability in the ambient set only if these two have it.
    let ambient = set(&asked.ambient) & before & inheritable;
    let mut permitted = if is_root { bounding | inheritable } else { 0 };
    if nnp {
        permitted &= before;
    }
    permitted |= ambient;
    let effective = if is_root { permitted } else { ambient };
    Sets {
        bounding,
        inheritable,
        permitted,
        effective,
        ambient,
    }
}

/// The bits of all names that are known; one listed twice is still one bit.
fn mask(names: &[String]) -> u64 {
    let known = names
        .iter()
        .filter_map(|name| Capability::from_str(name).ok());
    known.fold(0, |bits, capability| bits | capability.bitmask())
}

/// A set for a human to read.
fn names(mask: u64) -> Vec<String> {
    let mut names: Vec<String> = caps::all()
        .iter()
        .filter(|cap| cap.bitmask() & mask != 0)
        .map(ToString::to_string)
        .collect();
    names.sort();
    let unnamed = caps::all()
        .iter()
        .fold(mask, |rest, cap| rest & !cap.bitmask());
    if unnamed != 0 {
        names.push(format!("{unnamed:#x}"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_become_bits_and_unknown_ones_do_not() {
        let names = owned(&["CAP_CHOWN", "CAP_KILL", "CAP_KILL", "CAP_OF_TOMORROW"]);
        assert_eq!(mask(&names), 0b10_0001);
        assert_eq!(super::names(0b1), ["CAP_CHOWN"]);
        assert_eq!(super::names(1 << 63), ["0x8000000000000000"]);
    }

    #[test]
    fn root_gets_its_bounding_set_unless_no_new_privileges() {
        let asked = Capabilities {
            bounding: owned(&["CAP_CHOWN", "CAP_KILL"]),
            permitted: owned(&["CAP_KILL"]),
            ..Capabilities::default()
        };
        assert_eq!(expected(&asked, u64::MAX, true, false).effective, 0b10_0001);
        assert_eq!(expected(&asked, u64::MAX, true, true).effective, 0b10_0000);
        assert_eq!(expected(&asked, u64::MAX, false, false).effective, 0);
        assert_eq!(expected(&asked, 0b1, true, false).bounding, 0b1);
    }

    #[test]
    fn ambient_needs_inheritable() {
        let mut asked = Capabilities {
            permitted: owned(&["CAP_KILL"]),
            ambient: owned(&["CAP_KILL"]),
            ..Capabilities::default()
        };
        assert_eq!(expected(&asked, u64::MAX, false, true).ambient, 0);
        asked.inheritable = owned(&["CAP_KILL"]);
        assert_eq!(expected(&asked, u64::MAX, false, true).effective, 0b10_0000);
    }
}
