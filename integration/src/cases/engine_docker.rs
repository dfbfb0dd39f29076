//! Docker, as people learn it: what the lessons do, on the runtime under test. With creel, on its
//! own shim (which stands in for runc's by name: Debian's dockerd is older than `runtimeType`).
#![forbid(unsafe_code)]

use crate::case::{Case, Plain, Result};
use crate::docker::Docker;
use crate::engine::IMAGE;
use crate::kernel::until;
use crate::lab::Lab;
use crate::pty::Pty;
use crate::{check, same};

/// The cases; each starts both daemons.
pub fn cases() -> Vec<Case> {
    use crate::case::Need::{CgroupV1, Tool};
    let cases: [(&str, Plain); 12] = [
        ("engine_docker_by_path", by_path),
        ("engine_docker_run", run),
        ("engine_docker_terminal", terminal),
        ("engine_docker_detached", detached),
        ("engine_docker_exec", exec),
        ("engine_docker_pause_and_top", pause),
        ("engine_docker_memory", memory),
        ("engine_docker_storage", storage),
        ("engine_docker_security", security),
        ("engine_docker_network", network),
        ("engine_docker_restarts", restarts),
        ("engine_docker_live_restore", live_restore),
    ];
    let mut needs = vec![Tool("containerd"), Tool("dockerd"), Tool("docker")];
    needs.extend([Tool("nsenter"), Tool("iptables"), Tool("tar")]);
    let all = cases.into_iter().map(|(name, run)| {
        let case = Case::new(name, run).needs(&needs).limit(180);
        match name {
            "engine_docker_memory" => case.needs(&[CgroupV1]),
            _ => case,
        }
    });
    all.collect()
}

const ENDLESS: &str =
    "echo up; echo down >&2; trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done";

fn by_path(lab: &Lab) -> Result {
    let docker = Docker::by_path(lab)?;
    let output = docker.run(&["--env", "A=b"], "echo $A; exit 3")?;
    same!("stdout", output.out, "b\n");
    same!("exit code", output.code, 3);
    docker.detached("c1", &[], ENDLESS)?;
    docker.says("c1", "up")?;
    same!(
        "exec",
        docker.call(&["exec", "c1", "id", "-u"])?.ok()?.out,
        "0\n"
    );
    docker.call(&["stop", "c1"])?.ok()?;
    same!("code", docker.inspect("c1", "{{.State.ExitCode}}")?, "7");
    Ok(())
}

fn run(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    let output = docker.run(&[], "echo out; echo err >&2; exit 3")?;
    same!("stdout", output.out, "out\n");
    same!("stderr", output.err, "err\n");
    same!("exit code", output.code, 3);
    let cat = ["run", "--rm", "-i", IMAGE, "cat"];
    same!("cat", docker.call_with("data\n", &cat)?.ok()?.out, "data\n");
    let large = "0123456789abcdef".repeat(100_000);
    let sum = ["run", "--rm", "-i", IMAGE, "wc", "-c"];
    let counted = docker.call_with(&large, &sum)?.ok()?.out;
    same!("much input", counted.trim(), "1600000");
    let much = docker.run(&[], "head -c 3000000 /dev/zero")?.ok()?.out;
    same!("much output", much.len(), 3_000_000);
    for (program, code) in [("nosuch", 127), ("/etc/passwd", 126)] {
        let output = docker.call(&["run", "--rm", IMAGE, program])?;
        same!(program, output.code, code);
    }
    same!("left", docker.call(&["ps", "-aq"])?.ok()?.out, "");
    Ok(())
}

fn terminal(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    let script =
        "tty; until test \"$(stty size)\" = '24 80'; do sleep 0.05; done 2>/dev/null; exit 4";
    let args = ["run", "--rm", "-it", IMAGE, "sh", "-c", script];
    let (code, text) = Pty::new(24, 80)?.run(&mut docker.command(&args))?;
    same!("exit code of run", code, 4);
    check!(text.contains("/dev/pts/0"), "{text:?}");
    docker.detached("c1", &[], ENDLESS)?;
    let args = ["exec", "-it", "c1", "sh", "-c", script];
    let (code, text) = Pty::new(24, 80)?.run(&mut docker.command(&args))?;
    same!("exit code of exec", code, 4);
    check!(text.contains("/dev/pts/0"), "{text:?}");
    Ok(())
}

