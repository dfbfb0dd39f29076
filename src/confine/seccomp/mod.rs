//! The last door but one before the program: which syscalls it may make (config-linux.md,
//! "Seccomp").
//!
//! A profile is compiled when the container is planned: names become numbers ([`names`]), numbers
//! become ranges of equal verdicts ([`tree`]), and those a program ([`emit`]). What the child does
//! is one syscall. Where the spec is silent, verdicts are runc's and libseccomp's.
#![forbid(unsafe_code)]

mod emit;
pub(crate) mod features;
mod listener;
mod names;
mod table;
mod tree;

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;

use crate::error::{Doing, Error, Explain, Result};
use crate::sys;
use names::Abi;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Op, LinuxSyscall,
};
use seccompiler::BpfProgram;
use std::os::fd::OwnedFd;
use tree::{Named, Rule, Said, Test, Tree};

pub(crate) use listener::Listener;

/// A compiled profile.
#[derive(Debug)]
pub(crate) struct Seccomp {
    program: BpfProgram,
    flags: u64,
    listener: Option<Listener>,
    unknown: Vec<String>,
}

impl Seccomp {
    /// Compiles a profile.
    pub(crate) fn plan(profile: &LinuxSeccomp, warnings: &mut Vec<String>) -> Result<Self> {
        let default = action(profile.default_action(), profile.default_errno_ret())
            .field("linux.seccomp.defaultErrnoRet")?;
        if profile.default_action() == Action::ScmpActNotify {
            let why = "SCMP_ACT_NOTIFY cannot be used as default action";
            return Err(wrong(why).field("linux.seccomp.defaultAction"));
        }
        let abis = abis(profile.architectures().as_deref())?;
        let (mut rules, mut named, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (index, entry) in profile.syscalls().iter().flatten().enumerate() {
            let rule = rule(entry, index)?;
            let rule = (rule.action != default).then(|| {
                rules.push(rule);
                rules.len() - 1
            });
            for name in entry.names() {
                match names::find(name) {
                    Some(numbers) => named.push(Named { numbers, rule }),
                    None => unknown.push(checked(name, index)?),
                }
            }
        }
        let tree = Tree::grow(&Said {
            abis: &abis,
            rules: &rules,
            named: &named,
            default,
        });
        let listener = Listener::plan(profile, warnings)?;
        Ok(Self {
            program: emit::emit(&tree)?,
            flags: flags(profile, listener.is_some(), warnings),
            listener,
            unknown,
        })
    }

    /// Binds the calling thread, and what it will execute, to the profile.
    ///
    /// One syscall, so that a profile need not allow any other for its own sake. Sets no
    /// no_new_privs: without that, the caller needs `CAP_SYS_ADMIN`. The descriptor is the
    /// listener's, if the profile notifies.
    pub(crate) fn load(&self) -> Result<Option<OwnedFd>> {
        sys::seccomp::set_filter(self.flags, &self.program)
            .map_err(|errno| Error::os(Doing::LoadSeccomp, errno).field("linux.seccomp"))
    }

    /// Where the listener's descriptor must go, if the profile notifies.
    pub(crate) fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// `SECCOMP_FILTER_FLAG_*` given to the kernel; runc logs `seccomp filter flags: N` for them.
    pub(crate) fn flags(&self) -> u64 {
        self.flags
    }

    /// The program the kernel will run on every syscall.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn program(&self) -> &BpfProgram {
        &self.program
    }

