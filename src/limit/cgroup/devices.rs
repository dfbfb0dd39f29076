//! LIMIT, planned and applied: linux.resources.devices becomes a decision list, and that the
//! kernel's rules: an eBPF program on v2, lines for devices.allow and devices.deny on v1.
//!
//! What a rule says about one access bit holds until a later rule says otherwise; an access is
//! allowed when all its bits are.
#![forbid(unsafe_code)]

use crate::bundle::config::DeviceRule;
use crate::error::{Act, Doing, Error, Result};
use crate::sys::bpf::{self, Instruction};
use nix::errno::Errno;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Access bits, as `BPF_DEVCG_ACC_*` has them.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// Device types, as `BPF_DEVCG_DEV_*` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// The devices a rule is about; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Match {
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
}

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    on: Match,
    access: u8,
    allow: bool,
}

impl Match {
    const fn is_any(self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none()
    }

    /// Whether every device of `other` is one of ours.
    fn covers(self, other: Self) -> bool {
        (self.kind.is_none() || self.kind == other.kind)
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    /// Whether some device is both ours and `other`'s.
    fn overlaps(self, other: Self) -> bool {
        fn meet<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        meet(self.kind, other.kind)
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
    }
}

/// What every container may do, whatever its rules say: runc's list, appended to them.
/// Making any node is harmless, since using it is decided anew.
const ALWAYS: &[(Kind, Option<u32>, Option<u32>, u8)] = &[
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), ALL),    // null
    (Kind::Char, Some(1), Some(8), ALL),    // random
    (Kind::Char, Some(1), Some(7), ALL),    // full
    (Kind::Char, Some(5), Some(0), ALL),    // tty
    (Kind::Char, Some(1), Some(5), ALL),    // zero
    (Kind::Char, Some(1), Some(9), ALL),    // urandom
    (Kind::Char, Some(136), None, ALL),     // pts/*
    (Kind::Char, Some(5), Some(2), ALL),    // ptmx
    (Kind::Char, Some(10), Some(200), ALL), // net/tun
];