fn detached(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    docker.detached("c1", &[], ENDLESS)?;
    docker.says("c1", "up")?;
    until("stderr in the logs", || {
        let logs = docker.call(&["logs", "c1"]).ok()?;
        logs.err.contains("down").then_some(())
    })?;
    docker.call(&["stop", "c1"])?.ok()?;
    let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}";
    same!("stopped", docker.inspect("c1", state)?, "exited 7 false");
    docker.says("c1", "bye")?;
    docker.call(&["start", "c1"])?.ok()?;
    docker.call(&["kill", "c1"])?.ok()?;
    same!("wait", docker.call(&["wait", "c1"])?.ok()?.out, "137\n");
    docker.call(&["rm", "c1"])?.ok()?;
    docker
        .call(&["run", "-d", "-i", "--name", "c2", IMAGE, "cat"])?
        .ok()?;
    // Its end would end the answers, too: dockerd closes both ways then.
    let (input, mut to_input) = std::io::pipe()?;
    std::io::Write::write_all(&mut to_input, b"hello\n")?;
    let heard = lab.path("heard");
    let mut attach = docker.command(&["attach", "c2"]);
    let mut attach = attach
        .stdin(input)
        .stdout(std::fs::File::create(&heard)?)
        .spawn()?;
    let answer = until("the answer", || {
        let text = crate::lab::text(&heard).ok()?;
        (text == "hello\n").then_some(())
    });
    docker.call(&["kill", "c2"])?;
    attach.wait()?;
    drop(to_input);
    answer
}

fn exec(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    docker.detached("c1", &[], ENDLESS)?;
    let exec = |words: &[&str]| docker.call(&[&["exec"], words].concat());
    let output = exec(&["c1", "sh", "-c", "echo out; echo err >&2; exit 6"])?;
    same!("exec", (output.code, output.out.as_str()), (6, "out\n"));
    same!("stderr", output.err, "err\n");
    let cat = docker.call_with("data\n", &["exec", "-i", "c1", "cat"])?;
    same!("stdin", cat.ok()?.out, "data\n");
    let flags = ["-u", "1000", "-w", "/tmp", "-e", "A=b", "c1", "sh", "-c"];
    let who = exec(&[&flags[..], &["id -u; pwd; echo $A"]].concat())?;
    same!("as asked", who.ok()?.out, "1000\n/tmp\nb\n");
    // 126 until Docker 20.10, 127 since.
    let nothing = exec(&["c1", "nosuch"])?.code;
    check!(matches!(nothing, 126 | 127), "nothing: exit {nothing}");
    let file = lab.file("file", "hello\n")?;
    let file = file.to_string_lossy();
    docker.call(&["cp", &file, "c1:/tmp/file"])?.ok()?;
    same!(
        "cp in",
        exec(&["c1", "cat", "/tmp/file"])?.ok()?.out,
        "hello\n"
    );
    let back = lab.path("back");
    let back = back.to_string_lossy();
    docker.call(&["cp", "c1:/tmp/file", &back])?.ok()?;
    same!(
        "cp out",
        crate::lab::text(back.as_ref().as_ref())?,
        "hello\n"
    );
    Ok(())
}

fn pause(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    docker.detached("c1", &[], ENDLESS)?;
    let top = docker.call(&["top", "c1"])?.ok()?.out;
    check!(top.contains("sh -c"), "{top}");
    let format = "{{.PIDs}} {{.MemUsage}}";
    let stats = docker.call(&["stats", "--no-stream", "--format", format, "c1"])?;
    let stats = stats.ok()?.out;
    check!(!stats.starts_with("0 "), "stats: {stats}");
    docker.call(&["pause", "c1"])?.ok()?;
    same!(
        "paused",
        docker.inspect("c1", "{{.State.Status}}")?,
        "paused"
    );
    docker.call(&["exec", "c1", "true"])?.refused("exec")?;
    docker.call(&["unpause", "c1"])?.ok()?;
    docker.call(&["exec", "c1", "true"])?.ok()?;
    Ok(())
}

