//! `process.user`: ids, additional groups and umask (config.md, credentials(7)).
#![forbid(unsafe_code)]

use crate::bundle::config::Process;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::isolate::ids::IdMaps;
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Who the process is, in the container's ids.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    groups: Vec<Gid>,
    umask: Mode,
    /// The user namespace has setgroups(2) off (user_namespaces(7)).
    no_groups: bool,
}

impl User {
    /// `maps`: of the user namespace that is made with the process, if one is.
    pub(crate) fn plan(process: &Process, maps: Option<&IdMaps>) -> Result<Self> {
        let user = &process.user;
        if user.umask.is_some_and(|umask| umask > 0o777) {
            let why = "a umask has the nine permission bits, at most 511 (0777)";
            return Err(Error::rule(Doing::CheckConfig, why).field("process.user.umask"));
        }
        let named = [("uid".to_owned(), user.uid), ("gid".to_owned(), user.gid)].into_iter();
        let groups = user.additional_gids.iter().enumerate();
        let groups = groups.map(|(index, gid)| (format!("additionalGids[{index}]"), *gid));
        if let Some((field, id)) = named.chain(groups).find(|(_, id)| *id == u32::MAX) {
            // setresuid(2): -1 leaves an id as it is, which is root's.
            let why = format!("{id} is no id: to the kernel it says \"do not change it\"");
            return Err(Error::rule(Doing::CheckConfig, why).field(format!("process.user.{field}")));
        }
        let no_groups = maps.is_some_and(IdMaps::deny_setgroups);
        let unmapped = |field: String| {
            let why = "the id is not mapped in the container's user namespace";
            Err(Error::rule(Doing::CheckConfig, why).field(format!("process.user.{field}")))
        };
        if maps.is_some_and(|maps| !maps.has_uid(user.uid)) {
            return unmapped("uid".to_owned());
        }
        if maps.is_some_and(|maps| !maps.has_gid(user.gid)) {
            return unmapped("gid".to_owned());
        }
        for (index, gid) in user.additional_gids.iter().enumerate() {
            if maps.is_some_and(|maps| !maps.has_gid(*gid)) {
                return unmapped(format!("additionalGids[{index}]"));
            }
        }
        if no_groups && !user.additional_gids.is_empty() {
            let why = "additional groups cannot be set in an unprivileged user namespace";
            return Err(Error::rule(Doing::CheckConfig, why).field("process.user.additionalGids"));
        }
        Ok(Self {
            uid: user.uid,
            gid: user.gid,
            groups: user
                .additional_gids
                .iter()
                .copied()
                .map(Gid::from_raw)
                .collect(),
            umask: Mode::from_bits_truncate(user.umask.unwrap_or(0o022)),
            no_groups,
        })
    }

    /// Sets groups, gid, uid and umask, in this order: each needs the privileges that the next
    /// takes away. Permitted capabilities survive with PR_SET_KEEPCAPS.
    pub(crate) fn adopt(&self) -> Result<()> {
        if !self.no_groups {
            match setgroups(&self.groups) {
                // A user namespace that was made elsewhere may have setgroups off, too.
                Err(Errno::EPERM) if self.groups.is_empty() && setgroups_are_off() => {}
                result => {
                    result
                        .doing(Doing::SetUser)
                        .on("additional groups")
                        .field("process.user.additionalGids")?;
                }
            }
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let unmapped = "EINVAL: the id is not mapped in the container's user namespace";
        setresgid(gid, gid, gid)
            .doing(Doing::SetUser)
            .on(format_args!("gid {gid}"))
            .field("process.user.gid")
            .hint(unmapped)?;
        setresuid(uid, uid, uid)
            .doing(Doing::SetUser)
            .on(format_args!("uid {uid}"))
            .field("process.user.uid")
            .hint(unmapped)?;
        umask(self.umask);
        Ok(())
    }
}

fn setgroups_are_off() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}