/// The decision list: the later rule wins, `default` decides what none is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    default: bool,
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads the rules; with none at all, everything but the always allowed is denied, as by runc.
    pub(super) fn plan(rules: &[DeviceRule]) -> Result<Self> {
        let mut policy = Self {
            default: false,
            rules: Vec::new(),
        };
        for (index, rule) in rules.iter().enumerate() {
            let explain = |error: Error| error.field(format!("linux.resources.devices[{index}]"));
            policy.push(read(rule).map_err(explain)?);
        }
        for &(kind, major, minor, access) in ALWAYS {
            let on = Match {
                kind: Some(kind),
                major,
                minor,
            };
            policy.push(Rule {
                on,
                access,
                allow: true,
            });
        }
        Ok(policy)
    }

    /// Adds a rule, unless it changes nothing; one about everything makes those before it moot.
    fn push(&mut self, rule: Rule) {
        if rule.on.is_any() && rule.access == ALL {
            self.default = rule.allow;
            self.rules.clear();
        } else if rule.allow != self.default
            || self
                .rules
                .iter()
                .any(|one| one.allow != rule.allow && one.on.overlaps(rule.on))
        {
            self.rules.push(rule);
        }
    }

    /// Whether nothing is denied.
    pub(super) fn allows_all(&self) -> bool {
        self.default && self.rules.iter().all(|rule| rule.allow)
    }

    /// The same as systemd's `DeviceAllow=` has it, in pairs of a device and an access; `None` if
    /// that cannot say all of it.
    pub(super) fn allowed(&self) -> Option<Vec<(String, String)>> {
        let mut allowed = Vec::new();
        for Rule { on, access, allow } in &self.rules {
            for (kind, name) in [(Kind::Block, "block"), (Kind::Char, "char")] {
                if on.kind.is_some_and(|one| one != kind) {
                    continue;
                }
                let device = match (on.major, on.minor) {
                    (Some(major), Some(minor)) => format!("/dev/{name}/{major}:{minor}"),
                    (Some(major), None) => format!("{name}-{major}"),
                    (None, None) => format!("{name}-*"),
                    (None, Some(_)) => return None,
                };
                allowed.push((device, letters(*access)));
            }
            if !allow {
                return None;
            }
        }
        (!self.default).then_some(allowed)
    }

    /// The filter program for v2.
    ///
    /// Its argument is `struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }`, with the
    /// access in the upper and the type in the lower half of the first. From the last rule to the
    /// first: a denied bit ends it, an allowed one is struck out, none left ends it well.
    pub(super) fn program(&self) -> Vec<Instruction> {
        let mut out = vec![
            op(LOAD, KIND, CONTEXT, 0, 0),
            op(COPY, ACCESS, KIND, 0, 0),
            op(AND, KIND, 0, 0, 0xffff),
            op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
            op(LOAD, MAJOR, CONTEXT, 4, 0),
            op(LOAD, MINOR, CONTEXT, 8, 0),
        ];
        for rule in self.rules.iter().rev() {
            let mut conditions: Vec<(u8, u32)> = Vec::with_capacity(3);
            conditions.extend(rule.on.kind.map(|kind| (KIND, kind as u32)));
            conditions.extend(rule.on.major.map(|major| (MAJOR, major)));
            conditions.extend(rule.on.minor.map(|minor| (MINOR, minor)));
            let access = i32::from(rule.access);
            let body = if rule.allow {
                [
                    op(AND, ACCESS, 0, 0, !access),
                    op(JUMP_NOT_EQUAL, ACCESS, 0, 2, 0),
                    op(SET, RESULT, 0, 0, 1),
                    op(EXIT, 0, 0, 0, 0),
                ]
            } else {
                [
                    op(JUMP_ANY_BIT, ACCESS, 0, 1, access),
                    op(JUMP, 0, 0, 2, 0),
                    op(SET, RESULT, 0, 0, 0),
                    op(EXIT, 0, 0, 0, 0),
                ]
            };
            let mut distance = i16::try_from(conditions.len() + body.len()).unwrap_or(i16::MAX);
            for (register, value) in conditions {
                distance -= 1;
                out.push(op(
                    JUMP_NOT_EQUAL,
                    register,
                    0,
                    distance,
                    value.cast_signed(),
                ));
            }
            out.extend(body);
        }
        out.push(op(SET, RESULT, 0, 0, i32::from(self.default)));
        out.push(op(EXIT, 0, 0, 0, 0));
        out
    }

    /// The lines for v1, each with the file that takes it.
    ///
    /// v1 knows a default and a set of exceptions without holes: what cannot be said so is refused
    /// rather than, as the kernel does it, ignored.
    pub(super) fn lines(&self) -> Result<Vec<(&'static str, String)>> {
        let mut exceptions: Vec<(Match, u8)> = Vec::new();
        // "any type" is two exceptions: a line that starts with `a` would mean everything.
        let split = |rule: &Rule| match rule.on.kind {
            Some(kind) => vec![kind],
            None => vec![Kind::Block, Kind::Char],
        };
        for rule in &self.rules {
            for kind in split(rule) {
                let on = Match {
                    kind: Some(kind),
                    ..rule.on
                };
                if rule.allow == self.default {
                    subtract(&mut exceptions, on, rule.access)?;
                } else if let Some(known) = exceptions.iter_mut().find(|known| known.0 == on) {
                    known.1 |= rule.access;
                } else {
                    exceptions.push((on, rule.access));
                }
            }
        }
        let (to_default, to_except) = if self.default {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let mut lines = vec![(to_default, String::from("a"))];
        for &(on, access) in &exceptions {
            // The kernel wants reading and writing at once from one exception: let wider ones add
            // theirs. Making a node is asked for alone.
            let wider = exceptions
                .iter()
                .filter(|other| !self.default && other.0.covers(on) && access & !MKNOD != 0);
            let whole = wider.fold(access, |sum, other| sum | other.1 & !MKNOD);
            lines.push((to_except, line(on, whole)));
        }
        Ok(lines)
    }
}

/// Takes what a rule says back out of the exceptions before it.
fn subtract(exceptions: &mut Vec<(Match, u8)>, on: Match, access: u8) -> Result<()> {
    for known in exceptions.iter_mut().filter(|known| known.0.overlaps(on)) {
        if on.covers(known.0) {
            known.1 &= !access;
        } else if known.1 & access != 0 {
            let (narrow, wide) = (line(on, access), line(known.0, known.1));
            let why = format!("cgroup v1 cannot punch the hole [{narrow}] in the rule [{wide}]");
            return Err(Error::rule(Doing::PlanCgroup, why)
                .field("linux.resources.devices")
                .hint("name the devices one by one"));
        }
    }
    exceptions.retain(|known| known.1 != 0);
    Ok(())
}