fn memory(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    let flags = ["--cpus=1.5", "--memory=512m", "--memory-swap=1g"];
    let limits = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes \
                  memory/memory.memsw.limit_in_bytes cpu/cpu.cfs_quota_us";
    let output = docker.run(&flags, limits)?.ok()?;
    same!(
        "limits",
        output.words(),
        ["536870912", "1073741824", "150000"]
    );
    docker.detached("c1", &[], ENDLESS)?;
    let update = ["--memory", "64m", "--memory-swap", "128m", "--cpus", "0.5"];
    docker
        .call(&[&["update"], &update[..], &["c1"]].concat())?
        .ok()?;
    let output = docker.call(&["exec", "c1", "sh", "-c", limits])?.ok()?;
    same!(
        "updated",
        output.words(),
        ["67108864", "134217728", "50000"]
    );
    let eater = "dd if=/dev/zero of=/dev/null bs=64M count=1";
    docker.detached(
        "c2",
        &["--memory", "16m", "--memory-swap", "16m"],
        &format!("exec {eater}"),
    )?;
    docker.until("c2", "{{.State.Status}}", "exited")?;
    let state = "{{.State.ExitCode}} {{.State.OOMKilled}}";
    same!("killed", docker.inspect("c2", state)?, "137 true");
    Ok(())
}

fn storage(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    docker.run(&["-v", "vol:/v"], "echo kept >/v/f")?.ok()?;
    let again = docker.run(&["-v", "vol:/v:ro"], "cat /v/f; touch /v/g")?;
    same!("volume", (again.code, again.out.as_str()), (1, "kept\n"));
    let dir = lab.directory("bound")?;
    lab.file("bound/f", "host\n")?;
    let bind = format!("{}:/b", dir.display());
    let output = docker.run(&["-v", &bind], "cat /b/f; echo back >/b/g")?;
    same!("bind", output.ok()?.out, "host\n");
    same!("written", crate::lab::text(&dir.join("g"))?, "back\n");
    let full = docker.run(
        &["--tmpfs", "/t:size=1m"],
        "dd if=/dev/zero of=/t/f bs=1M count=2",
    )?;
    check!(full.err.contains("No space left"), "{}", full.err);
    let output = docker.run(&["--read-only"], "touch /x")?;
    check!(
        output.err.contains("Read-only file system"),
        "{}",
        output.err
    );
    Ok(())
}

