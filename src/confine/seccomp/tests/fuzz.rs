//! Fuzzing: a profile is refused, or its program means what the profile says.
#![forbid(unsafe_code)]

use super::machine::{Call, run};
use super::{ABIS, Abi, Seccomp, meaning, names, vectors};
use crate::fuzz::same;
use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};
use std::collections::BTreeSet;

/// What the kernel kills a call of an ABI with that the filter does not know.
const KILL: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// A seccomp profile, to the program that the kernel runs.
pub fn seccomp(bytes: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<LinuxSeccomp>(bytes) else {
        return;
    };
    let plan = || Seccomp::plan(&profile, &mut Vec::new()).map_err(|error| error.to_string());
    let (first, second) = (plan(), plan());
    same(&first, &second);
    let Ok(planned) = first else { return };
    let program = planned.program();
    assert!(!program.is_empty() && program.len() <= 4096);
    let listed = super::super::abis(profile.architectures().as_deref()).unwrap_or_default();
    let mut many = vectors(&profile);
    many.truncate(32);
    let plain = [[0; 6], [u64::MAX; 6]];
    for abi in ABIS {
        for number in numbers(&profile, abi, bytes) {
            let speak = speaking(&profile, abi, number);
            let conditional = |entry: &&LinuxSyscall| entry.args().iter().flatten().count() > 0;
            let args = match speak.iter().any(conditional) {
                true => &many[..],
                false => &plain,
            };
            // Of rules that contradict each other, `meaning` knows nothing.
            let actions = speak
                .iter()
                .map(|entry| (entry.action(), entry.errno_ret()));
            let settled = actions
                .collect::<Vec<_>>()
                .windows(2)
                .all(|two| two.first() == two.last());
            for args in args {
                let call = Call {
                    arch: abi.audit(),
                    number,
                    args: *args,
                };
                let (verdict, steps) = run(program, &call);
                assert!(steps <= program.len(), "a step back");
                if !listed.contains(&abi) {
                    assert_eq!(verdict, KILL, "{abi:?} {number:#x} is of no ABI listed");
                } else if settled {
                    let want = meaning::action(&profile, abi, number, args);
                    assert_eq!(verdict, want, "{abi:?} {number:#x} {args:x?}");
                }
            }
        }
    }
}

/// The rules that speak of a call.
fn speaking(profile: &LinuxSeccomp, abi: Abi, number: u32) -> Vec<&LinuxSyscall> {
    let about = |name: &String| {
        names::find(name).is_some_and(|numbers| {
            let multiplexed = numbers.multiplexed().filter(|_| abi == Abi::X86);
            numbers.on(abi) == Some(number) || multiplexed.is_some_and(|one| one.through == number)
        })
    };
    let entries = profile.syscalls().iter().flatten();
    entries
        .filter(|entry| entry.names().iter().any(about))
        .collect()
}

/// The numbers of some calls that a profile names, those beside them, and some that nobody has.
fn numbers(profile: &LinuxSeccomp, abi: Abi, bytes: &[u8]) -> BTreeSet<u32> {
    let base = if abi == Abi::X32 { super::X32_BIT } else { 0 };
    let mut numbers = BTreeSet::from([base, base | 1023, base | 0x3fff_ffff]);
    if abi == Abi::X86 {
        numbers.extend([102, 117]); // socketcall, ipc
    }
    let entries = profile.syscalls().iter().flatten();
    let names = entries.flat_map(|entry| entry.names());
    let named: Vec<u32> = names
        .filter_map(|name| names::find(name)?.on(abi))
        .collect();
    // Not all, for a profile may name hundreds: others each time, by what stands in it.
    let from = bytes.iter().fold(7_usize, |sum, byte| {
        sum.wrapping_mul(31) ^ usize::from(*byte)
    });
    let from = from % named.len().max(1);
    for number in named.iter().cycle().skip(from).take(named.len().min(12)) {
        numbers.extend([*number, number + 1, number.saturating_sub(1).max(base)]);
    }
    numbers
}
