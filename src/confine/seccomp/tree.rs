//! Planning: from rules by name to one verdict for every syscall number of an architecture.
//!
//! Rules for one syscall combine as in libseccomp, whose verdicts containers are used to: the first
//! rule without conditions decides alone; otherwise the rules are alternatives.
#![forbid(unsafe_code)]

use super::names::{Abi, Multiplexed, Numbers, X32_BIT};
use oci_spec::runtime::LinuxSeccompOperator as Op;
use std::cmp::{Ordering, Reverse};

/// One condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    /// 0 to 5.
    pub(super) arg: u8,
    pub(super) op: Op,
    pub(super) value: u64,
    /// What `MASKED_EQ` looks at; all ones for the others.
    pub(super) mask: u64,
}

/// What one entry of `linux.seccomp.syscalls` says about each of its names.
#[derive(Debug)]
pub(super) struct Rule {
    /// `SECCOMP_RET_*` with its data.
    pub(super) action: u32,
    /// Alternatives, each a list of conditions that must all hold.
    pub(super) any: Vec<Vec<Test>>,
}

/// A syscall that the profile names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) numbers: Numbers,
    /// Index of its rule; `None` if that rule says no more than the default action.
    pub(super) rule: Option<usize>,
}

/// The answer to a syscall number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Return(u32),
    /// It depends on the arguments: index into [`Tree::checks`].
    Check(usize),
}

/// A verdict that depends on the arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Whether both halves of the arguments count.
    pub(super) wide: bool,
    /// Tried in this order: all tests of an arm passed means its action.
    pub(super) arms: Vec<(Vec<Test>, u32)>,
}

/// Syscall numbers from `start` up to the next range's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) verdict: Verdict,
}

/// Everything a profile says, ready to be laid out as a program.
#[derive(Debug)]
pub(super) struct Tree {
    /// Audit architecture and ranges from 0 on, the native one first.
    pub(super) archs: Vec<(u32, Vec<Range>)>,
    pub(super) checks: Vec<Check>,
    /// The answer to a check none of whose arms matched.
    pub(super) default: u32,
}

/// What libseccomp answers to an architecture that is not part of the filter.
pub(super) const BAD_ARCH: u32 = libc::SECCOMP_RET_KILL_THREAD;
/// The answer to syscalls newer than the profile.
const TOO_NEW: u32 = libc::SECCOMP_RET_ERRNO | 38; // ENOSYS, on every ABI in `names`

/// What a profile says, by name.
#[derive(Debug)]
pub(super) struct Said<'a> {
    /// Without duplicates.
    pub(super) abis: &'a [Abi],
    pub(super) rules: &'a [Rule],
    pub(super) named: &'a [Named],
    pub(super) default: u32,
}

impl Tree {
    /// Resolves names to numbers and rules to verdicts.
    pub(super) fn grow(said: &Said) -> Self {
        let mut tree = Self {
            archs: Vec::new(),
            checks: Vec::new(),
            default: said.default,
        };
        for abi in said.abis {
            let audit = abi.audit();
            if tree.archs.iter().all(|(known, _)| *known != audit) {
                let ranges = tree.arch(said, audit);
                tree.archs.push((audit, ranges));
            }
        }
        tree
    }

    fn arch(&mut self, said: &Said, audit: u32) -> Vec<Range> {
        let mut singles = Vec::with_capacity(said.named.len() * 2);
        let of_audit = said.abis.iter().filter(|abi| abi.audit() == audit);
        let mut limits = Vec::new();
        for abi in of_audit {
            let limit = newest(said, *abi);
            self.singles(said, *abi, limit, &mut singles);
            limits.push((*abi, limit));
        }
        singles.sort_unstable_by_key(|(number, _)| *number);
        paint(&background(&limits, said.default), &singles)
    }

