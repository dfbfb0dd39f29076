//! The whole life of a cgroup on the host that runs the tests; only as root, and only in cgroups
//! that the tests made.
#![forbid(unsafe_code)]

use super::*;
use nix::unistd::{Uid, getpid};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A cgroup path of this test run, removed when the test is over, however it ends.
struct Scratch(String);

impl Scratch {
    /// `None` where the machine's cgroups are not ours to write.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !Uid::effective().is_root() {
            eprintln!("SKIP: not root");
            return None;
        }
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Self(format!("/creel-test-{}-{next}", getpid())))
    }

    fn plan(&self, json: &str) -> Result<CgroupPlan> {
        let resources: Resources = serde_json::from_str(json).unwrap();
        CgroupPlan::new(&self.0, "id", Some(&resources), None, false)
    }

    fn make(&self, json: &str) -> Cgroup {
        self.plan(json).unwrap().make().unwrap()
    }

    fn exists(&self) -> bool {
        let plan = self.plan("{}").unwrap();
        match plan.spot {
            Spot::V2(path) => std::path::Path::new(&path).exists(),
            Spot::V1(spots) => spots
                .iter()
                .any(|spot| std::path::Path::new(&spot.path).exists()),
            Spot::There => false,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut record = Record::default();
        match Mode::detect().unwrap() {
            Mode::V2 => {
                record
                    .paths
                    .insert(String::new(), format!("{}{}", host::ROOT, self.0));
            }
            Mode::V1 => {
                for one in host::hierarchies(false).unwrap_or_default() {
                    record
                        .paths
                        .insert(one.controllers, format!("{}{}", one.mount, self.0));
                }
            }
        }
        drop(Cgroup::open(&record).and_then(|cgroup| cgroup.remove()));
    }
}

/// A process that waits to be told to go on.
impl Cgroup {
    fn apply_all(&self, plan: &CgroupPlan) -> Result<()> {
        self.apply_limits(plan)?;
        self.apply_rules(plan)
    }
}

fn sleeper() -> (Child, i32) {
    let child = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    (child, pid)
}

#[test]
fn a_cgroup_lives_from_plan_to_removal() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let plan = scratch.plan(r#"{"memory":{"limit":33554432},"cpu":{"shares":512,"quota":50000,"cpus":"0"},"pids":{"limit":20}}"#);
    let plan = plan.unwrap();
    let cgroup = plan.make().unwrap();
    let (mut child, pid) = sleeper();
    cgroup.place(pid).unwrap();
    cgroup.apply_all(&plan).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [pid]);
    assert_eq!(
        cgroup.read("pids", "pids.max").unwrap().unwrap().trim(),
        "20"
    );
    assert_eq!(
        cgroup
            .read("cpuset", "cpuset.cpus")
            .unwrap()
            .unwrap()
            .trim(),
        "0"
    );
    let memory = match cgroup {
        Cgroup::V2(_) => "memory.max",
        _ => "memory.limit_in_bytes",
    };
    assert_eq!(
        cgroup.read("memory", memory).unwrap().unwrap().trim(),
        "33554432"
    );
    assert!(!cgroup.oom_killed());

    // Found again by its record, as another command would.
    let text = serde_json::to_string(&cgroup.record()).unwrap();
    let again = Cgroup::open(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(again.record(), cgroup.record());
    let update = r#"{"memory":{"limit":67108864,"swap":67108864},"pids":{"limit":-1}}"#;
    again
        .apply_all(&CgroupPlan::update(&serde_json::from_str(update).unwrap()).unwrap())
        .unwrap();
    assert_eq!(
        again.read("memory", memory).unwrap().unwrap().trim(),
        "67108864"
    );
    assert_eq!(
        again.read("pids", "pids.max").unwrap().unwrap().trim(),
        "max"
    );

    // Frozen, a signal waits; killed, nothing is left.
    assert!(!again.is_frozen().unwrap());
    again.freeze().unwrap();
    assert!(again.is_frozen().unwrap());
    again.thaw().unwrap();
    assert!(!again.is_frozen().unwrap());
    again.freeze().unwrap();
    again.signal(Signal::SIGKILL).unwrap();
    assert!(!child.wait().unwrap().success());
    again.remove().unwrap();
    assert!(!scratch.exists());
    again.remove().unwrap();
    assert!(
        Cgroup::open(&again.record())
            .unwrap()
            .pids()
            .unwrap()
            .is_empty()
    );
    assert!(!Cgroup::open(&again.record()).unwrap().is_frozen().unwrap());
    Cgroup::open(&again.record())
        .unwrap()
        .signal(Signal::SIGKILL)
        .unwrap();
}

