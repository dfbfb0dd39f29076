//! Tests: profiles against their meaning, for every syscall number of every architecture; and for
//! fuzzers, for the numbers that a profile speaks of.
#![forbid(unsafe_code)]
// Registers and halves of arguments are cut on purpose.
#![allow(clippy::cast_possible_truncation)]
// Tests for fuzzers, too: Clippy's leave for tests does not extend to those.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

pub(crate) mod fuzz;
#[cfg(test)]
mod listener;
mod machine;
mod meaning;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod second;

use super::Seccomp;
use super::names::{self, Abi, X32_BIT};
#[cfg(test)]
use machine::{Call, run};
use oci_spec::runtime::LinuxSeccomp;

#[cfg(test)]
/// A profile of the kind that Docker gives every container, or the one in the file that
/// `CREEL_SECCOMP_PROFILE` names.
fn docker() -> String {
    const CONFIG: &str = include_str!("../../../../integration/data/docker-default.json");
    if let Ok(path) = std::env::var("CREEL_SECCOMP_PROFILE") {
        return std::fs::read_to_string(path).unwrap();
    }
    let config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
    config["linux"]["seccomp"].to_string()
}
const ABIS: [Abi; 5] = [Abi::X86_64, Abi::X86, Abi::X32, Abi::Arm, Abi::Aarch64];

#[cfg(test)]
fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

#[cfg(test)]
fn plan(json: &str) -> Seccomp {
    Seccomp::plan(&profile(json), &mut Vec::new()).unwrap()
}

#[cfg(test)]
fn refusal(json: &str) -> String {
    let error = Seccomp::plan(&profile(json), &mut Vec::new()).unwrap_err();
    error.to_string()
}

#[cfg(test)]
/// A profile with that default and those entries of `syscalls`.
fn with(default: &str, syscalls: &str) -> String {
    format!(
        r#"{{"defaultAction": "SCMP_ACT_{default}", "syscalls": [{syscalls}],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]}}"#
    )
}

#[cfg(test)]
/// All numbers in use on an ABI and as many that are not, and the edges of the number space.
fn numbers(abi: Abi) -> Vec<u32> {
    let base = if abi == Abi::X32 { X32_BIT } else { 0 };
    let mut numbers: Vec<u32> = (0..1024).map(|number| base | number).collect();
    if abi == Abi::Arm {
        numbers.extend(0xf_0000..0xf_0010);
    }
    if abi != Abi::X32 {
        numbers.extend([0x3fff_ffff, 0x8000_0000, 0x8000_0001, 0xbfff_ffff]);
    }
    if abi == Abi::X32 {
        numbers.extend([0x7fff_ffff, 0xc000_0000, 0xffff_fffe, 0xffff_ffff]);
    }
    numbers
}

#[cfg(test)]
/// Calls that try every number of an ABI, and those with conditions with many arguments.
fn calls(profile: &LinuxSeccomp, abi: Abi) -> Vec<Call> {
    let mut conditional = vec![];
    if abi == Abi::X86 {
        conditional.extend([102, 117]); // socketcall, ipc
    }
    for entry in profile.syscalls().iter().flatten() {
        if entry.args().as_ref().is_some_and(|args| !args.is_empty()) {
            let numbers = entry
                .names()
                .iter()
                .filter_map(|name| names::find(name)?.on(abi));
            conditional.extend(numbers);
        }
    }
    let (arch, many) = (abi.audit(), vectors(profile));
    let plain = [[0; 6], [u64::MAX; 6]];
    let args = |number| match conditional.contains(&number) {
        true => &many[..],
        false => &plain,
    };
    let calls = numbers(abi).into_iter().flat_map(|number| {
        let args = args(number).iter();
        args.map(move |args| Call {
            arch,
            number,
            args: *args,
        })
    });
    calls.collect()
}

/// Arguments around every value that the profile mentions, one at a time and all alike.
fn vectors(profile: &LinuxSeccomp) -> Vec<[u64; 6]> {
    let entries = profile.syscalls().iter().flatten();
    let args = entries.flat_map(|entry| entry.args().iter().flatten());
    let mut vectors = vec![[0; 6], [u64::MAX; 6], [0x1234_5678_9abc_def0; 6]];
    for arg in args {
        for value in [arg.value(), arg.value_two().unwrap_or(0)] {
            for near in [
                value,
                value.wrapping_add(1),
                value.wrapping_sub(1),
                value ^ (1 << 32),
                value | (5 << 40),
                !value,
            ] {
                let mut one = [7; 6];
                one[arg.index()] = near;
                vectors.extend([one, [near; 6]]);
            }
        }
    }
    vectors.extend((1..=24).map(|call| [call, 0, 0, 0, 0, 0]));
    vectors.sort_unstable();
    vectors.dedup();
    vectors
}
