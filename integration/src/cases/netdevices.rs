//! Network devices of the host in the container: moved, renamed, with their addresses, or given
//! back. Every case is the host in a network namespace of its own.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::lab::Lab;
use crate::scene::Holder;
use crate::{check, same};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use std::process::Command;

crate::cases! {
    a_net_device_moves_with_its_addresses: [Tool("ip")],
    a_net_device_gets_a_new_name: [Tool("ip")],
    a_net_device_named_by_a_template_is_numbered: [Creel, Tool("ip")],
    a_net_device_moves_into_a_user_namespace: [Tool("ip"), Userns],
    a_net_device_moves_into_a_joined_namespace: [Tool("ip")],
    sysctls_and_hooks_find_the_net_device: [Tool("ip")],
    a_taken_name_leaves_the_net_device_alone: [Creel, Tool("ip")],
    a_failed_create_gives_net_devices_back: [Creel, Tool("ip")],
    net_devices_go_with_the_container: [Tool("ip")],
}

/// Runs `ip` with these words.
fn ip(words: &str) -> Result<String> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    let err = String::from_utf8_lossy(&output.stderr);
    check!(output.status.success(), "ip {words}: {}", err.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The host of the case: two pairs, `one` and `two` with their peers, of which `one` is up, and has
/// addresses of each sort.
pub fn host() -> Result {
    unshare(CloneFlags::CLONE_NEWNET)?;
    for words in [
        "link add one type veth peer name onepeer",
        "link add two type veth peer name twopeer",
        "link set one address 02:00:00:00:00:11 mtu 1400",
        "addr add 10.9.0.1/24 brd 10.9.0.255 dev one",
        "addr add 10.8.0.1 peer 10.8.0.2/32 dev one",
        "addr add 169.254.7.7/16 scope link dev one",
        "addr add 10.7.0.1/24 dev one valid_lft 600 preferred_lft 600",
        "addr add fd00:9::1/64 dev one nodad",
        "link set one up",
        "link set onepeer up",
    ] {
        ip(words)?;
    }
    Ok(())
}

/// The lasting global addresses of a device, as `ip` prints them.
fn addresses(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.contains("scope global"));
    let mut all: Vec<String> = lines
        .filter_map(|line| {
            let (_, rest) = line.split_once("inet")?;
            let (address, _) = rest.split_once(" scope")?;
            Some(address.trim_start_matches('6').trim().to_owned())
        })
        .collect();
    all.sort();
    all
}

const LASTING: [&str; 3] = [
    "10.8.0.1 peer 10.8.0.2/32",
    "10.9.0.1/24 brd 10.9.0.255",
    "fd00:9::1/64",
];

fn with(lab: &Lab, devices: serde_json::Value) -> Result<Bundle> {
    let mut bundle = lab.idle()?;
    bundle.set("/linux/netDevices", devices)?;
    Ok(bundle)
}

fn gone(name: &str) -> Result {
    let links = ip("-o link")?;
    check!(
        !links.contains(&format!(" {name}@")),
        "{name} is here: {links}"
    );
    Ok(())
}

/// It is as `host` made it.
fn at_home() -> Result {
    let link = ip("-o link show dev one")?;
    check!(link.contains("UP,LOWER_UP"), "{link}");
    check!(link.contains("mtu 1400"), "{link}");
    let mut all = addresses(&ip("-o addr show dev one")?);
    all.retain(|address| LASTING.contains(&address.as_str()));
    same!("the addresses at home", all, LASTING);
    Ok(())
}

fn a_net_device_moves_with_its_addresses(lab: &Lab) -> Result {
    host()?;
    let container = lab.started(&with(lab, json!({"one": {}}))?)?;
    gone("one")?;
    let link = container.sh("ip -o link show dev one")?.ok()?.out;
    for word in ["UP", "mtu 1400", "02:00:00:00:00:11"] {
        check!(link.contains(word), "no {word}: {link}");
    }
    let text = container.sh("ip -o addr show dev one")?.ok()?.out;
    // What has a lifetime or a narrow scope belongs to where it was.
    same!("addresses", addresses(&text), LASTING);
    check!(!text.contains("169.254.7.7"), "{text}");
    Ok(())
}

fn a_net_device_gets_a_new_name(lab: &Lab) -> Result {
    host()?;
    let devices = json!({"one": {"name": "eth0"}, "two": {"name": "one"}});
    let container = lab.started(&with(lab, devices)?)?;
    gone("one")?;
    gone("two")?;
    let text = container.sh("ip -o addr show dev eth0")?.ok()?.out;
    same!("addresses of eth0", addresses(&text), LASTING);
    let text = container.sh("ip -o addr show dev one")?.ok()?.out;
    same!("addresses of one", addresses(&text).len(), 0);
    Ok(())
}