#[test]
fn a_used_or_frozen_cgroup_is_refused_and_an_empty_one_taken() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let cgroup = scratch.make("{}");
    scratch.make("{}");
    let (mut child, pid) = sleeper();
    cgroup.place(pid).unwrap();
    let error = scratch.plan("{}").unwrap().make().unwrap_err().to_string();
    assert!(
        error.contains("container's cgroup is not empty: 1 process(es) found"),
        "{error}"
    );
    cgroup.signal(Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    cgroup.freeze().unwrap();
    let error = scratch.plan("{}").unwrap().make().unwrap_err().to_string();
    assert!(
        error.contains("container's cgroup unexpectedly frozen"),
        "{error}"
    );
    cgroup.thaw().unwrap();
    cgroup.remove().unwrap();
}

#[test]
fn removal_kills_what_is_left_also_below() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let cgroup = scratch.make("{}");
    for (_, path) in cgroup.record().paths() {
        std::fs::create_dir_all(format!("{path}/sub/deep")).unwrap();
    }
    if let Cgroup::V1(_) = cgroup {
        let inner = cgroup.record().paths.get("cpuset").cloned().unwrap();
        for dir in ["sub", "sub/deep"] {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value = std::fs::read_to_string(format!("{inner}/{file}")).unwrap();
                std::fs::write(format!("{inner}/{dir}/{file}"), value).unwrap();
            }
        }
    }
    let deep = cgroup.below(&[("", "sub/deep")]).unwrap();
    let (mut child, pid) = sleeper();
    deep.place(pid).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [pid]);
    assert!(
        cgroup
            .below(&[("", "../x")])
            .unwrap_err()
            .to_string()
            .contains("bad sub cgroup path")
    );
    assert!(cgroup.below(&[("nope", "x")]).is_err());
    // The child is a zombie until it is waited for; the cgroup is free of it before.
    cgroup.remove().unwrap();
    assert!(!scratch.exists());
    child.wait().unwrap();
}

#[test]
fn a_process_enters_through_the_doors() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let cgroup = scratch.make("{}");
    if let Cgroup::V1(_) = cgroup {
        // A thread stands in for the child: on v1 it can enter alone, and leaves by ending.
        let record = cgroup.record();
        let enter = move || {
            let cgroup = Cgroup::open(&record).unwrap();
            cgroup.doors().unwrap().enter(true).unwrap();
            std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
        };
        let text = std::thread::spawn(enter).join().unwrap();
        let ours = |line: &&str| line.ends_with(&scratch.0);
        let inside = text.lines().filter(ours).count();
        let v1 = cgroup
            .record()
            .paths
            .keys()
            .filter(|names| !names.is_empty())
            .count();
        assert_eq!(inside, v1, "{text}");
    } else {
        assert!(cgroup.doors().unwrap().clone_into().is_some());
    }
    cgroup.remove().unwrap();
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let deeper = Scratch(format!("{}/a/b", scratch.0));
    let error = deeper.plan(r#"{"cpu":{"cpus":"99999"}}"#).unwrap();
    match error.make() {
        // v1 cannot make a cpuset without its cpus; v2 finds out later.
        Err(error) => assert!(
            error.to_string().contains("linux.resources.cpu.cpus"),
            "{error}"
        ),
        Ok(cgroup) => {
            assert!(cgroup.apply_all(&error).is_err());
            cgroup.remove().unwrap();
        }
    }
    assert!(!deeper.exists());
    if Mode::detect().unwrap() == Mode::V1 {
        assert!(!scratch.exists());
    }
}

