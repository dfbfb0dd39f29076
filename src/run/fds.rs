//! The fds that outlive execve: stdio, `--preserve-fds` and socket activation's (sd_listen_fds(3)).
#![forbid(unsafe_code)]

use crate::error::{Act, Doing, Error, Explain, Result};
use crate::plan::wishes::Wishes;
use crate::sys::fd;
use std::ffi::CString;

/// How many fds from 3 on the program gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassedFds {
    count: i32,
    listen: i32,
}

impl PassedFds {
    /// LISTEN_FDS counts when LISTEN_PID is ours (sd_listen_fds(3)), and for a container only.
    pub(crate) fn plan(wishes: &Wishes) -> Result<Self> {
        let number = |name: &str| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse::<u32>().ok())
        };
        let for_us = number("LISTEN_PID") == Some(std::process::id());
        let listen = number("LISTEN_FDS").filter(|_| for_us && !wishes.joins);
        let listen = listen
            .and_then(|count| u16::try_from(count).ok())
            .unwrap_or(0);
        let preserve = i32::try_from(wishes.preserve_fds).unwrap_or(i32::MAX - 0x1_0000);
        let listen = i32::from(listen);
        let count = preserve + listen;
        for number in 3..3 + count {
            if !fd::is_inherited(number) {
                let index = number - 3 - listen;
                let why = match index < 0 {
                    true => format!("fd {number} of LISTEN_FDS={listen} is not open"),
                    // The words and the counting are runc's.
                    false => format!(
                        "unable to stat preserved-fd {index} (of {preserve}): \
                         no such file or directory"
                    ),
                };
                return Err(Error::rule(Doing::PreserveFds, why).hint(format_args!(
                    "open fd {number} before calling, or preserve fewer"
                )));
            }
        }
        Ok(Self { count, listen })
    }

    /// What the program's environment says of them. It is process 1, whatever its pid outside.
    pub(crate) fn env(&self) -> Vec<CString> {
        if self.listen == 0 {
            return Vec::new();
        }
        let words = [
            format!("LISTEN_FDS={}", self.listen),
            "LISTEN_PID=1".to_owned(),
        ];
        words
            .into_iter()
            .filter_map(|word| CString::new(word).ok())
            .collect()
    }

    /// The first number that is not passed on.
    pub(crate) fn end(&self) -> u32 {
        (3 + self.count).unsigned_abs()
    }

    /// Keeps whatever else the caller left open from hooks and other children.
    pub(crate) fn guard_rest(&self) -> Result<()> {
        fd::mark_from(self.end()).doing(Doing::CloseFds)
    }

    /// Lets exactly these cross execve: what else is open by then is ours, and close-on-exec.
    pub(crate) fn mark(&self) -> Result<()> {
        for number in 3..3 + self.count {
            fd::keep_across_exec(number)
                .doing(Doing::PreserveFds)
                .on(number)?;
        }
        Ok(())
    }
}
