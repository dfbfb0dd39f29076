//! Tests: a classic BPF machine, as the kernel's seccomp runs it.
#![forbid(unsafe_code)]

use seccompiler::sock_filter;

/// `struct seccomp_data`, less the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => {
                let arg = self.args[(offset as usize - 16) / 8];
                (if offset.is_multiple_of(8) {
                    arg
                } else {
                    arg >> 32
                }) as u32
            }
            _ => panic!("load from offset {offset}"),
        }
    }
}

/// The action and how many instructions it took; panics at what the kernel would not load.
pub(super) fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at) = (0, 0);
    for steps in 1.. {
        let sock_filter { code, jt, jf, k } = program[at];
        let jump = |taken| usize::from(if taken { jt } else { jf });
        at += 1;
        at += match code {
            0x20 => {
                accumulator = call.word(k);
                0
            }
            0x54 => {
                accumulator &= k;
                0
            }
            0x05 => k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x45 => jump(accumulator & k != 0),
            0x06 => return (k, steps),
            _ => panic!("instruction {code:#x}"),
        };
    }
    unreachable!()
}

/// Whether a program, on its way to a verdict, takes the architecture for the syscall's number.
///
/// libseccomp 2.5 forgets to load the number in programs of few rules and several architectures.
#[cfg(test)]
pub(super) fn forgets(program: &[sock_filter], call: &Call) -> bool {
    let (mut accumulator, mut at, mut loaded) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        let jump = |taken| usize::from(if taken { jt } else { jf });
        let jumps = [0x15, 0x25, 0x35].contains(&code);
        if jumps && loaded == 4 && !super::ABIS.iter().any(|abi| abi.audit() == k) {
            return true;
        }
        at += 1;
        at += match code {
            0x20 => {
                (accumulator, loaded) = (call.word(k), k);
                0
            }
            0x54 => {
                accumulator &= k;
                0
            }
            0x05 => k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            _ => return false,
        };
    }
}
