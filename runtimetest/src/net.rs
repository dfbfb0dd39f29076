//! Network: a new network namespace has a working loopback, the devices moved in, and no others.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::report::Report;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};

/// Judges a new network namespace and `linux.netDevices`.
pub fn check(config: &Config, report: &mut Report) {
    if config.creates("network") {
        // Only an interface that is up routes to itself.
        let got = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|socket| socket.local_addr())
            .and_then(|address| TcpListener::bind(address).map(|open| (open, address)))
            .and_then(|(open, address)| TcpStream::connect(address).map(|_| drop(open)));
        let got = got.map(|()| "reachable").map_err(|error| error.to_string());
        report.equal(
            "a new network namespace has its loopback up",
            Ok("reachable"),
            got,
        );
    }
    if config.linux.net_devices.is_empty() {
        return;
    }
    let claim = "linux.netDevices: the network devices can be seen";
    let seen = getifaddrs().map_err(|errno| errno.to_string());
    let Some(seen) = report.seen(claim, "a list of devices", seen) else {
        return;
    };
    let up: BTreeMap<String, bool> = seen
        .map(|seen| {
            let up = seen.flags.contains(InterfaceFlags::IFF_UP);
            (seen.interface_name, up)
        })
        .collect();
    for (host, device) in &config.linux.net_devices {
        let name = if device.name.is_empty() {
            host
        } else {
            &device.name
        };
        // From a template, the kernel makes the name.
        let (before, after) = name.split_once("%d").unwrap_or((name, ""));
        let is_it = |found: &&String| match name.contains("%d") {
            true => found
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after))
                .is_some_and(|number| number.parse::<u32>().is_ok()),
            false => *found == name,
        };
        let found = up.keys().find(is_it);
        report.holds(
            format!("linux.netDevices: {host} is here as {name}"),
            name,
            up.keys().collect::<Vec<_>>(),
            found.is_some(),
        );
        let is_up = found.and_then(|name| up.get(name)).copied();
        report.equal(format!("linux.netDevices: {host} is up"), Some(true), is_up);
        if name != host {
            let claim = format!("linux.netDevices: {host} has its old name no more");
            // Unless another one has got it.
            let mut others = config.linux.net_devices.values();
            if others.all(|other| other.name != *host) {
                report.equal(claim, false, up.contains_key(host));
            }
        }
    }
}
