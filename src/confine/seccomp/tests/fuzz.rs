//! Fuzzing: a profile is refused, or its program means what the profile says.
#![forbid(unsafe_code)]

use super::machine::{Call, run};
use super::{ABIS, Abi, Seccomp, meaning, names, vectors};
use crate::fuzz::same;
use oci_spec::runtime::LinuxSeccomp;
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
    let mut vectors = vectors(&profile);
    vectors.truncate(48);
    for abi in ABIS {
        for number in numbers(&profile, abi) {
            let settled = settled(&profile, abi, number);
            for args in &vectors {
                let arch = abi.audit();
                let (verdict, steps) = run(
                    program,
                    &Call {
                        arch,
                        number,
                        args: *args,
                    },
                );
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

/// Whether rules with one action only speak of a call: of contradictions, `meaning` knows nothing.
fn settled(profile: &LinuxSeccomp, abi: Abi, number: u32) -> bool {
    let through = |name: &String| {
        names::find(name).is_some_and(|numbers| {
            let multiplexed = numbers.multiplexed().filter(|_| abi == Abi::X86);
            numbers.on(abi) == Some(number) || multiplexed.is_some_and(|one| one.through == number)
        })
    };
    let entries = profile.syscalls().iter().flatten();
    let speak = entries.filter(|entry| entry.names().iter().any(through));
    let actions: BTreeSet<u32> = speak
        .map(|entry| entry.action().as_u32(entry.errno_ret()))
        .collect();
    actions.len() <= 1
}

/// The numbers of the calls that a profile names, those beside them, and some that nobody has.
fn numbers(profile: &LinuxSeccomp, abi: Abi) -> BTreeSet<u32> {
    let base = if abi == Abi::X32 { super::X32_BIT } else { 0 };
    let mut numbers = BTreeSet::from([base, base | 1023, base | 0x3fff_ffff]);
    if abi == Abi::X86 {
        numbers.extend([102, 117]); // socketcall, ipc
    }
    let entries = profile.syscalls().iter().flatten();
    let names = entries.flat_map(|entry| entry.names());
    for number in names.filter_map(|name| names::find(name)?.on(abi)).take(40) {
        numbers.extend([number, number + 1]);
        if number > base {
            numbers.insert(number - 1);
        }
    }
    numbers
}
