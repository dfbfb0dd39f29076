//! Planning: the number of a syscall's name on every ABI we know, by one hash lookup.
//!
//! The table is built by the compiler from the `syscalls` crate's enums. Names are kept as offsets
//! into one text, not as `&str`: pointers in a position-independent program are relocated at every
//! start, and a container runtime starts often.
#![forbid(unsafe_code)]

use oci_spec::runtime::Arch;
use syscalls::{aarch64, arm, x86, x86_64};

/// A syscall ABI: one numbering of syscalls, seen by a filter as an audit architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Arm,
    Aarch64,
}

/// What the kernel adds to the numbers of x32 syscalls, which share x86_64's audit architecture.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// The ABI this program was built for: always part of a filter, listed or not.
    pub(super) const NATIVE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else if cfg!(target_arch = "x86") {
        Some(Self::X86)
    } else if cfg!(target_arch = "arm") {
        Some(Self::Arm)
    } else {
        None
    };

    /// The ABI that config.json's name stands for; `None` if we have no table for it.
    pub(super) fn named(arch: Arch) -> Option<Self> {
        match arch {
            Arch::ScmpArchNative => Self::NATIVE,
            Arch::ScmpArchX86_64 => Some(Self::X86_64),
            Arch::ScmpArchX86 => Some(Self::X86),
            Arch::ScmpArchX32 => Some(Self::X32),
            Arch::ScmpArchArm => Some(Self::Arm),
            Arch::ScmpArchAarch64 => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*`, as the kernel puts it in `seccomp_data.arch`.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Arm => 0x4000_0028,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Whether arguments are 64 bits wide. libseccomp treats x32 as 32 bits, and so do we.
    pub(super) const fn wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }
}

/// The numbers of one name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    /// By column of the table: x86_64, x86, arm, aarch64; `ABSENT` where there is none.
    columns: [u16; COLUMNS],
    mux: u8,
}

/// A call of x86's `socketcall(2)` or `ipc(2)` that does what another syscall does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiplexed {
    /// The number of `socketcall` or `ipc`.
    pub(super) through: u32,
    /// Its first argument for this syscall.
    pub(super) call: u64,
}

const ABSENT: u16 = u16::MAX;
/// Arm's private syscalls (`cacheflush`, ...) are numbered from 0xf0001; they are stored from here.
const ARM_PRIVATE: u16 = 0xf000;

impl Numbers {
    /// The number on that ABI, if the syscall exists there.
    pub(super) fn on(&self, abi: Abi) -> Option<u32> {
        let [x86_64, x86, arm, aarch64] = self.columns;
        let number = match abi {
            Abi::X86_64 => x86_64,
            Abi::X86 => x86,
            Abi::Arm => arm,
            Abi::Aarch64 => aarch64,
            Abi::X32 => return x32(x86_64).map(|number| X32_BIT | u32::from(number)),
        };
        match number {
            ABSENT => None,
            private if private >= ARM_PRIVATE => Some(0xf_0000 | u32::from(private & 0xfff)),
            number => Some(u32::from(number)),
        }
    }

    /// The other way to this syscall on 32-bit x86, if there is one.
    pub(super) fn multiplexed(&self) -> Option<Multiplexed> {
        match self.mux {
            0 => None,
            ipc if ipc > IPC => Some(Multiplexed {
                through: 117,
                call: u64::from(ipc - IPC),
            }),
            socket => Some(Multiplexed {
                through: 102,
                call: u64::from(socket),
            }),
        }
    }
}

/// x86_64 numbers that x32 renumbers (arch/x86/entry/syscalls/syscall_64.tbl, ABI `x32`).
const X32: [(u16, u16); 36] = [
    (13, 512),
    (15, 513),
    (16, 514),
    (19, 515),
    (20, 516),
    (45, 517),
    (46, 518),
    (47, 519),
    (59, 520),
    (101, 521),
    (127, 522),
    (128, 523),
    (129, 524),
    (131, 525),
    (222, 526),
    (244, 527),
    (246, 528),
    (247, 529),
    (273, 530),
    (274, 531),
    (278, 532),
    (279, 533),
    (295, 534),
    (296, 535),
    (297, 536),
    (299, 537),
    (307, 538),
    (310, 539),
    (311, 540),
    (54, 541),
    (55, 542),
    (206, 543),
    (209, 544),
    (322, 545),
    (327, 546),
    (328, 547),
];

/// The x32 number (without its bit) of the syscall that is `number` on x86_64.
fn x32(number: u16) -> Option<u16> {
    match number {
        // ABI `64` in the kernel's table, without an x32 twin.
        ABSENT | 134 | 156 | 174 | 177 | 178 | 180 | 205 | 211 | 214 | 215 | 236 => None,
        _ => X32
            .iter()
            .find(|(wide, _)| *wide == number)
            .map_or(Some(number), |(_, x32)| Some(*x32)),
    }
}

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

const COLUMNS: usize = 4;
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
const IPC: u8 = 100;
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
        table.set_irregular();
        table
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
