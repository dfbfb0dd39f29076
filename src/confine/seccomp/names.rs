//! Planning: ABIs, and the number of a syscall's name on each of them.
#![forbid(unsafe_code)]

use super::table::{ABSENT, ARM_PRIVATE, COLUMNS, IPC};
use oci_spec::runtime::Arch;

#[cfg(test)]
pub(super) use super::table::all;
pub(super) use super::table::find;

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
    pub(super) columns: [u16; COLUMNS],
    /// The first argument of `socketcall`, or `IPC` and that of `ipc`, or 0.
    pub(super) mux: u8,
}

/// A call of x86's `socketcall(2)` or `ipc(2)` that does what another syscall does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Multiplexed {
    /// The number of `socketcall` or `ipc`.
    pub(super) through: u32,
    /// Its first argument for this syscall.
    pub(super) call: u64,
}

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
