//! Who the process is: users, groups, capabilities.
#![forbid(unsafe_code)]

use crate::attack::Host;
use crate::case::Result;
use crate::kernel::field;
use crate::lab::Lab;
use crate::{cases, check, same};
use serde_json::{Value, json};

cases! {
    attack_29162_inheritable_capabilities,
    attack_30892_users_that_are_no_numbers,
    attack_40635_ids_that_overflow,
    attack_25173_groups_are_the_configs,
    attack_46680_unmapped_ids: [Userns],
    attack_43784_namespaces_lost_in_a_long_message: [Userns],
}

fn attack_29162_inheritable_capabilities(lab: &Lab) -> Result {
    let inherited = |told: &str| field(told, "CapInh").unwrap_or_default();
    let mut bundle = lab.script("cat /proc/self/status")?;
    bundle.caps(&["CAP_NET_RAW", "CAP_KILL"])?;
    same!(
        "CapInh of init",
        inherited(&lab.told(&bundle)?),
        "0000000000000000"
    );
    let container = lab.started(bundle.idle()?)?;
    for flags in [
        &["--cap", "CAP_NET_RAW"][..],
        &["--cap", "CAP_SYS_ADMIN", "-u", "1:1"],
        &[],
    ] {
        let told = container
            .call("exec", flags, &["cat", "/proc/self/status"])?
            .ok()?
            .out;
        same!("CapInh of exec", inherited(&told), "0000000000000000");
    }
    // What the config does give is given, and no more.
    bundle.set("/process/capabilities/inheritable", json!(["CAP_KILL"]))?;
    let container = lab.started(&bundle)?;
    let told = container.call(
        "exec",
        &["--cap", "CAP_NET_RAW"],
        &["cat", "/proc/self/status"],
    )?;
    let told = inherited(&told.ok()?.out);
    check!(
        ["0000000000000020", "0000000000000000"].contains(&told.as_str()),
        "CapInh {told}"
    );
    Ok(())
}

fn attack_30892_users_that_are_no_numbers(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    bundle.set("/process/user", json!({"uid": 5, "gid": 6}))?;
    let container = lab.started(&bundle)?;
    let ids = ["sh", "-c", "echo $(id -u) $(id -g)"];
    for (user, want) in [
        ("1", "1 "),
        ("1:2", "1 2"),
        ("0", "0 "),
        ("1000:1234", "1000 1234"),
    ] {
        let told = container.call("exec", &["--user", user], &ids)?.ok()?.out;
        check!(told.starts_with(want), "--user {user} is {told}");
    }
    for user in [
        ":5",
        "4294967296",
        "4294967295",
        "-1",
        "1a",
        "1 ",
        " 1",
        "0x1",
        "1:",
        "1:a",
        "1:2:3",
        "1:4294967296",
        "+1",
        "1:-1",
        "root ",
        "18446744073709551616",
    ] {
        let output = container.call("exec", &["--user", user], &ids)?;
        check!(output.code != 0, "--user {user:?} is {}", output.out);
    }
    Ok(())
}

fn attack_40635_ids_that_overflow(lab: &Lab) -> Result {
    let numbers = [
        "4294967296",
        "4294967295",
        "18446744073709551616",
        "-1",
        "1.5",
        "1e1",
    ];
    for number in numbers {
        let value: Value = serde_json::from_str(number)?;
        for pointer in [
            "/process/user/uid",
            "/process/user/gid",
            "/process/user/additionalGids/-",
        ] {
            let mut bundle = lab.script("id")?;
            bundle.set(pointer, value.clone())?;
            let output = lab.run(&bundle)?;
            check!(output.code != 0, "{pointer} of {number} is {}", output.out);
        }
    }
    Ok(())
}

fn attack_25173_groups_are_the_configs(lab: &Lab) -> Result {
    // The caller's own groups must not show, nor those of the image's /etc/group.
    let mut bundle = lab.script("grep Groups /proc/self/status")?;
    std::fs::write(
        bundle.inside("etc/group"),
        "root:x:0:\nextra:x:77:user,root\n",
    )?;
    for (uid, groups) in [
        (0, vec![]),
        (1000, vec![]),
        (1000, vec![4, 9]),
        (0, vec![1234]),
    ] {
        let user = json!({"uid": uid, "gid": 20, "additionalGids": groups});
        bundle.set("/process/user", user)?;
        let told = field(&lab.told(&bundle)?, "Groups").unwrap_or_default();
        let mut told: Vec<u32> = told.split_whitespace().flat_map(str::parse).collect();
        // Some runtimes list the group itself, too: it adds nothing.
        told.retain(|group| *group != 20);
        same!("groups", told, groups);
    }
    Ok(())
}

fn attack_46680_unmapped_ids(lab: &Lab) -> Result {
    for user in [
        json!({"uid": 70000, "gid": 0}),
        json!({"uid": 0, "gid": 70000}),
        json!({"uid": 0, "gid": 0, "additionalGids": [70000]}),
    ] {
        let mut bundle = lab.script("id")?;
        bundle.mapped()?.set("/process/user", user.clone())?;
        let output = lab.run(&bundle)?;
        check!(output.code != 0, "{user} is {}", output.out);
    }
    Ok(())
}

/// More than 64 KiB of id maps or of namespace paths: a length that wraps loses the rest.
fn attack_43784_namespaces_lost_in_a_long_message(lab: &Lab) -> Result {
    let host = Host::new(lab)?;
    let own = |kind| crate::kernel::own_namespace(kind);
    let maps: Vec<Value> = (0..4000)
        .map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1}))
        .collect();
    let long = format!("{}/proc/self/ns/ipc", "/.".repeat(40_000));
    for kind in ["maps", "path"] {
        let mut bundle = host.lab.idle()?;
        if kind == "maps" {
            bundle.mapped()?.set("/linux/uidMappings", json!(maps))?;
            bundle.set("/linux/gidMappings", json!(maps))?;
        } else {
            bundle
                .drop_namespace("ipc")?
                .namespace("ipc", Some(&long))?;
        }
        let id = host.lab.id();
        let container = host.lab.adopt(&id, &bundle);
        if host.lab.launch("create", &bundle, &id, &[])?.code == 0 {
            let pid = container.pid()?;
            for name in ["mnt", "pid", "net", "uts"] {
                let same = crate::kernel::namespace(pid, name)? == own(name)?;
                check!(
                    !same,
                    "with long {kind}, the {name} namespace is the host's"
                );
            }
        }
        container.delete(&["--force"])?.ok()?;
    }
    host.unharmed()
}
