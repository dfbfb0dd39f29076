//! `linux.netDevices`: devices of the host that become the container's (config-linux.md, "Network
//! Devices").
//!
//! The parent moves them: it is at home where they are. While the container is not yet made, a
//! failure gives them back; afterwards they are the kernel's business, which returns physical
//! devices and destroys virtual ones when the namespace goes (network_namespaces(7)).
#![forbid(unsafe_code)]

use super::namespaces::{NET, Namespaces};
use crate::bundle::config::Config;
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::sys::clone::setns;
use crate::sys::netlink::{Address, Link, Netlink};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The devices to move: the host's name and the container's.
#[derive(Debug, Default)]
pub(crate) struct NetDevices(Vec<(String, String)>);

/// Devices that were moved into a namespace. Dropped before [`keep`](Self::keep), they return.
#[derive(Debug)]
pub(crate) struct Moved {
    home: OwnedFd,
    inside: Netlink,
    devices: Vec<Device>,
}

/// A device as it was at home, and its number in the container.
#[derive(Debug)]
struct Device {
    link: Link,
    addresses: Vec<Address>,
    index: u32,
}

impl NetDevices {
    /// Decides on the names. `rootless`: who may not move devices says so before anything is made.
    pub(crate) fn plan(config: &Config, namespaces: &Namespaces, rootless: bool) -> Result<Self> {
        let mut out: Vec<(String, String)> = Vec::new();
        for (name, asked) in &config.linux.net_devices {
            let wrong = |part: &str, why: String| {
                let field = format!("linux.netDevices.{name}{part}");
                Err(Error::rule(Doing::CheckConfig, why).field(field))
            };
            if !namespaces.has(NET) {
                let why = "unable to move network devices without a NET namespace";
                return wrong("", why.to_owned());
            }
            if rootless {
                let why = "network devices are not supported for rootless containers";
                return wrong("", why.to_owned());
            }
            if !is_name(name) || name.contains('%') {
                return wrong("", format!("invalid network device name {name:?}"));
            }
            let new = match asked.name.as_str() {
                "" => name,
                new => new,
            };
            if !is_name(new) || new.matches('%').count() > usize::from(is_template(new)) {
                return wrong(".name", format!("invalid network device name {new:?}"));
            }
            if !is_template(new) && out.iter().any(|(_, other)| other == new) {
                return wrong(".name", format!("two network devices are to be {new:?}"));
            }
            out.push((name.clone(), new.to_owned()));
        }
        Ok(Self(out))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses devices that are not there, before anything is made.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let links = Netlink::open().and_then(|host| host.links());
        let links = links.doing(Doing::MoveNetDevice)?;
        for (name, _) in &self.0 {
            explain(find(&links, name), name)?;
        }
        Ok(())
    }

    /// Moves them into the namespace behind `target`, with their lasting addresses, and up.
    pub(crate) fn move_to(&self, target: BorrowedFd<'_>) -> Result<Moved> {
        let away = || -> nix::Result<(Netlink, Moved)> {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let home = open("/proc/self/ns/net", flags, Mode::empty())?;
            let host = Netlink::open()?;
            setns(target, NET)?;
            let inside = Netlink::open();
            setns(home.as_fd(), NET)?;
            let devices = Vec::new();
            let inside = inside?;
            Ok((
                host,
                Moved {
                    home,
                    inside,
                    devices,
                },
            ))
        };
        let (host, mut moved) = away()
            .doing(Doing::MoveNetDevice)
            .on("into the network namespace")
            .field("linux.netDevices")?;
        let taken = moved.inside.links().doing(Doing::MoveNetDevice)?;
        for (name, new) in &self.0 {
            if taken.iter().any(|link| link.name == *new) {
                let why = format!("the container has a network device {new:?} already");
                return Err(Error::rule(Doing::MoveNetDevice, why)
                    .on(name)
                    .field(format_args!("linux.netDevices.{name}")));
            }
        }
        for (name, new) in &self.0 {
            explain(moved.take(&host, target, name, new), name)?;
        }
        Ok(moved)
    }
}

impl Moved {
    /// The container lives: its devices are its own.
    pub(crate) fn keep(&mut self) {
        self.devices.clear();
    }

    fn take(
        &mut self,
        host: &Netlink,
        target: BorrowedFd<'_>,
        name: &str,
        new: &str,
    ) -> nix::Result<()> {
        let link = find(&host.links()?, name)?;
        // Before the move: the kernel drops them on the way.
        let mut addresses = host.addresses(link.index)?;
        addresses.retain(Address::is_permanent);
        let before = self.inside.links()?;
        let handed_over = host.hand_over(link.index, new, target);
        // Its number and, from a template, its name are the kernel's choice. A device whose new
        // name was refused has arrived all the same.
        let after = self.inside.links()?;
        let is_new = |there: &&Link| before.iter().all(|other| other.index != there.index);
        let arrived = after.iter().find(is_new);
        if let Some(Link { index, .. }) = arrived {
            self.devices.push(Device {
                link,
                addresses,
                index: *index,
            });
        }
        handed_over?;
        let index = arrived.ok_or(Errno::ENODEV)?.index;
        let arrived = self.devices.last().map(|device| &device.addresses);
        for address in arrived.into_iter().flatten().filter(|a| a.is_global()) {
            self.inside.add(index, address)?;
        }
        self.inside.raise(index)
    }

