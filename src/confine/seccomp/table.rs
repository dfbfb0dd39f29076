//! Planning: the table of syscall names, looked up by hash.
//!
//! The table is built by the compiler from the `syscalls` crate's enums. Names are kept as offsets
//! into one text, not as `&str`: pointers in a position-independent program are relocated at every
//! start, and a container runtime starts often.
#![forbid(unsafe_code)]

use super::names::Numbers;
use syscalls::{aarch64, arm, x86, x86_64};

/// In the place of a number, where there is none.
pub(super) const ABSENT: u16 = u16::MAX;
/// Arm's private syscalls (`cacheflush`, ...) are numbered from 0xf0001; they are stored from here.
pub(super) const ARM_PRIVATE: u16 = 0xf000;

/// Finds a name; `None` if no ABI of ours has it.
pub(super) fn find(name: &str) -> Option<Numbers> {
    let name = name.as_bytes();
    let mut at = hash(name, 0);
    loop {
        let slot = TABLE.slots.get(at)?;
        let start = usize::from(slot.start);
        match TABLE.text.get(start..start + usize::from(slot.length)) {
            None | Some([]) => return None,
            Some(text) if text == name => return Some(slot.numbers),
            Some(_) => at = (at + 1) % SLOTS,
        }
    }
}

/// Every name, for the tests.
#[cfg(test)]
pub(super) fn all() -> Vec<&'static str> {
    let text = |slot: &Slot| {
        let start = usize::from(slot.start);
        std::str::from_utf8(&TABLE.text[start..start + usize::from(slot.length)]).unwrap()
    };
    let names = TABLE.slots.iter().map(text);
    names.filter(|name| !name.is_empty()).collect()
}

pub(super) const COLUMNS: usize = 4;
const SLOTS: usize = 1024;

/// FNV-1a, from byte `from` on.
const fn hash(mut name: &[u8], from: usize) -> usize {
    if let Some((_, rest)) = name.split_at_checked(from) {
        name = rest;
    }
    let mut hash: u32 = 0x811c_9dc5;
    while let Some((byte, rest)) = name.split_first() {
        hash = (hash ^ *byte as u32).wrapping_mul(0x0100_0193);
        name = rest;
    }
    (hash ^ (hash >> 15)) as usize % SLOTS
}

#[derive(Clone, Copy)]
struct Slot {
    start: u16,
    /// 0 in a free slot.
    length: u8,
    numbers: Numbers,
}

struct Table {
    text: [u8; 8192],
    used: usize,
    slots: [Slot; SLOTS],
}

static TABLE: Table = Table::build();

/// Numbers given out after the `syscalls` crate's tables were made; the same on every ABI.
const RECENT: [(&str, usize); 2] = [("listns", 470), ("rseq_slice_yield", 471)];

/// Arm's private syscalls (arch/arm/include/uapi/asm/unistd.h).
const ARM_ONLY: [&str; 6] = [
    "breakpoint",
    "cacheflush",
    "usr26",
    "usr32",
    "set_tls",
    "get_tls",
];

/// What `socketcall` can call, by its first argument from 1 on (include/uapi/linux/net.h).
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The mark in `Numbers::mux` of what `ipc` can call (include/uapi/linux/ipc.h).
pub(super) const IPC: u8 = 100;
const IPCS: [(&str, u8); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

macro_rules! column {
    ($table:ident, $column:literal, $sysno:ty) => {
        let mut id = 0;
        while id <= <$sysno>::last().id() as usize {
            if let Some(sysno) = <$sysno>::new(id) {
                $table.set(sysno.name(), $column, id);
            }
            id += 1;
        }
    };
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "run by the compiler only: a bad index or number is a build error or a failed test"
)]
impl Table {
    const fn build() -> Self {
        let numbers = Numbers {
            columns: [ABSENT; COLUMNS],
            mux: 0,
        };
        let free = Slot {
            start: 0,
            length: 0,
            numbers,
        };
        let mut table = Self {
            text: [0; 8192],
            used: 0,
            slots: [free; SLOTS],
        };
        column!(table, 0, x86_64::Sysno);
        column!(table, 1, x86::Sysno);
        column!(table, 2, arm::Sysno);
        column!(table, 3, aarch64::Sysno);
        table.set_aarch64();
        table.set_irregular();
        table
    }

    /// What the crate's table gets wrong: `newfstatat` has another name there, and the calls with
    /// 64-bit times (403 to 423), which are for 32-bit ABIs, have a number.
    const fn set_aarch64(&mut self) {
        let mut at = 0;
        while at < SLOTS {
            if let 403..=423 = self.slots[at].numbers.columns[3] {
                self.slots[at].numbers.columns[3] = ABSENT;
            }
            at += 1;
        }
        self.set("fstatat", 3, ABSENT as usize);
        self.set("newfstatat", 3, 79);
    }

    const fn set_irregular(&mut self) {
        let mut at = 0;
        while at < RECENT.len() {
            let mut column = 0;
            while column < COLUMNS {
                self.set(RECENT[at].0, column, RECENT[at].1);
                column += 1;
            }
            at += 1;
        }
        at = 0;
        while at < ARM_ONLY.len() {
            self.set(ARM_ONLY[at], 2, ARM_PRIVATE as usize + 1 + at);
            at += 1;
        }
        at = 0;
        while at < SOCKETCALLS.len() {
            let slot = self.slot(SOCKETCALLS[at]);
            self.slots[slot].numbers.mux = at as u8 + 1;
            at += 1;
        }
        at = 0;
        while at < IPCS.len() {
            let slot = self.slot(IPCS[at].0);
            self.slots[slot].numbers.mux = IPC + IPCS[at].1;
            at += 1;
        }
    }

    const fn set(&mut self, name: &str, column: usize, number: usize) {
        let slot = self.slot(name);
        self.slots[slot].numbers.columns[column] = number as u16;
    }

    /// The slot of a name, taken if it was not there yet.
    const fn slot(&mut self, name: &str) -> usize {
        let name = name.as_bytes();
        // The enum spells `break` as Rust must: `r#break`.
        let from = if name.len() > 2 && name[1] == b'#' {
            2
        } else {
            0
        };
        let length = name.len() - from;
        let mut at = hash(name, from);
        while self.slots[at].length != 0 {
            if self.holds(at, name, from) {
                return at;
            }
            at = (at + 1) % SLOTS;
        }
        self.slots[at].start = self.used as u16;
        self.slots[at].length = length as u8;
        let mut byte = 0;
        while byte < length {
            self.text[self.used + byte] = name[from + byte];
            byte += 1;
        }
        self.used += length;
        at
    }

    const fn holds(&self, at: usize, name: &[u8], from: usize) -> bool {
        let slot = &self.slots[at];
        if slot.length as usize != name.len() - from {
            return false;
        }
        let mut byte = 0;
        while byte < slot.length as usize {
            if self.text[slot.start as usize + byte] != name[from + byte] {
                return false;
            }
            byte += 1;
        }
        true
    }
}