    /// Names that no ABI of ours has. Engines list syscalls of all kernels and architectures, so
    /// this is worth a debug line and no more.
    pub(crate) fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

fn wrong(why: impl Into<Box<str>>) -> Error {
    Error::rule(Doing::CompileSeccomp, why)
}

fn checked(name: &str, index: usize) -> Result<String> {
    if name.is_empty() {
        let why = "empty string is not a valid syscall";
        return Err(wrong(why).field(format_args!("linux.seccomp.syscalls[{index}].names")));
    }
    Ok(name.to_owned())
}

/// An action in the kernel's form, with its data.
fn action(action: Action, data: Option<u32>) -> Result<u32> {
    let takes_data = matches!(action, Action::ScmpActErrno | Action::ScmpActTrace);
    match data {
        // "When the action doesn't support an errno, the runtime MUST print an error and fail."
        Some(_) if !takes_data => Err(wrong(format!("{action} takes no errno"))),
        Some(data) if data > libc::SECCOMP_RET_DATA => Err(wrong(format!(
            "{data} does not fit the 16 bits of an errno"
        ))),
        _ => Ok(action.as_u32(data)),
    }
}

/// The ABIs a filter speaks of: the native one, and those listed that its processor runs. The others
/// are refused as a whole like what is not listed, and cannot come.
fn abis(listed: Option<&[Arch]>) -> Result<Vec<Abi>> {
    let Some(native) = Abi::NATIVE else {
        let why = "seccomp is not supported on this architecture";
        return Err(wrong(why).field("linux.seccomp"));
    };
    let mut abis = vec![native];
    for abi in listed.into_iter().flatten().filter_map(|a| Abi::named(*a)) {
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    Ok(abis)
}

fn rule(entry: &LinuxSyscall, index: usize) -> Result<Rule> {
    let field = |part: &str| format!("linux.seccomp.syscalls[{index}].{part}");
    let action =
        action(entry.action(), entry.errno_ret()).map_err(|e| e.field(field("errnoRet")))?;
    let args = entry.args().as_deref().unwrap_or_default();
    let tests = args.iter().enumerate().map(|(at, arg)| {
        test(arg).map_err(|error| error.field(field(&format!("args[{at}].index"))))
    });
    let tests = tests.collect::<Result<Vec<_>>>()?;
    let mut seen = [false; 6];
    let repeats = tests.iter().any(|test| {
        seen.get_mut(usize::from(test.arg))
            .is_some_and(|seen| std::mem::replace(seen, true))
    });
    let any = if repeats {
        // runc's reading, from before conditions were ANDed: with two conditions on one argument,
        // every condition of the rule is an alternative.
        tests.into_iter().map(|test| vec![test]).collect()
    } else if tests.is_empty() {
        Vec::new()
    } else {
        vec![tests]
    };
    Ok(Rule { action, any })
}

fn test(arg: &LinuxSeccompArg) -> Result<Test> {
    let index = match u8::try_from(arg.index()) {
        Ok(index @ 0..=5) => index,
        _ => return Err(wrong(format!("syscalls have no argument {}", arg.index()))),
    };
    let (value, mask) = match arg.op() {
        Op::ScmpCmpMaskedEq => (arg.value_two().unwrap_or(0), arg.value()),
        _ => (arg.value(), u64::MAX),
    };
    Ok(Test {
        arg: index,
        op: arg.op(),
        value,
        mask,
    })
}

/// The flags for the kernel.
fn flags(profile: &LinuxSeccomp, notifies: bool, warnings: &mut Vec<String>) -> u64 {
    let Some(listed) = profile.flags() else {
        // As runc: speculation is not the business of a profile that does not speak of it.
        let listener = if notifies {
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        } else {
            0
        };
        return libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | listener;
    };
    let mut flags = if notifies {
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    } else {
        0
    };
    for (index, flag) in listed.iter().enumerate() {
        flags |= match flag {
            // There is one thread, and TSYNC would forbid NEW_LISTENER. runc leaves it out too.
            Flag::SeccompFilterFlagTsync => 0,
            Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv if notifies => {
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            }
            Flag::SeccompFilterFlagWaitKillableRecv => {
                warnings.push(format!(
                    "linux.seccomp.flags[{index}]: {flag} means nothing without SCMP_ACT_NOTIFY"
                ));
                0
            }
        };
    }
    flags
}
