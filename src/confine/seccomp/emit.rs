//! Planning: lays a [`Tree`] out as a classic BPF program that asks as few questions as it can.
//!
//! The program is written from its end to its beginning, because classic BPF only jumps forward:
//! when a jump is written, its target already has a place.
#![forbid(unsafe_code)]

use super::tree::{BAD_ARCH, Check, Range, Test, Tree, Verdict};
use crate::error::{Doing, Error, Result};
use oci_spec::runtime::LinuxSeccompOperator as Op;
use seccompiler::{BpfProgram, sock_filter};

// linux/bpf_common.h; `LD` is a 32-bit load from seccomp_data.
const LD: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// The program for a tree.
pub(super) fn emit(tree: &Tree) -> Result<BpfProgram> {
    let mut out = Backwards {
        program: Vec::with_capacity(1024),
        returns: Vec::new(),
        checks: vec![None; tree.checks.len()],
        tree,
    };
    let mut otherwise = out.give(BAD_ARCH);
    // Last written is first run: the native architecture is at the head.
    let mut archs = Vec::new();
    for (audit, ranges) in tree.archs.iter().rev() {
        let start = out.search(ranges);
        archs.push((*audit, out.load(NUMBER, start)));
    }
    for (audit, start) in archs {
        otherwise = out.branch(JEQ, audit, start, otherwise);
    }
    out.load(ARCH, otherwise);
    let mut program = out.program;
    if program.len() > LONGEST {
        let why = format!(
            "the filter has {} instructions, the kernel takes at most {LONGEST}",
            program.len()
        );
        return Err(Error::rule(Doing::CompileSeccomp, why).field("linux.seccomp.syscalls"));
    }
    program.reverse();
    Ok(program)
}

/// An instruction, by its distance from the program's end.
type Place = usize;

struct Backwards<'a> {
    /// Last instruction first.
    program: BpfProgram,
    /// Where each action was last written.
    returns: Vec<(u32, Place)>,
    checks: Vec<Option<Place>>,
    tree: &'a Tree,
}