fn a_net_device_named_by_a_template_is_numbered(lab: &Lab) -> Result {
    host()?;
    let devices = json!({"one": {"name": "net%d"}, "two": {"name": "net%d"}});
    let container = lab.started(&with(lab, devices)?)?;
    let text = container.sh("ip -o addr show dev net0")?.ok()?.out;
    same!("addresses of net0", addresses(&text), LASTING);
    container.sh("ip -o link show dev net1")?.ok()?;
    Ok(())
}

fn a_net_device_moves_into_a_user_namespace(lab: &Lab) -> Result {
    host()?;
    let mut bundle = with(lab, json!({"one": {}}))?;
    bundle.mapped()?;
    let container = lab.started(&bundle)?;
    let text = container.sh("ip -o addr show dev one")?.ok()?.out;
    same!("addresses", addresses(&text), LASTING);
    Ok(())
}

fn a_net_device_moves_into_a_joined_namespace(lab: &Lab) -> Result {
    host()?;
    let holder = Holder::new(&["--net"])?;
    let mut bundle = with(lab, json!({"one": {"name": "eth0"}}))?;
    bundle.namespace("network", Some(&holder.path("net")))?;
    let container = lab.started(&bundle)?;
    let text = container.sh("ip -o addr show dev eth0")?.ok()?.out;
    same!("addresses", addresses(&text), LASTING);
    // A second one finds its name taken there, whatever it is called here.
    bundle.set("/linux/netDevices", json!({"two": {"name": "eth0"}}))?;
    lab.run(&bundle)?.refused("a name that is taken")?;
    ip("link show dev two").map(drop)
}

fn sysctls_and_hooks_find_the_net_device(lab: &Lab) -> Result {
    host()?;
    let mut bundle = with(lab, json!({"one": {"name": "eth0"}}))?;
    let file = lab.path("hook");
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); ip -o link show dev one >{0}; \
         nsenter -t $pid -n ip -o link show dev eth0 >>{0}; true",
        file.display()
    );
    bundle.set(
        "/linux/sysctl",
        json!({"net.ipv4.conf.eth0.forwarding": "1"}),
    )?;
    bundle.set(
        "/hooks/createRuntime",
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]),
    )?;
    let container = lab.started(&bundle)?;
    let told = container.sh("cat /proc/sys/net/ipv4/conf/eth0/forwarding")?;
    same!("forwarding", told.ok()?.out, "1\n");
    let seen = std::fs::read_to_string(&file)?;
    check!(
        seen.lines().count() == 1 && seen.contains(" eth0"),
        "{seen}"
    );
    Ok(())
}

fn a_taken_name_leaves_the_net_device_alone(lab: &Lab) -> Result {
    host()?;
    let bundle = with(lab, json!({"one": {}, "two": {"name": "lo"}}))?;
    let output = lab.run(&bundle)?.refused("lo as a new name")?;
    check!(
        output.err.contains("linux.netDevices.two"),
        "{}",
        output.err
    );
    at_home()
}

fn a_failed_create_gives_net_devices_back(lab: &Lab) -> Result {
    host()?;
    // A bridge stays where it is: that shows after `one` was moved.
    ip("link add zbridge type bridge")?;
    let bundle = with(lab, json!({"one": {"name": "eth0"}, "zbridge": {}}))?;
    let output = lab.run(&bundle)?.refused("a bridge to move")?;
    check!(
        output.err.contains("linux.netDevices.zbridge"),
        "{}",
        output.err
    );
    at_home()?;
    // What fails long after the move gives them back as well.
    let mut bundle = with(lab, json!({"one": {"name": "eth0"}, "two": {}}))?;
    bundle.args(&["/no/such/program"])?;
    lab.run(&bundle)?.refused("a program that is missing")?;
    ip("link show dev two")?;
    at_home()
}

fn net_devices_go_with_the_container(lab: &Lab) -> Result {
    host()?;
    let container = lab.started(&with(lab, json!({"one": {}}))?)?;
    container.delete(&["-f"])?.ok()?;
    // The kernel destroys virtual devices with their namespace, a while later.
    crate::kernel::until("the end of the pair", || {
        ip("-o link")
            .ok()
            .filter(|links| !links.contains("onepeer"))
            .map(drop)
    })
}
