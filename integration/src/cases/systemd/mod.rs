//! The systemd driver: what `systemctl` shows of a container's scope, beside what the kernel shows.
#![forbid(unsafe_code)]

mod life;
mod user;

use crate::bundle::Bundle;
use crate::case::Result;
use crate::container::Container;
use crate::kernel::{self, until};
use crate::lab::Lab;
use crate::{check, same};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

crate::cases! {
    in plain;
    a_systemd_path_names_a_scope,
    without_a_path_the_scope_is_in_system_slice,
    slices_are_expanded,
    the_scope_is_the_root_of_the_cgroup_namespace,
    a_container_in_a_user_namespace_is_in_its_scope,
    exec_joins_the_scope,
    early_hooks_find_the_process_in_its_scope,
    limits_are_properties_of_the_scope,
    limits_are_in_the_files_too,
    unified_values_are_properties,
    a_quota_is_whole_percents,
    annotations_are_properties,
    an_annotation_that_systemd_refuses_is_told,
    device_rules_hold_in_a_scope,
    update_changes_properties_and_files,
    an_update_outlives_a_daemon_reload,
    an_update_without_a_bus_changes_nothing: [Creel],
    a_refused_update_changes_nothing: [Creel],
    limits_outlive_a_daemon_reload,
    device_rules_outlive_a_daemon_reload,
    devices_allowed_but_one_outlive_a_daemon_reload: [Creel],
}

/// The cases of this part: all need systemd as the first process.
pub fn cases() -> Vec<crate::case::Case> {
    use crate::case::{Case, Need};
    let mut all = plain();
    all.extend(life::cases());
    all.extend(user::cases());
    let add = |mut case: Case| {
        case.name.insert_str(0, "systemd_");
        case.needs(&[Need::Systemd, Need::CgroupV2])
    };
    all.into_iter().map(add).collect()
}

/// A container's unit.
struct Scope {
    unit: String,
}

impl Scope {
    /// Gives the bundle a scope of its own, and has the runtime make it.
    fn of(lab: &Lab, bundle: &mut Bundle, resources: Value) -> Result<Self> {
        *lab.globals.borrow_mut() = vec!["--systemd-cgroup"];
        let name = lab.id();
        bundle
            .set("/linux/cgroupsPath", format!("system.slice:case:{name}"))?
            .set("/linux/resources", resources)?;
        Ok(Self {
            unit: format!("case-{name}.scope"),
        })
    }

    /// One property, as `systemctl show` prints it.
    fn property(&self, name: &str) -> Result<String> {
        systemctl(&["show", "--value", "-p", name, &self.unit])
    }

    /// Fails unless the properties have these values.
    fn has(&self, expected: &[(&str, &str)]) -> Result {
        for (name, value) in expected {
            same!(name, self.property(name)?, *value);
        }
        Ok(())
    }

    fn directory(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup/system.slice").join(&self.unit)
    }