    fn give_back(&self, device: &Device) -> nix::Result<()> {
        let Device {
            link,
            addresses,
            index,
        } = device;
        self.inside
            .hand_over(*index, &link.name, self.home.as_fd())?;
        let host = Netlink::open()?;
        let index = find(&host.links()?, &link.name)?.index;
        if link.is_up {
            host.raise(index)?;
        }
        for address in addresses {
            host.add(index, address)?;
        }
        Ok(())
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for device in self.devices.iter().rev() {
            if let Err(error) = explain(self.give_back(device), &device.link.name) {
                crate::log::warning(&error.hint("it could not be given back to the host"));
            }
        }
    }
}

fn find(links: &[Link], name: &str) -> nix::Result<Link> {
    let found = links.iter().find(|link| link.name == name);
    found.cloned().ok_or(Errno::ENODEV)
}

fn explain<T>(result: nix::Result<T>, name: &str) -> Result<T> {
    let hint = match result {
        Err(Errno::ENODEV) => "is there a network device of that name on the host?",
        _ => "EINVAL: a device of its kind stays in its namespace; EEXIST: its name is taken",
    };
    result
        .doing(Doing::MoveNetDevice)
        .on(name)
        .field(format_args!("linux.netDevices.{name}"))
        .hint(hint)
}

/// `eth%d`: the kernel puts the first free number there.
fn is_template(name: &str) -> bool {
    name.contains("%d")
}

/// What the kernel takes for a name (dev_valid_name): 15 bytes at the most.
fn is_name(name: &str) -> bool {
    let odd = |c: char| matches!(c, '/' | ':' | '\0') || c.is_whitespace();
    !matches!(name, "" | "." | "..") && name.len() < 16 && !name.contains(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(devices: &str) -> Result<NetDevices> {
        plan_in(r#"[{"type":"network"}]"#, devices, false)
    }

    fn plan_in(namespaces: &str, devices: &str, rootless: bool) -> Result<NetDevices> {
        let config: Config = serde_json::from_str(&format!(
            r#"{{"linux":{{"namespaces":{namespaces},"netDevices":{{{devices}}}}}}}"#
        ))
        .unwrap();
        NetDevices::plan(&config, &Namespaces::plan(&config).unwrap(), rootless)
    }

    fn fails(devices: &str, field: &str) {
        let error = plan(devices).unwrap_err().to_string();
        assert!(error.contains(&format!("({field})")), "{error}");
    }

    #[test]
    fn a_device_keeps_its_name_or_gets_a_new_one() {
        let plan = plan(r#""eth0":{},"eth1":{"name":"net0"},"eth2":{"name":"if%d"}"#).unwrap();
        let pairs: Vec<_> = plan.0.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        assert_eq!(
            pairs,
            [("eth0", "eth0"), ("eth1", "net0"), ("eth2", "if%d")]
        );
    }

    #[test]
    fn names_are_the_kernels() {
        fails(r#""a/b":{}"#, "linux.netDevices.a/b");
        fails(r#""":{}"#, "linux.netDevices.");
        fails(r#""eth%d":{}"#, "linux.netDevices.eth%d");
        for name in ["..", "a b", "a:b", "sixteen-bytes-xx", "a%", "a%d%d", "%s"] {
            fails(
                &format!(r#""eth0":{{"name":"{name}"}}"#),
                "linux.netDevices.eth0.name",
            );
        }
        assert!(plan(r#""fifteen-bytes-x":{}"#).is_ok());
    }

    #[test]
    fn two_devices_have_two_names() {
        fails(
            r#""a":{"name":"net0"},"b":{"name":"net0"}"#,
            "linux.netDevices.b.name",
        );
        fails(r#""a":{"name":"b"},"b":{}"#, "linux.netDevices.b.name");
        assert!(plan(r#""a":{"name":"n%d"},"b":{"name":"n%d"}"#).is_ok());
    }

    #[test]
    fn it_takes_a_network_namespace_and_root() {
        assert!(plan_in("[]", r#""eth0":{}"#, false).is_err());
        assert!(plan_in(r#"[{"type":"network"}]"#, r#""eth0":{}"#, true).is_err());
        assert!(plan_in("[]", "", true).unwrap().is_empty());
    }
}