impl Backwards<'_> {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Place {
        self.program.push(sock_filter { code, jt, jf, k });
        self.program.len() - 1
    }

    /// The jump offset to a place from an instruction that has `between` others after it first.
    fn offset(&self, target: Place, between: usize) -> usize {
        self.program.len() + between - target - 1
    }

    /// A return of that action, near enough to be jumped to from here.
    fn give(&mut self, action: u32) -> Place {
        let known = self.returns.iter().find(|(known, _)| *known == action);
        if let Some((_, place)) = known.filter(|(_, place)| self.offset(*place, 2) <= 255) {
            return *place;
        }
        let place = self.push(RET, 0, 0, action);
        self.returns.retain(|(known, _)| *known != action);
        self.returns.push((action, place));
        place
    }

    /// The target, or something that leads to it, within reach of a jump after `between` more.
    fn near(&mut self, target: Place, between: usize) -> Place {
        let offset = self.offset(target, between);
        if offset <= 255 {
            return target;
        }
        match self.program.get(target) {
            Some(&sock_filter { code: RET, k, .. }) => self.give(k),
            _ => {
                let distance = u32::try_from(self.offset(target, 0)).unwrap_or(u32::MAX);
                self.push(JA, 0, 0, distance)
            }
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let jump = |target| u8::try_from(self.offset(target, 0)).unwrap_or(u8::MAX);
        let (jt, jf) = (jump(yes), jump(no));
        self.push(code, jt, jf, k)
    }

    /// A statement that is followed by `next`.
    fn then(&mut self, code: u16, k: u32, next: Place) -> Place {
        if next + 1 != self.program.len() {
            let distance = u32::try_from(self.offset(next, 0)).unwrap_or(u32::MAX);
            self.push(JA, 0, 0, distance);
        }
        self.push(code, 0, 0, k)
    }

    fn load(&mut self, offset: u32, next: Place) -> Place {
        self.then(LD, offset, next)
    }

    /// A binary search for the range that holds the number.
    fn search(&mut self, ranges: &[Range]) -> Place {
        match ranges {
            [] => self.give(self.tree.default),
            [only] => self.verdict(only.verdict),
            // A hole of one number costs one question instead of two.
            [left, hole, right]
                if left.verdict == right.verdict && hole.start + 1 == right.start =>
            {
                let around = self.verdict(left.verdict);
                let inside = self.verdict(hole.verdict);
                self.branch(JEQ, hole.start, inside, around)
            }
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let start = above.first().map_or(u32::MAX, |range| range.start);
                let above = self.search(above);
                let below = self.search(below);
                self.branch(JGE, start, above, below)
            }
        }
    }

    fn verdict(&mut self, verdict: Verdict) -> Place {
        match verdict {
            Verdict::Return(action) => self.give(action),
            Verdict::Check(index) => {
                if let Some(Some(place)) = self.checks.get(index) {
                    return *place;
                }
                let place = match self.tree.checks.get(index) {
                    Some(check) => self.check(check),
                    None => self.give(self.tree.default),
                };
                if let Some(known) = self.checks.get_mut(index) {
                    *known = Some(place);
                }
                place
            }
        }
    }

    fn check(&mut self, check: &Check) -> Place {
        let mut otherwise = self.give(self.tree.default);
        for (tests, action) in check.arms.iter().rev() {
            let mut place = self.give(*action);
            for test in tests.iter().rev() {
                place = match check.wide {
                    true => self.wide(test, place, otherwise),
                    false => self.narrow(test, place, otherwise),
                };
            }
            otherwise = place;
        }
        otherwise
    }

    /// A test of the low half alone.
    fn narrow(&mut self, test: &Test, pass: Place, fail: Place) -> Place {
        let low = self.low(test, pass, fail);
        self.load(ARGS + 8 * u32::from(test.arg), low)
    }

    fn low(&mut self, test: &Test, pass: Place, fail: Place) -> Place {
        let (_, value) = halves(test.value);
        match test.op {
            Op::ScmpCmpEq => self.branch(JEQ, value, pass, fail),
            Op::ScmpCmpNe => self.branch(JEQ, value, fail, pass),
            Op::ScmpCmpGt => self.branch(JGT, value, pass, fail),
            Op::ScmpCmpLe => self.branch(JGT, value, fail, pass),
            Op::ScmpCmpGe => self.branch(JGE, value, pass, fail),
            Op::ScmpCmpLt => self.branch(JGE, value, fail, pass),
            Op::ScmpCmpMaskedEq => self.masked(halves(test.mask).1, value, pass, fail),
        }
    }

    fn masked(&mut self, mask: u32, value: u32, pass: Place, fail: Place) -> Place {
        let equal = self.branch(JEQ, value, pass, fail);
        match mask {
            u32::MAX => equal,
            _ => self.then(AND, mask, equal),
        }
    }

    /// A test of both halves: the high one decides unless it is equal.
    fn wide(&mut self, test: &Test, pass: Place, fail: Place) -> Place {
        let offset = ARGS + 8 * u32::from(test.arg);
        let (high, _) = halves(test.value);
        let (high_mask, low_mask) = halves(test.mask);
        let mut place = pass;
        if low_mask != 0 {
            place = self.low(test, pass, fail);
            place = self.load(offset, place);
        }
        place = match test.op {
            Op::ScmpCmpMaskedEq if high_mask == 0 => return place,
            Op::ScmpCmpMaskedEq => self.masked(high_mask, high, place, fail),
            Op::ScmpCmpEq => self.branch(JEQ, high, place, fail),
            Op::ScmpCmpNe => self.branch(JEQ, high, place, pass),
            Op::ScmpCmpGt | Op::ScmpCmpGe => {
                let equal = self.branch(JEQ, high, place, fail);
                self.branch(JGT, high, pass, equal)
            }
            Op::ScmpCmpLt | Op::ScmpCmpLe => {
                let equal = self.branch(JEQ, high, place, pass);
                self.branch(JGT, high, fail, equal)
            }
        };
        // The high half of a little-endian argument; every architecture in `names` is.
        self.load(offset + 4, place)
    }
}

/// The high and the low half.
fn halves(value: u64) -> (u32, u32) {
    let half = |value| u32::try_from(value).unwrap_or(u32::MAX);
    (half(value >> 32), half(value & 0xffff_ffff))
}
