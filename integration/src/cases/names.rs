//! Host and domain names, sysctls.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::status_line;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::json;

cases! {
    hostname_is_set,
    hostname_of_64_bytes_is_set,
    domainname_is_set: [Creel],
    the_hosts_name_is_untouched,
    sysctl_of_the_network_namespace_is_set,
    sysctl_of_the_ipc_namespace_is_set,
    sysctl_of_an_interface_may_use_slashes,
    the_hosts_sysctls_are_untouched,
    sysctls_are_set_in_a_user_namespace: [Userns],
    sysctls_are_set_in_a_user_namespace_with_pids_of_others: [Userns],
    init_has_no_tracer_and_no_seccomp_by_default,
}

fn hostname_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("hostname; cat /proc/sys/kernel/hostname")?;
    bundle.set("/hostname", "web-1")?;
    same!("hostname", lab.told(&bundle)?, "web-1\nweb-1\n");
    Ok(())
}

fn hostname_of_64_bytes_is_set(lab: &Lab) -> Result {
    let name = "n".repeat(64);
    let mut bundle = lab.script("cat /proc/sys/kernel/hostname")?;
    bundle.set("/hostname", name.as_str())?;
    same!("hostname", lab.told(&bundle)?.trim(), name);
    Ok(())
}

fn domainname_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/sys/kernel/domainname")?;
    bundle.set("/domainname", "example.org")?;
    same!("domainname", lab.told(&bundle)?, "example.org\n");
    Ok(())
}

fn the_hosts_name_is_untouched(lab: &Lab) -> Result {
    let before = nix::unistd::gethostname()?;
    let mut bundle = lab.script("hostname")?;
    bundle.set("/hostname", "other")?;
    same!("hostname inside", lab.told(&bundle)?, "other\n");
    same!("hostname", nix::unistd::gethostname()?, before);
    Ok(())
}

fn sysctl_of_the_network_namespace_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/sys/net/ipv4/ip_forward")?;
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?;
    let want = if before.trim() == "1" { "0" } else { "1" };
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": want}))?;
    same!("inside", lab.told(&bundle)?.trim(), want);
    same!(
        "on the host",
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?,
        before
    );
    Ok(())
}

fn sysctl_of_the_ipc_namespace_is_set(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max")?;
    bundle.set(
        "/linux/sysctl",
        json!({"kernel.shmmax": "123456", "fs.mqueue.msg_max": "17"}),
    )?;
    same!("values", lab.told(&bundle)?, "123456\n17\n");
    Ok(())
}

fn sysctl_of_an_interface_may_use_slashes(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/sys/net/ipv4/conf/lo/rp_filter")?;
    bundle.set("/linux/sysctl", json!({"net/ipv4/conf/lo/rp_filter": "2"}))?;
    same!("value", lab.told(&bundle)?, "2\n");
    Ok(())
}

fn the_hosts_sysctls_are_untouched(lab: &Lab) -> Result {
    let before = std::fs::read_to_string("/proc/sys/kernel/shmmax")?;
    let mut bundle = lab.script("cat /proc/sys/kernel/shmmax")?;
    bundle.set("/linux/sysctl", json!({"kernel.shmmax": "99999"}))?;
    same!("shmmax inside", lab.told(&bundle)?, "99999\n");
    same!(
        "shmmax",
        std::fs::read_to_string("/proc/sys/kernel/shmmax")?,
        before
    );
    Ok(())
}

fn init_has_no_tracer_and_no_seccomp_by_default(lab: &Lab) -> Result {
    let container = lab.started(&lab.idle()?)?;
    let pid = container.executes("sleep")?;
    same!("TracerPid", status_line(pid, "TracerPid")?, "0");
    same!("Seccomp", status_line(pid, "Seccomp")?, "0");
    let ignored = u64::from_str_radix(&status_line(pid, "SigIgn")?, 16)?;
    let own = status_line(i32::try_from(std::process::id())?, "SigIgn")?;
    // Rust ignores SIGPIPE for itself only; whatever else we inherited is not the runtime's doing.
    let own = u64::from_str_radix(&own, 16)?;
    check!(ignored & !own == 0, "init ignores signals {ignored:x}");
    let blocked = u64::from_str_radix(&status_line(pid, "SigBlk")?, 16)?;
    check!(blocked == 0, "init blocks signals {blocked:x}");
    Ok(())
}

fn sysctls_are_set_in_a_user_namespace(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/sys/net/ipv4/ip_forward")?;
    bundle
        .mapped()?
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))?;
    same!("ip_forward", lab.told(&bundle)?, "1\n");
    Ok(())
}

/// There, no procfs can be mounted: its pids belong to another user namespace.
fn sysctls_are_set_in_a_user_namespace_with_pids_of_others(lab: &Lab) -> Result {
    let first = lab.started(&lab.idle()?)?;
    let joined = format!("/proc/{}/ns/pid", first.pid()?);
    for path in [None, Some(joined.as_str())] {
        let mut bundle = lab.script("cat /proc/sys/net/ipv4/ip_forward")?;
        let proc = json!({"destination": "/proc", "type": "bind", "source": "/proc",
            "options": ["rbind"]});
        bundle
            .mapped()?
            .drop_namespace("pid")?
            .set("/mounts/0", proc)?
            .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))?;
        if path.is_some() {
            bundle.namespace("pid", path)?;
        }
        same!(
            format!("ip_forward, pid namespace {path:?}"),
            lab.told(&bundle)?,
            "1\n"
        );
    }
    Ok(())
}