fn security(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    let told = |flags: &[&str], script: &str| -> Result<String> {
        Ok(docker.run(flags, script)?.ok()?.out.trim().to_owned())
    };
    same!(
        "user",
        told(&["--user", "1000:1000"], "id -u; id -g")?,
        "1000\n1000"
    );
    let caps = "grep CapEff /proc/self/status | cut -f 2";
    same!(
        "caps",
        told(&["--cap-drop", "ALL"], caps)?,
        "0000000000000000"
    );
    let status = "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | cut -f 2";
    same!("default", told(&[], status)?, "0\n2");
    let options = ["no-new-privileges", "seccomp=unconfined"].map(|o| ["--security-opt", o]);
    same!("security-opt", told(&options.concat(), status)?, "1\n0");
    let init = told(&["--init"], "cat /proc/1/comm")?;
    same!("init", init, "docker-init");
    let limits = told(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn")?;
    same!("ulimit", limits, "100\n200");
    let sysctl = ["--sysctl", "net.ipv4.ip_forward=0"];
    same!(
        "sysctl",
        told(&sysctl, "cat /proc/sys/net/ipv4/ip_forward")?,
        "0"
    );
    let own = std::fs::read_to_string("/proc/1/comm")?;
    same!(
        "pid=host",
        told(&["--pid=host"], "cat /proc/1/comm")?,
        own.trim()
    );
    let devices = told(&["--privileged"], "ls /dev | wc -l")?;
    check!(devices.parse::<u32>()? > 20, "{devices} devices");
    Ok(())
}

fn network(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    let links = |mode: &str| -> Result<Vec<String>> {
        let output = docker
            .run(&["--network", mode], "ls /sys/class/net")?
            .ok()?;
        Ok(output.words().into_iter().map(String::from).collect())
    };
    same!("none", links("none")?, ["lo"]);
    same!("bridge", links("bridge")?, ["eth0", "lo"]);
    check!(
        links("host")?.contains(&"docker0".into()),
        "host: no docker0"
    );
    let serve = "mkdir /w; echo page >/w/index.html; exec httpd -f -p 80 -h /w";
    docker.detached("web", &["-p", "8080:80"], serve)?;
    let page = until("the page", || {
        let get = ["busybox", "wget", "-qO-", "http://127.0.0.1:8080/"];
        docker.nearby(&get).ok().filter(|page| page.code == 0)
    })?;
    same!("page", page.out, "page\n");
    docker.call(&["network", "create", "net1"])?.ok()?;
    docker.detached("peer", &["--network", "net1"], serve)?;
    let get = "until wget -qO- http://peer/; do sleep 0.1; done 2>/dev/null";
    same!(
        "by name",
        docker.run(&["--network", "net1"], get)?.ok()?.out,
        "page\n"
    );
    Ok(())
}

fn restarts(lab: &Lab) -> Result {
    let docker = Docker::new(lab)?;
    docker.detached("again", &["--restart", "on-failure:2"], "echo run; exit 9")?;
    docker.until("again", "{{.RestartCount}} {{.State.Status}}", "2 exited")?;
    same!("code", docker.inspect("again", "{{.State.ExitCode}}")?, "9");
    let logs = docker.call(&["logs", "again"])?.ok()?;
    same!("runs", logs.words(), ["run", "run", "run"]);
    let health = ["--health-cmd", "test -e /ok", "--health-interval", "200ms"];
    docker.detached("well", &health, ENDLESS)?;
    docker.call(&["exec", "well", "touch", "/ok"])?.ok()?;
    docker.until("well", "{{.State.Health.Status}}", "healthy")
}

/// The daemon goes and comes; what runs, and what it says, does not notice.
fn live_restore(lab: &Lab) -> Result {
    let mut docker = Docker::new(lab)?;
    docker.detached(
        "c1",
        &[],
        "trap 'exit 5' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done",
    )?;
    docker.says("c1", "3\n")?;
    docker.detached(
        "c2",
        &[],
        "until test -e /go; do sleep 0.1; done; echo last; exit 8",
    )?;
    let before = docker.inspect("c1", "{{.State.Pid}}")?;
    docker.restart(|| Ok(()))?;
    same!("pid", docker.inspect("c1", "{{.State.Pid}}")?, before);
    same!(
        "status",
        docker.inspect("c1", "{{.State.Status}}")?,
        "running"
    );
    let last = |docker: &Docker<'_>| -> Option<u32> {
        let logs = docker.call(&["logs", "--tail", "1", "c1"]).ok()?.out;
        logs.trim().parse().ok()
    };
    let then = last(&docker).ok_or("no logs")?;
    until("more in the logs", || {
        last(&docker).filter(|now| *now > then + 3)
    })?;
    let all = docker.call(&["logs", "c1"])?.ok()?.out;
    let numbers: Vec<u32> = all.lines().filter_map(|line| line.parse().ok()).collect();
    let want: Vec<u32> = (1..).take(numbers.len()).collect();
    same!("every number once", numbers, want);
    docker.call(&["exec", "c2", "touch", "/go"])?.ok()?;
    docker.until("c2", "{{.State.ExitCode}} {{.State.Status}}", "8 exited")?;
    docker.says("c2", "last")?;
    docker.call(&["stop", "c1"])?.ok()?;
    same!("code", docker.inspect("c1", "{{.State.ExitCode}}")?, "5");
    Ok(())
}