#[test]
fn device_rules_hold() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let plan = scratch.plan(r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"r"}]}"#);
    let plan = plan.unwrap();
    let cgroup = plan.make().unwrap();
    if let Err(error) = cgroup.apply_all(&plan) {
        panic!("{error}");
    }
    let try_open = |script: &str| {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        cgroup.place(i32::try_from(child.id()).unwrap()).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child.wait().unwrap().success()
    };
    assert!(try_open("echo > /dev/null"));
    // The message log is the 1:11 of the rules; of the others one that opens outside will do.
    assert!(try_open("exec 3< /dev/kmsg"));
    assert!(!try_open("exec 3> /dev/kmsg"));
    let others = ["/dev/loop-control", "/dev/fuse", "/dev/vda", "/dev/ubda"];
    let mut others = others.into_iter();
    let other = others.find(|path| std::fs::File::open(path).is_ok());
    assert!(!try_open(&format!("exec 3< {}", other.unwrap())));
    // Applied anew: replaced, not added.
    cgroup.apply_all(&plan).unwrap();
    let again = Cgroup::open(&cgroup.record()).unwrap();
    again.apply_all(&plan).unwrap();
    if let Cgroup::V2(group) = &again {
        let filters = crate::sys::bpf::device_filters(group.dir.as_ref().unwrap().fd()).unwrap();
        assert!(!filters.is_empty());
    }
    again.remove().unwrap();
}

#[test]
fn unified_on_v1_is_refused_clearly() {
    if Mode::detect().unwrap() == Mode::V1 {
        let resources: Resources =
            serde_json::from_str(r#"{"unified":{"memory.max":"1"}}"#).unwrap();
        let error = CgroupPlan::new("/x", "id", Some(&resources), None, false).unwrap_err();
        assert!(
            error.to_string().contains("invalid configuration"),
            "{error}"
        );
    }
}

#[test]
fn out_of_memory_is_noticed() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let plan = scratch
        .plan(r#"{"memory":{"limit":8388608,"swap":8388608}}"#)
        .unwrap();
    let cgroup = plan.make().unwrap();
    cgroup.apply_all(&plan).unwrap();
    let mut child = Command::new("sh")
        .args([
            "-c",
            r#"read go; x=$(head -c 64000000 /dev/zero | tr '\0' x)"#,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cgroup.place(i32::try_from(child.id()).unwrap()).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(cgroup.oom_killed());
    cgroup.remove().unwrap();
}

/// Checks nothing: how long each act takes here, and under strace how many calls.
#[test]
#[ignore = "a measurement: cargo test measure -- --ignored --nocapture"]
fn measure() {
    let Some(scratch) = Scratch::new() else {
        return;
    };
    let json = r#"{"memory":{"limit":33554432},"cpu":{"shares":512},"pids":{"limit":20}}"#;
    let rounds = 20;
    let names = ["plan", "make", "doors", "place", "apply", "remove"];
    let mut times = [std::time::Duration::ZERO; 6];
    for _ in 0..rounds {
        let (mut child, pid) = sleeper();
        let mut at = std::time::Instant::now();
        let mut lap = |index: usize| {
            times[index] += at.elapsed();
            at = std::time::Instant::now();
        };
        let plan = scratch.plan(json).unwrap();
        lap(0);
        let cgroup = plan.make().unwrap();
        lap(1);
        drop(cgroup.doors().unwrap());
        lap(2);
        cgroup.place(pid).unwrap();
        lap(3);
        cgroup.apply_all(&plan).unwrap();
        lap(4);
        child.kill().unwrap();
        child.wait().unwrap();
        // In a tight loop the kernel skips what a write to cgroup.procs waits for.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let start = std::time::Instant::now();
        cgroup.remove().unwrap();
        times[5] += start.elapsed();
    }
    println!();
    for (name, time) in names.iter().zip(times) {
        println!("{name} {:?}", time / rounds);
    }
}