    /// The verdicts on the numbers that an ABI's names stand for.
    fn singles(
        &mut self,
        said: &Said,
        abi: Abi,
        limit: Option<u32>,
        out: &mut Vec<(u32, Verdict)>,
    ) {
        let mut entries = Vec::with_capacity(said.named.len() + 16);
        for (order, named) in said.named.iter().enumerate() {
            let Some(rule) = named.rule.and_then(|rule| said.rules.get(rule)) else {
                continue;
            };
            let mut add = |number, through| entries.push((number, order, rule, through));
            if let Some(number) = named.numbers.on(abi) {
                add(number, None);
            }
            if let Some(other) = named.numbers.multiplexed().filter(|_| abi == Abi::X86) {
                add(other.through, Some(other));
            }
        }
        entries.sort_unstable_by_key(|(number, order, ..)| (*number, *order));
        for group in entries.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some((number, ..)) = group.first() else {
                continue;
            };
            // runc answers before the filter does, so nothing the filter says counts there.
            if limit.is_none_or(|limit| *number <= limit) {
                let rules = group.iter().map(|(_, _, rule, through)| (*rule, *through));
                out.push((*number, self.decide(abi, rules)));
            }
        }
    }

    /// Combines the rules for one syscall.
    fn decide<'a>(
        &mut self,
        abi: Abi,
        rules: impl Iterator<Item = (&'a Rule, Option<Multiplexed>)>,
    ) -> Verdict {
        let mut arms = Vec::new();
        for (rule, through) in rules {
            if rule.any.is_empty() && through.is_none() {
                return Verdict::Return(rule.action);
            }
            let anything: &[Vec<Test>] = &[Vec::new()];
            let any = if rule.any.is_empty() {
                anything
            } else {
                &rule.any
            };
            for tests in any {
                let tests = narrow(tests, abi, through);
                if tests.is_empty() {
                    return Verdict::Return(rule.action);
                }
                arms.push((tests, rule.action));
            }
        }
        arms.sort_by(|(a, _), (b, _)| before(a, b));
        arms.dedup();
        self.check(Check {
            wide: abi.wide(),
            arms,
        })
    }

    fn check(&mut self, check: Check) -> Verdict {
        let known = self.checks.iter().position(|known| *known == check);
        Verdict::Check(known.unwrap_or_else(|| {
            self.checks.push(check);
            self.checks.len() - 1
        }))
    }
}

/// The newest syscall that the profile names, whatever it says about it; `None` if it names none.
///
/// Programs probe for new syscalls and fall back on ENOSYS only, so a profile that is older than
/// the program must not answer EPERM for what it never heard of. As in runc, which counts neither
/// number 0 nor, on x86, what `socketcall` and `ipc` multiplex; and which treats neither the
/// permissive actions nor a tracer, who answers for new syscalls itself, this way.
fn newest(said: &Said, abi: Abi) -> Option<u32> {
    let permissive = [
        libc::SECCOMP_RET_ALLOW,
        libc::SECCOMP_RET_LOG,
        libc::SECCOMP_RET_TRACE,
    ];
    if permissive.contains(&(said.default & libc::SECCOMP_RET_ACTION_FULL)) {
        return None;
    }
    let counted = |named: &&Named| abi != Abi::X86 || named.numbers.multiplexed().is_none();
    let numbers = said.named.iter().filter(counted);
    let newest = numbers.filter_map(|named| named.numbers.on(abi)).max();
    newest.filter(|newest| *newest > 0)
}