    /// One of the cgroup's files.
    fn file(&self, name: &str) -> Result<String> {
        let path = self.directory().join(name);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Waits until systemd knows no such unit, and the cgroup is gone.
    fn is_gone(&self) -> Result {
        until(&format!("{} is gone", self.unit), || {
            (units(&self.unit).ok()?.is_empty() && !self.directory().exists()).then_some(())
        })
    }
}

/// What a tool prints; it must succeed.
fn tool(name: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(name).args(args).output()?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    check!(output.status.success(), "{name} {args:?}: {error}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn systemctl(args: &[&str]) -> Result<String> {
    tool("systemctl", args)
}

/// All units whose name holds that, in whatever state.
fn units(mark: &str) -> Result<String> {
    let list = systemctl(&["list-units", "--all", "--plain", "--no-legend", "--full"])?;
    let ours = list.lines().filter(|line| line.contains(mark));
    Ok(ours.collect::<Vec<_>>().join("\n"))
}

/// A container that sleeps in a scope with these limits.
fn sleeping(lab: &Lab, resources: Value) -> Result<(Container<'_>, Scope)> {
    let mut bundle = lab.script("exec sleep 1000")?;
    let scope = Scope::of(lab, &mut bundle, resources)?;
    let container = lab.started(&bundle)?;
    container.executes("sleep")?;
    Ok((container, scope))
}

/// The cgroup of a process, in the unified hierarchy.
fn cgroup(pid: i32) -> Result<String> {
    let all = kernel::cgroups(pid)?;
    let unified = all.into_iter().find(|(names, _)| names.is_empty());
    Ok(unified.ok_or("no unified hierarchy")?.1)
}

/// Where crun puts the process below the scope.
fn trim(path: &str) -> &str {
    path.strip_suffix("/container").unwrap_or(path)
}

const MIB: i64 = 1 << 20;

fn a_systemd_path_names_a_scope(lab: &Lab) -> Result {
    let (container, scope) = sleeping(lab, json!({}))?;
    let path = cgroup(container.pid()?)?;
    same!(
        "cgroup",
        trim(&path),
        format!("/system.slice/{}", scope.unit)
    );
    scope.has(&[
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("Transient", "yes"),
    ])
}

fn without_a_path_the_scope_is_in_system_slice(lab: &Lab) -> Result {
    *lab.globals.borrow_mut() = vec!["--systemd-cgroup"];
    let mut bundle = lab.script("exec sleep 1000")?;
    bundle.unset("/linux/cgroupsPath").ok();
    let container = lab.started(&bundle)?;
    let path = cgroup(container.pid()?)?;
    let tail = format!("-{}.scope", container.id);
    check!(
        trim(&path).starts_with("/system.slice/") && trim(&path).ends_with(&tail),
        "{path}"
    );
    Ok(())
}

fn slices_are_expanded(lab: &Lab) -> Result {
    *lab.globals.borrow_mut() = vec!["--systemd-cgroup"];
    let name = lab.id();
    let mut bundle = lab.script("exec sleep 1000")?;
    bundle.set(
        "/linux/cgroupsPath",
        format!("{name}-a-b.slice:case:{name}"),
    )?;
    let container = lab.started(&bundle)?;
    let path = cgroup(container.pid()?)?;
    let expected = format!("/{name}.slice/{name}-a.slice/{name}-a-b.slice/case-{name}.scope");
    same!("cgroup", trim(&path), expected);
    container.delete(&["--force"])?.ok()?;
    // systemd keeps slices, as somebody may have set limits on them.
    systemctl(&["stop", &format!("{name}.slice")])?;
    Ok(())
}

fn the_scope_is_the_root_of_the_cgroup_namespace(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/cgroup; ls /cg")?;
    Scope::of(lab, &mut bundle, json!({"pids": {"limit": 20}}))?;
    bundle.namespace("cgroup", None)?;
    bundle.mount("cgroup", "cgroup", "/cg", &["ro"])?;
    let told = lab.told(&bundle)?;
    check!(
        told.starts_with("0::/\n") || told.starts_with("0::/container\n"),
        "{told}"
    );
    check!(told.contains("pids.max"), "the mount shows the top: {told}");
    Ok(())
}

fn a_container_in_a_user_namespace_is_in_its_scope(lab: &Lab) -> Result {
    let mut bundle = lab.script("cat /proc/self/cgroup; exec sleep 1000")?;
    let scope = Scope::of(lab, &mut bundle, json!({"memory": {"limit": 64 * MIB}}))?;
    bundle.mapped()?.namespace("cgroup", None)?;
    let container = lab.started(&bundle)?;
    container.says("0::/")?;
    let path = cgroup(container.pid()?)?;
    same!(
        "cgroup",
        trim(&path),
        format!("/system.slice/{}", scope.unit)
    );
    scope.has(&[("MemoryMax", "67108864")])
}

fn exec_joins_the_scope(lab: &Lab) -> Result {
    let (container, _scope) = sleeping(lab, json!({}))?;
    let init = cgroup(container.pid()?)?;
    let told = container.sh("cat /proc/self/cgroup")?.ok()?.out;
    check!(
        told.trim().ends_with(&init) || told.starts_with("0::/"),
        "{told}, init is in {init}"
    );
    Ok(())
}

fn early_hooks_find_the_process_in_its_scope(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let scope = Scope::of(lab, &mut bundle, json!({}))?;
    let seen = lab.path("seen");
    let script = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); cat /proc/$pid/cgroup > {}",
        seen.display()
    );
    bundle.set(
        "/hooks/createRuntime",
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]),
    )?;
    let _container = lab.create(&bundle)?;
    let seen = std::fs::read_to_string(seen)?;
    check!(seen.contains(&scope.unit), "{seen}");
    Ok(())
}