/// One line of devices.allow or devices.deny: `c 136:* rwm`.
fn line(on: Match, access: u8) -> String {
    let kind = match on.kind {
        Some(Kind::Block) => 'b',
        Some(Kind::Char) => 'c',
        None => 'a',
    };
    let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
    let (major, minor) = (number(on.major), number(on.minor));
    format!("{kind} {major}:{minor} {}", letters(access))
}

/// `rwm`, or those of them.
fn letters(access: u8) -> String {
    let all = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let held = all.iter().filter(|(bit, _)| access & bit != 0);
    held.map(|(_, letter)| letter).collect()
}

/// A rule as the spec writes it: absent and -1 numbers are wildcards, no access is all of it.
fn read(rule: &DeviceRule) -> Result<Rule> {
    let refuse = |why: String| Err(Error::rule(Doing::PlanCgroup, why));
    let kind = match rule.typ.as_str() {
        "" | "a" => None,
        "b" => Some(Kind::Block),
        "c" => Some(Kind::Char),
        other => {
            return refuse(format!(
                "invalid device type {other:?}: a, b or c is wanted"
            ));
        }
    };
    let mut access = 0;
    for letter in rule.access.chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => {
                return refuse(format!(
                    "invalid device access {other:?}: r, w or m is wanted"
                ));
            }
        };
    }
    let number = |name: &str, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| {
            Error::rule(
                Doing::PlanCgroup,
                format!("invalid device {name} number {number}"),
            )
        }),
    };
    Ok(Rule {
        on: Match {
            kind,
            major: number("major", rule.major)?,
            minor: number("minor", rule.minor)?,
        },
        access: if access == 0 { ALL } else { access },
        allow: rule.allow,
    })
}

// Registers. R1 holds the context on entry, R0 the verdict at the exit.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Operations (Documentation/bpf/standardization/instruction-set.rst). The 32-bit jumps need
// Linux 5.1; the upper halves are clear after 32-bit loads and arithmetic.
const LOAD: u8 = 0x61; // LDX | MEM | W
const COPY: u8 = 0xbc; // ALU | MOV | X
const SET: u8 = 0xb4; // ALU | MOV | K
const AND: u8 = 0x54; // ALU | AND | K
const SHIFT_RIGHT: u8 = 0x74; // ALU | RSH | K
const JUMP: u8 = 0x05; // JMP | JA
const JUMP_NOT_EQUAL: u8 = 0x56; // JMP32 | JNE | K
const JUMP_ANY_BIT: u8 = 0x46; // JMP32 | JSET | K
const EXIT: u8 = 0x95;

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset,
        immediate,
    }
}

/// Puts the filter on a v2 cgroup; in the place of those there, unless the cgroup is `fresh`.
pub(super) fn attach(cgroup: BorrowedFd<'_>, policy: &Policy, fresh: bool) -> Result<()> {
    let program = load(&policy.program()).doing(Doing::LoadDeviceFilter)?;
    let mut old: Vec<OwnedFd> = Vec::new();
    if !fresh {
        for id in bpf::device_filters(cgroup).doing(Doing::LoadDeviceFilter)? {
            match bpf::program(id) {
                Ok(fd) => old.push(fd),
                // Another's filter, hidden by a security module or just gone: it can only deny
                // more, so it may stay.
                Err(Errno::EPERM | Errno::EACCES | Errno::ENOENT) => {}
                Err(errno) => return Err(Error::os(Doing::LoadDeviceFilter, errno)),
            }
        }
    }
    if let [only] = old.as_slice() {
        match bpf::attach_device_filter(cgroup, program.as_fd(), Some(only.as_fd())) {
            Err(Errno::EINVAL) => {} // before Linux 5.6: attach first, then detach
            result => return result.doing(Doing::LoadDeviceFilter),
        }
    }
    bpf::attach_device_filter(cgroup, program.as_fd(), None).doing(Doing::LoadDeviceFilter)?;
    for one in &old {
        bpf::detach_device_filter(cgroup, one.as_fd()).doing(Doing::LoadDeviceFilter)?;
    }
    Ok(())
}

/// Loads a program; kernels before 5.11 charge it to RLIMIT_MEMLOCK, which is lifted for the call
/// only: our child would inherit it.
fn load(program: &[Instruction]) -> nix::Result<OwnedFd> {
    match bpf::load_device_filter(program) {
        Err(Errno::EPERM) => {}
        result => return result,
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
    let result = bpf::load_device_filter(program);
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    result
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
