//! Hostile input: one door for each kind of it, to be knocked at by fuzzers (`hack/fuzz`), and by
//! the unit tests with what the fuzzers begin from and with what they have found.
//!
//! A door takes any bytes. It panics if creel does, and if a promise is broken that holds for all
//! input: that reading and planning are pure, that what is written reads back, that no path leads
//! out. Doors touch nothing but memory (two have a pair of sockets); they are in no release.
#![forbid(unsafe_code)]

pub mod seeds;

use crate::bundle::config::Config;
use crate::bundle::parse;
use crate::host::Host;
use crate::limit::cgroup::fuzz::on_each_host;
use crate::plan::Plan;
use crate::plan::wishes::Wishes;
use std::fmt::Debug;
use std::path::Path;

pub use crate::confine::seccomp::tests::fuzz::seccomp;
pub use crate::container::fuzz::{criu, process, state, update};
pub use crate::limit::cgroup::fuzz::{annotations, cgroups_path, procfs};
pub use crate::limit::cgroup::systemd::fuzz::dbus;
pub use crate::rootfs::options::fuzz::mount_options;
pub use crate::stages::wire::fuzz::stage_socket;
pub use crate::sys::netlink::fuzz::netlink;

/// A door, by the name of its fuzz target.
pub type Door = (&'static str, fn(&[u8]));

/// All of them.
pub const DOORS: &[Door] = &[
    ("annotations", annotations),
    ("cgroups_path", cgroups_path),
    ("config", config),
    ("criu", criu),
    ("dbus", dbus),
    ("mount_options", mount_options),
    ("netlink", netlink),
    ("process", process),
    ("procfs", procfs),
    ("seccomp", seccomp),
    ("stage_socket", stage_socket),
    ("state", state),
    ("update", update),
];

/// Two outcomes of one question.
pub(crate) fn same(first: &impl Debug, second: &impl Debug) {
    let (first, second) = (format!("{first:?}"), format!("{second:?}"));
    assert_eq!(first, second, "the same input, understood in two ways");
}

/// config.json, to the plan of a container.
pub fn config(bytes: &[u8]) {
    // Twice, for there must be no chance in it: not even the order of a hash map.
    let read = || parse::<Config>(bytes, "config.json").map_err(|error| error.to_string());
    let (first, second) = (read(), read());
    let (Ok(first), Ok(second)) = (&first, &second) else {
        return same(&first.err(), &second.err());
    };
    on_each_host(|systemd_cgroup| {
        let wishes = Wishes {
            systemd_cgroup,
            ..Wishes::default()
        };
        let plan = |config| {
            let mut warnings = Vec::new();
            let plan = Plan::new(
                "fuzz",
                Path::new("/bundle"),
                config,
                &wishes,
                &Host::fixed(),
                &mut warnings,
            );
            (plan.map_err(|error| error.to_string()), warnings)
        };
        let planned = plan(first);
        // To compare costs more than all the rest: only where cgroupsPath makes sense.
        if systemd_cgroup == first.linux.cgroups_path.contains(':') {
            same(&planned, &plan(second));
        }
        if let (Ok(plan), _) = planned {
            assert!(plan.root.path.is_absolute());
        }
    });
}