/// Limits of every kind that systemd knows.
fn limits() -> Value {
    json!({
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
        "cpu": {"shares": 1024, "quota": 30_000, "period": 60_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 17},
    })
}

const SHOWN: &[(&str, &str)] = &[
    ("MemoryMax", "67108864"),
    ("MemoryLow", "33554432"),
    ("MemorySwapMax", "33554432"),
    ("CPUQuotaPerSecUSec", "500ms"),
    ("CPUQuotaPeriodUSec", "60ms"),
    ("AllowedCPUs", "0"),
    ("AllowedMemoryNodes", "0"),
    ("TasksMax", "17"),
];

const WRITTEN: &[(&str, &str)] = &[
    ("memory.max", "67108864"),
    ("memory.low", "33554432"),
    ("cpu.max", "30000 60000"),
    ("cpuset.cpus", "0"),
    ("pids.max", "17"),
];

fn limits_are_properties_of_the_scope(lab: &Lab) -> Result {
    let (_container, scope) = sleeping(lab, limits())?;
    scope.has(SHOWN)?;
    let weight: u64 = scope.property("CPUWeight")?.parse()?;
    check!(
        (39..=100).contains(&weight),
        "weight of 1024 shares: {weight}"
    );
    for switch in [
        "MemoryAccounting",
        "CPUAccounting",
        "IOAccounting",
        "TasksAccounting",
    ] {
        scope.has(&[(switch, "yes")])?;
    }
    Ok(())
}

fn written(scope: &Scope) -> Result {
    for (name, value) in WRITTEN {
        same!(name, scope.file(name)?, *value);
    }
    Ok(())
}

fn limits_are_in_the_files_too(lab: &Lab) -> Result {
    let (_container, scope) = sleeping(lab, limits())?;
    written(&scope)
}

fn unified_values_are_properties(lab: &Lab) -> Result {
    let unified = json!({"memory.high": "33554432", "memory.min": "4194304", "pids.max": "21", "cpu.weight": "50"});
    let (_container, scope) = sleeping(lab, json!({"unified": unified}))?;
    scope.has(&[
        ("MemoryHigh", "33554432"),
        ("MemoryMin", "4194304"),
        ("TasksMax", "21"),
        ("CPUWeight", "50"),
    ])?;
    same!("memory.high", scope.file("memory.high")?, "33554432");
    same!("cpu.weight", scope.file("cpu.weight")?, "50");
    Ok(())
}

fn a_quota_is_whole_percents(lab: &Lab) -> Result {
    let (_container, scope) = sleeping(lab, json!({"cpu": {"quota": 12_345, "period": 100_000}}))?;
    scope.has(&[("CPUQuotaPerSecUSec", "130ms")])?;
    same!("cpu.max", scope.file("cpu.max")?, "13000 100000");
    Ok(())
}

fn annotations_are_properties(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let scope = Scope::of(lab, &mut bundle, json!({}))?;
    bundle.set(
        "/annotations",
        json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 123000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.Documentation": "['man:one', 'man:two']",
            "org.other": "x",
        }),
    )?;
    let _container = lab.create(&bundle)?;
    scope.has(&[
        ("TimeoutStopUSec", "2min 3s"),
        ("CollectMode", "inactive-or-failed"),
        ("Documentation", "man:one man:two"),
    ])
}

fn an_annotation_that_systemd_refuses_is_told(lab: &Lab) -> Result {
    let mut bundle = lab.idle()?;
    let scope = Scope::of(lab, &mut bundle, json!({}))?;
    bundle.set(
        "/annotations",
        json!({"org.systemd.property.NoSuchThing": "uint64 1"}),
    )?;
    let output = lab
        .launch("create", &bundle, &lab.id(), &[])?
        .refused("an unknown property")?;
    check!(output.err.contains("NoSuchThing"), "{}", output.err);
    check!(lab.states().is_empty(), "state left");
    scope.is_gone()
}

