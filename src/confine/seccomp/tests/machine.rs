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
                (if offset % 8 == 0 { arg } else { arg >> 32 }) as u32
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
