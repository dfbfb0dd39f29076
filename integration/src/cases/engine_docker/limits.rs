//! What Docker lets a container use.
#![forbid(unsafe_code)]

use super::{ENDLESS, Lesson};
use crate::case::Result;
use crate::docker::Docker;
use crate::{check, same};

pub(super) const LESSONS: &[Lesson] = &[
    ("docker run --cpus=1.5 --memory=512m --memory-swap=1g", run),
    ("docker update --cpus --memory --memory-swap", update),
    ("docker run --memory=16m, of one that takes more", eaten),
    ("docker run --pids-limit 8", tasks),
    ("docker run --cpuset-cpus 0 --cpu-shares 512", shares),
    ("docker run --ulimit nofile=100:200", ulimit),
    ("docker run --sysctl net.ipv4.ip_forward=0", sysctl),
    ("docker run --shm-size 2m", shm),
    ("docker run --oom-score-adj 500", score),
];

/// The limits from within: memory, memory and swap, quota; of either kind of cgroup.
const LIMITS: &str = "cd /sys/fs/cgroup; if test -e cgroup.controllers; \
     then cat memory.max memory.swap.max; cut -d ' ' -f 1 cpu.max; \
     else cat memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes \
     cpu/cpu.cfs_quota_us; fi";

/// Checks what [`LIMITS`] printed; v2 counts swap alone.
fn limits(printed: &[&str], memory: u64, both: u64, quota: u64) -> Result<String> {
    let swap = if crate::case::unified() {
        both - memory
    } else {
        both
    };
    let want = [memory, swap, quota].map(|number| number.to_string());
    same!("limits", printed, want);
    Ok(printed.join(" "))
}

fn run(docker: &mut Docker<'_>) -> Result<String> {
    // Docker refuses more than there are.
    let (cpus, quota) = match std::thread::available_parallelism()?.get() {
        1 => ("--cpus=0.5", 50_000),
        _ => ("--cpus=1.5", 150_000),
    };
    let flags = [cpus, "--memory=512m", "--memory-swap=1g"];
    let output = docker.run(&flags, LIMITS)?.ok()?;
    limits(&output.words(), 512 << 20, 1 << 30, quota)
}

fn update(docker: &mut Docker<'_>) -> Result<String> {
    docker.detached("c1", &["--memory=512m", "--memory-swap=1g"], ENDLESS)?;
    let flags = ["--cpus=0.5", "--memory=64m", "--memory-swap=128m"];
    docker
        .call(&[&["update"], &flags[..], &["c1"]].concat())?
        .ok()?;
    let output = docker.call(&["exec", "c1", "sh", "-c", LIMITS])?.ok()?;
    limits(&output.words(), 64 << 20, 128 << 20, 50_000)
}

fn eaten(docker: &mut Docker<'_>) -> Result<String> {
    let flags = ["--memory=16m", "--memory-swap=16m"];
    let eater = "exec dd if=/dev/zero of=/dev/null bs=64M count=1";
    docker.detached("c1", &flags, eater)?;
    docker.until("c1", "{{.State.Status}}", "exited")?;
    let state = "exit {{.State.ExitCode}} OOMKilled={{.State.OOMKilled}}";
    let told = docker.inspect("c1", state)?;
    same!("killed", told, "exit 137 OOMKilled=true");
    Ok(told)
}

fn tasks(docker: &mut Docker<'_>) -> Result<String> {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
    let output = docker.run(&["--pids-limit", "8"], script)?;
    check!(output.err.contains("can't fork"), "{}", output.err);
    Ok("can't fork".into())
}

fn shares(docker: &mut Docker<'_>) -> Result<String> {
    let script = "grep Cpus_allowed_list /proc/self/status | cut -f 2; cd /sys/fs/cgroup; \
                  cat cpu.weight cpu/cpu.shares 2>/dev/null; true";
    let flags = ["--cpuset-cpus", "0", "--cpu-shares", "512"];
    let output = docker.run(&flags, script)?.ok()?;
    let words = output.words();
    same!("cpus", words.first(), Some(&"0"));
    check!(
        words.len() == 2 && words.get(1) != Some(&"1024"),
        "{words:?}"
    );
    Ok(words.join(" "))
}

fn ulimit(docker: &mut Docker<'_>) -> Result<String> {
    let flags = ["--ulimit", "nofile=100:200"];
    let output = docker.run(&flags, "ulimit -n; ulimit -Hn")?.ok()?;
    same!("limits", output.out, "100\n200\n");
    Ok(output.out)
}

fn sysctl(docker: &mut Docker<'_>) -> Result<String> {
    let flags = ["--sysctl", "net.ipv4.ip_forward=0"];
    let output = docker
        .run(&flags, "cat /proc/sys/net/ipv4/ip_forward")?
        .ok()?;
    same!("value", output.out, "0\n");
    Ok(output.out)
}

fn shm(docker: &mut Docker<'_>) -> Result<String> {
    let script = "df -k /dev/shm | tail -n 1 | awk '{ print $2 }'";
    let output = docker.run(&["--shm-size", "2m"], script)?.ok()?;
    same!("kB", output.out, "2048\n");
    Ok(format!("{} kB", output.out.trim()))
}

fn score(docker: &mut Docker<'_>) -> Result<String> {
    let flags = ["--oom-score-adj", "500"];
    let output = docker.run(&flags, "cat /proc/self/oom_score_adj")?.ok()?;
    same!("score", output.out, "500\n");
    Ok(output.out)
}
