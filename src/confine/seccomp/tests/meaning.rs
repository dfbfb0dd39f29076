//! Tests: what a profile means, worked out for one call at a time, the long way.
#![forbid(unsafe_code)]

use super::super::names::{self, Abi};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Op};

const MUX: [(u32, &str); 2] = [
    (
        102,
        "- socket bind connect listen accept getsockname getpeername socketpair send recv sendto \
         recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg",
    ),
    (
        117,
        "- semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - - \
         shmat shmdt shmget shmctl",
    ),
];

/// The action for a call; only for profiles whose overlapping rules have one action.
pub(super) fn action(profile: &LinuxSeccomp, abi: Abi, number: u32, args: &[u64; 6]) -> u32 {
    let default = profile.default_action().as_u32(profile.default_errno_ret());
    if eager(default) && newest(profile, abi).is_some_and(|newest| number > newest) {
        return 0x0005_0000 | 38;
    }
    let mut matched = None;
    for entry in profile.syscalls().iter().flatten() {
        let action = entry.action().as_u32(entry.errno_ret());
        if action == default {
            continue;
        }
        let conditions = entry.args().as_deref().unwrap_or_default();
        for name in entry.names() {
            let Some(numbers) = names::find(name) else {
                continue;
            };
            if numbers.on(abi) == Some(number) {
                if conditions.is_empty() {
                    return action;
                }
                if holds(conditions, abi, args, false) {
                    matched = Some(action);
                }
            }
            let through = MUX.iter().find(|(nr, _)| abi == Abi::X86 && *nr == number);
            let calls = through.map_or("", |(_, names)| names);
            let call = calls.split_whitespace().position(|call| call == name);
            if call.is_some_and(|call| args[0] as u32 == call as u32)
                && holds(conditions, abi, args, true)
            {
                matched = Some(action);
            }
        }
    }
    matched.unwrap_or(default)
}

/// Whether new syscalls get ENOSYS.
fn eager(default: u32) -> bool {
    ![0x7fff, 0x7ffc, 0x7ff0].contains(&(default >> 16))
}

fn newest(profile: &LinuxSeccomp, abi: Abi) -> Option<u32> {
    let entries = profile.syscalls().iter().flatten();
    let names = entries.flat_map(|entry| entry.names());
    let muxed = |name: &str| {
        MUX.iter()
            .any(|(_, all)| all.split(' ').any(|one| one == name))
    };
    names
        .filter(|name| abi != Abi::X86 || !muxed(name))
        .filter_map(|name| names::find(name)?.on(abi))
        .max()
        .filter(|newest| *newest > 0)
}

fn holds(conditions: &[LinuxSeccompArg], abi: Abi, args: &[u64; 6], through_mux: bool) -> bool {
    let repeats = |arg: &LinuxSeccompArg| {
        let same = |other: &&LinuxSeccompArg| other.index() == arg.index();
        conditions.iter().filter(same).count() > 1
    };
    let one = |arg: &LinuxSeccompArg| (through_mux && arg.index() == 0) || compare(arg, abi, args);
    if conditions.iter().any(repeats) {
        conditions.iter().any(one)
    } else {
        conditions.iter().all(one)
    }
}

fn compare(arg: &LinuxSeccompArg, abi: Abi, args: &[u64; 6]) -> bool {
    let seen = match abi {
        Abi::X86_64 | Abi::Aarch64 => u64::MAX,
        _ => u64::from(u32::MAX),
    };
    let (have, value) = (args[arg.index()] & seen, arg.value() & seen);
    match arg.op() {
        Op::ScmpCmpNe => have != value,
        Op::ScmpCmpLt => have < value,
        Op::ScmpCmpLe => have <= value,
        Op::ScmpCmpEq => have == value,
        Op::ScmpCmpGe => have >= value,
        Op::ScmpCmpGt => have > value,
        Op::ScmpCmpMaskedEq => have & value == arg.value_two().unwrap_or(0) & value,
    }
}
