//! `linux.sysctl`: kernel parameters of the container's namespaces (sysctl(8)).
#![forbid(unsafe_code)]

use super::namespaces::{IPC, NET, Namespaces, USER, UTS};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::os::fd::BorrowedFd;

/// The parameters as paths below /proc/sys with their values.
#[derive(Debug, Default)]
pub(crate) struct Sysctls(Vec<Sysctl>);

#[derive(Debug)]
struct Sysctl {
    name: String,
    path: String,
    value: String,
}

/// The parameters of an IPC namespace besides `fs.mqueue.*`.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

impl Sysctls {
    pub(crate) fn plan(config: &Config, namespaces: &Namespaces) -> Result<Self> {
        let mut out = Vec::new();
        for (name, value) in &config.linux.sysctl {
            let dotted = dotted(name);
            let path = dotted
                .split('.')
                .map(|part| part.replace('/', "."))
                .collect::<Vec<_>>();
            if let Some(why) = refusal(&dotted, namespaces).or_else(|| {
                let odd = path
                    .iter()
                    .any(|part| matches!(part.as_str(), "" | "." | ".."));
                odd.then(|| "not the name of a kernel parameter".to_owned())
            }) {
                return Err(
                    Error::rule(Doing::CheckConfig, why).field(format!("linux.sysctl.{name}"))
                );
            }
            out.push(Sysctl {
                name: name.clone(),
                path: path.join("/"),
                value: value.clone(),
            });
        }
        Ok(Self(out))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them through `proc`, a procfs that nobody else can reach or mount over.
    pub(crate) fn write(&self, proc: BorrowedFd<'_>) -> Result<()> {
        for Sysctl { name, path, value } in &self.0 {
            // NO_XDEV: only files of this procfs itself, never of something mounted on it
            // (CVE-2025-52881).
            let how = OpenHow::new()
                .flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC)
                .resolve(
                    ResolveFlag::RESOLVE_BENEATH
                        | ResolveFlag::RESOLVE_NO_XDEV
                        | ResolveFlag::RESOLVE_NO_SYMLINKS,
                );
            openat2(proc, format!("sys/{path}").as_str(), how)
                .and_then(|file| nix::unistd::write(file, value.as_bytes()))
                .doing(Doing::SetSysctl)
                .on(format_args!("{name}={value}"))
                .field(format!("linux.sysctl.{name}"))?;
        }
        Ok(())
    }
}

/// `net/ipv4/conf/eno2.100/rp_filter` as `net.ipv4.conf.eno2/100.rp_filter`: whichever separator
/// comes first is the separator, the other one is part of a name (sysctl.d(5)).
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes().get(at) == Some(&b'/') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Why a parameter may not be set: it would change the host's, not the container's.
fn refusal(name: &str, namespaces: &Namespaces) -> Option<String> {
    let lacks = |flag, what: &str| {
        (!namespaces.has(flag)).then(|| format!("not allowed in the host's {what} namespace"))
    };
    if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return lacks(IPC, "ipc");
    }
    if name.starts_with("net.") {
        return lacks(NET, "network");
    }
    if name.starts_with("user.") {
        return lacks(USER, "user");
    }
    match name {
        "kernel.hostname" => Some("conflicts with the field hostname: set that".to_owned()),
        "kernel.domainname" => lacks(UTS, "uts"),
        _ => Some("is not in a separate kernel namespace".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(namespaces: &str, name: &str) -> Result<Sysctls> {
        let config: Config = serde_json::from_str(&format!(
            r#"{{"linux":{{"namespaces":[{namespaces}],"sysctl":{{"{name}":"1"}}}}}}"#
        ))
        .unwrap();
        Sysctls::plan(&config, &Namespaces::plan(&config).unwrap())
    }

    #[test]
    fn only_parameters_of_the_containers_own_namespaces_are_set() {
        assert!(plan(r#"{"type":"network"}"#, "net.ipv4.ip_forward").is_ok());
        assert!(plan("", "net.ipv4.ip_forward").is_err());
        assert!(plan(r#"{"type":"ipc"}"#, "kernel.sem").is_ok());
        assert!(plan(r#"{"type":"ipc"}"#, "kernel.pid_max").is_err());
        assert!(plan(r#"{"type":"uts"}"#, "kernel.hostname").is_err());
    }

    #[test]
    fn either_separator_is_understood() {
        let plan = plan(r#"{"type":"network"}"#, "net/ipv4/conf/eno2.100/rp_filter").unwrap();
        assert_eq!(plan.0[0].path, "net/ipv4/conf/eno2.100/rp_filter");
    }

    #[test]
    fn no_name_leads_out_of_proc_sys() {
        assert!(plan(r#"{"type":"network"}"#, "net././.").is_err());
        assert!(plan(r#"{"type":"network"}"#, "net/../../x").is_err());
    }
}
