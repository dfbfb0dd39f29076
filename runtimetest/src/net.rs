//! Network: a new network namespace has a working loopback, the devices moved in, and no others.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::kernel::text;
use crate::report::Report;
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
    let Some(table) = report.seen(claim, "/proc/self/net/dev", text("/proc/self/net/dev")) else {
        return;
    };
    let names: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim())
        .collect();
    for (host, device) in &config.linux.net_devices {
        let name = if device.name.is_empty() {
            host
        } else {
            &device.name
        };
        let ok = names.contains(&name.as_str());
        report.holds(
            format!("linux.netDevices: {host} is here as {name}"),
            name,
            &names,
            ok,
        );
    }
}