/// May open `null` and `full`, may not open the kernel's log: 1:3, 1:7, 1:11.
const TRY: &str = "mknod /dev/log c 1 11; mknod /dev/full2 c 1 7; \
    (: < /dev/full2) && echo full; (: < /dev/log) 2>/dev/null && echo log; echo end";

fn devices(rules: Value) -> Value {
    json!({ "devices": rules })
}

fn device_rules_hold_in_a_scope(lab: &Lab) -> Result {
    let mut bundle = lab.script(TRY)?;
    Scope::of(
        lab,
        &mut bundle,
        devices(json!([{"allow": false, "access": "rwm"}])),
    )?;
    bundle.caps(&["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYSLOG"])?;
    same!("opened", lab.told(&bundle)?, "full\nend\n");
    Ok(())
}

fn limits_outlive_a_daemon_reload(lab: &Lab) -> Result {
    let (_container, scope) = sleeping(lab, limits())?;
    systemctl(&["daemon-reload"])?;
    scope.has(SHOWN)?;
    written(&scope)
}

/// A container whose limits have been changed, and what systemd should say of them.
fn updated(lab: &Lab) -> Result<(Container<'_>, Scope)> {
    let (container, scope) = sleeping(lab, limits())?;
    let flags = [
        "--memory",
        "50331648",
        "--memory-swap",
        "50331648",
        "--pids-limit",
        "23",
        "--cpu-quota",
        "15000",
    ];
    container.call("update", &flags, &[])?.ok()?;
    Ok((container, scope))
}

fn changed(scope: &Scope) -> Result {
    scope.has(&[
        ("MemoryMax", "50331648"),
        ("TasksMax", "23"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("AllowedCPUs", "0"),
    ])?;
    same!("memory.max", scope.file("memory.max")?, "50331648");
    same!("pids.max", scope.file("pids.max")?, "23");
    same!("cpu.max", scope.file("cpu.max")?, "15000 60000");
    Ok(())
}

fn update_changes_properties_and_files(lab: &Lab) -> Result {
    let (_container, scope) = updated(lab)?;
    changed(&scope)
}

fn an_update_outlives_a_daemon_reload(lab: &Lab) -> Result {
    let (_container, scope) = updated(lab)?;
    systemctl(&["daemon-reload"])?;
    changed(&scope)
}

fn an_update_without_a_bus_changes_nothing(lab: &Lab) -> Result {
    let (container, scope) = sleeping(lab, limits())?;
    life::deaf(lab, &["update", "--pids-limit", "23", &container.id])?.refused("no bus")?;
    written(&scope)
}

fn a_refused_update_changes_nothing(lab: &Lab) -> Result {
    let (container, scope) = sleeping(lab, limits())?;
    // systemd takes such a cpu, the kernel does not.
    let flags = [
        "--memory=50331648",
        "--memory-swap=50331648",
        "--cpuset-cpus=1000",
    ];
    let output = container.call("update", &flags, &[])?.refused("a cpu")?;
    check!(output.err.contains("cpuset.cpus"), "{}", output.err);
    scope.has(SHOWN)?;
    written(&scope)
}

/// After a reload, still only what the rules allow opens.
fn reload(lab: &Lab, rules: Value) -> Result {
    let mut bundle = lab.script("exec sleep 1000")?;
    Scope::of(lab, &mut bundle, devices(rules))?;
    bundle.caps(&["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYSLOG"])?;
    let container = lab.started(&bundle)?;
    same!("opened before", container.sh(TRY)?.ok()?.out, "full\nend\n");
    systemctl(&["daemon-reload"])?;
    same!("opened after", container.sh(TRY)?.ok()?.out, "full\nend\n");
    Ok(())
}

fn device_rules_outlive_a_daemon_reload(lab: &Lab) -> Result {
    reload(lab, json!([{"allow": false, "access": "rwm"}]))
}

fn devices_allowed_but_one_outlive_a_daemon_reload(lab: &Lab) -> Result {
    let log = json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwm"});
    reload(lab, json!([{"allow": true, "access": "rwm"}, log]))
}