/// The verdicts on what no rule names.
fn background(limits: &[(Abi, Option<u32>)], default: u32) -> Vec<Range> {
    let mut out = Vec::with_capacity(7);
    let mut add = |start, action| {
        out.push(Range {
            start,
            verdict: Verdict::Return(action),
        });
    };
    let limit = |abi| limits.iter().find(|(known, _)| *known == abi).copied();
    let (plain, x32) = match limits.first() {
        Some((Abi::X86_64 | Abi::X32, _)) => (limit(Abi::X86_64), limit(Abi::X32)),
        other => {
            add(0, default);
            if let Some((_, Some(newest))) = other {
                add(newest.saturating_add(1), TOO_NEW);
            }
            return out;
        }
    };
    // Two ABIs in one architecture, told apart by a bit. The one that is not part of the filter is
    // refused, or a rule could be passed by its twin's number; but -1 is how a tracer skips a
    // syscall, and is nobody's.
    let mut half = |start, abi: Option<(Abi, Option<u32>)>| {
        add(start, if abi.is_some() { default } else { BAD_ARCH });
        if let Some((_, Some(newest))) = abi {
            add(newest.saturating_add(1), TOO_NEW);
        }
    };
    half(0, plain);
    half(X32_BIT, x32);
    let beyond = if plain.is_some() && x32.is_none() {
        BAD_ARCH
    } else {
        default
    };
    let newer = |abi: Option<(Abi, Option<u32>)>, otherwise| match abi {
        Some((_, Some(_))) => TOO_NEW,
        _ => otherwise,
    };
    add(0x8000_0000, newer(plain, beyond));
    add(0xc000_0000, newer(x32, beyond));
    add(u32::MAX, newer(x32, default));
    out
}

/// Lays single numbers (sorted) over the background.
fn paint(background: &[Range], singles: &[(u32, Verdict)]) -> Vec<Range> {
    let mut out: Vec<Range> = Vec::with_capacity(singles.len());
    let mut add = |start: u64, verdict| {
        let merges = out.last().is_some_and(|last| last.verdict == verdict);
        if let (false, Ok(start)) = (merges, u32::try_from(start)) {
            out.push(Range { start, verdict });
        }
    };
    let mut singles = singles.iter().peekable();
    let ends = background.iter().skip(1).map(|next| u64::from(next.start));
    for (range, end) in background.iter().zip(ends.chain([1 << 32])) {
        let mut at = u64::from(range.start);
        while let Some((number, verdict)) = singles.next_if(|(nr, _)| u64::from(*nr) < end) {
            let number = u64::from(*number);
            if at < number {
                add(at, range.verdict);
            }
            add(number, *verdict);
            at = number + 1;
        }
        if at < end {
            add(at, range.verdict);
        }
    }
    out
}

/// The tests as an ABI sees them: 32-bit ABIs compare low halves; what is always true is left out.
fn narrow(tests: &[Test], abi: Abi, through: Option<Multiplexed>) -> Vec<Test> {
    let seen = if abi.wide() { u64::MAX } else { 0xffff_ffff };
    // The multiplexer's own first argument is the call; the rule's would be behind a pointer.
    let call = through.map(|multiplexed| Test {
        arg: 0,
        op: Op::ScmpCmpEq,
        value: multiplexed.call,
        mask: u64::MAX,
    });
    let rest = tests.iter().filter(|test| call.is_none() || test.arg != 0);
    let mut out: Vec<Test> = call.iter().chain(rest).copied().collect();
    for test in &mut out {
        test.mask &= seen;
        test.value &= test.mask;
    }
    out.retain(|test| test.mask != 0);
    out.sort_by_key(|test| test.arg);
    out
}

/// libseccomp's order of alternatives, which decides when two with different actions both match:
/// later arguments first, then equality, upper bounds, lower bounds; the tighter bound first.
fn before(a: &[Test], b: &[Test]) -> Ordering {
    let key = |test: &Test| {
        let (class, value) = match test.op {
            Op::ScmpCmpEq | Op::ScmpCmpNe | Op::ScmpCmpMaskedEq => (3_u8, test.value),
            Op::ScmpCmpLe | Op::ScmpCmpLt => (2, !test.value),
            Op::ScmpCmpGe | Op::ScmpCmpGt => (1, test.value),
        };
        Reverse((test.arg, class, value))
    };
    a.iter().map(key).cmp(b.iter().map(key))
}
