//! dockerd on a containerd of the case's own, in a network namespace of its own: bridges, addresses
//! and packet filter rules are gone with that.
#![forbid(unsafe_code)]

use crate::case::{Result, systemd};
use crate::engine::{Containerd, IMAGE, SHIM_NAME, archive, major, own_network, shim, within};
use crate::kernel::until;
use crate::lab::{Lab, Output};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// See the module.
pub struct Docker<'lab> {
    /// Where it is at home.
    pub lab: &'lab Lab,
    daemon: Child,
    socket: PathBuf,
    /// What it stands on.
    pub containerd: Containerd<'lab>,
}

impl<'lab> Docker<'lab> {
    /// On the runtime's own shim, which stands in for runc's by name where dockerd knows no
    /// `runtimeType` yet.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        own_network(lab)?;
        let containerd = Containerd::own_shim(lab)?;
        let by_type = shim(&lab.runtime).is_some() && major(lab, "dockerd")? >= 23;
        let runtime = match by_type {
            true => json!({"runtimeType": SHIM_NAME}),
            false => by_path(lab),
        };
        Self::on(lab, containerd, runtime)
    }

    /// On containerd's runc shim, which calls the runtime by the path in daemon.json.
    pub fn by_path(lab: &'lab Lab) -> Result<Self> {
        own_network(lab)?;
        Self::on(lab, Containerd::new(lab)?, by_path(lab))
    }

    fn on(lab: &'lab Lab, containerd: Containerd<'lab>, runtime: Value) -> Result<Self> {
        let socket = lab.path("docker.sock");
        // With each driver a parent of its own kind, or dockerd does not start.
        let (driver, parent) = match systemd() {
            true => ("systemd", slice(lab)),
            false => ("cgroupfs", format!("/{}", lab.mark())),
        };
        let config = json!({
            "runtimes": {"tested": runtime},
            "default-runtime": "tested",
            "live-restore": true,
            "exec-opts": [format!("native.cgroupdriver={driver}")],
            "cgroup-parent": parent,
            "storage-driver": "vfs",
            "bip": "172.31.77.1/24"
        });
        lab.file("daemon.json", &config.to_string())?;
        let docker = Self {
            lab,
            daemon: daemon(lab, &containerd)?,
            socket,
            containerd,
        };
        docker.listens()?;
        let image = archive(lab, IMAGE, &["sh"])?;
        docker
            .call(&["load", "-q", "-i", &image.to_string_lossy()])?
            .ok()?;
        Ok(docker)
    }

    fn listens(&self) -> Result {
        until("dockerd listens", || UnixStream::connect(&self.socket).ok())?;
        until("dockerd answers", || {
            let version = self.call(&["version"]).ok()?;
            (version.code == 0).then_some(())
        })
    }

    /// Ends the daemon, and starts another one when `meanwhile` is over. Containers live on.
    pub fn restart(&mut self, meanwhile: impl FnOnce() -> Result) -> Result {
        self.daemon.kill()?;
        self.daemon.wait()?;
        meanwhile()?;
        // What it was ended in the middle of.
        fs::remove_file(self.lab.path("docker.pid")).ok();
        self.daemon = daemon(self.lab, &self.containerd)?;
        self.listens()
    }

    /// A call of it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env("PATH", crate::lab::path())
            .env("DOCKER_CONFIG", self.lab.path("docker-config"))
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn call(&self, args: &[&str]) -> Result<Output> {
        self.lab.finish(&mut self.command(args))
    }

    /// Runs it to its end with that on stdin.
    pub fn call_with(&self, input: &str, args: &[&str]) -> Result<Output> {
        let file = self.lab.file("input", input)?;
        let mut command = self.command(args);
        command.stdin(fs::File::open(file)?);
        self.lab.finish(&mut command)
    }

    /// `run --rm FLAGS IMAGE sh -c SCRIPT`.
    pub fn run(&self, flags: &[&str], script: &str) -> Result<Output> {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend([IMAGE, "sh", "-c", script]);
        self.call(&args)
    }

    /// `run -d --name NAME FLAGS IMAGE sh -c SCRIPT`.
    pub fn detached(&self, name: &str, flags: &[&str], script: &str) -> Result {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(flags);
        args.extend([IMAGE, "sh", "-c", script]);
        self.call(&args)?.ok()?;
        Ok(())
    }

    /// `inspect --format`.
    pub fn inspect(&self, name: &str, what: &str) -> Result<String> {
        let output = self.call(&["inspect", "--format", what, name])?.ok()?;
        Ok(output.out.trim().to_owned())
    }

    /// Waits until `inspect` says so.
    pub fn until(&self, name: &str, what: &str, want: &str) -> Result<String> {
        until(&format!("{what} is {want}"), || {
            self.inspect(name, what).ok().filter(|got| got == want)
        })
    }

    /// Removes all containers.
    pub fn clear(&self) -> Result {
        let all = self.call(&["ps", "-aq"])?.ok()?;
        for id in all.words() {
            self.call(&["rm", "--force", "--volumes", id])?.ok()?;
        }
        Ok(())
    }

    /// Waits until the logs have that.
    pub fn says(&self, name: &str, text: &str) -> Result {
        until(&format!("{text:?} in the logs"), || {
            let logs = self.call(&["logs", name]).ok()?;
            logs.out.contains(text).then_some(())
        })
    }

    /// A program in the daemon's network namespace.
    pub fn nearby(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.daemon.id()))
            .args(words);
        self.lab.finish(&mut command)
    }
}

/// The parent of the containers' scopes.
fn slice(lab: &Lab) -> String {
    format!("{}.slice", lab.mark())
}

/// The runtime as any Docker takes one.
fn by_path(lab: &Lab) -> Value {
    json!({"path": lab.runtime})
}

fn daemon(lab: &Lab, containerd: &Containerd<'_>) -> Result<Child> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(lab.path("dockerd.log"))?;
    let path = |name: &str| lab.path(name).display().to_string();
    let child = within(lab, "dockerd")
        .args(["--config-file", &path("daemon.json")])
        .args(["-H", &format!("unix://{}", path("docker.sock"))])
        .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
        .args(["--pidfile", &path("docker.pid"), "--containerd"])
        .arg(&containerd.socket)
        .args(["--containerd-namespace", lab.mark()])
        .env("PATH", crate::lab::path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        self.clear().ok();
        // It takes its proxies along when it is asked to end.
        if let Ok(pid) = i32::try_from(self.daemon.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).ok();
        }
        until("dockerd ends", || self.daemon.try_wait().ok().flatten()).ok();
        self.daemon.kill().ok();
        self.daemon.wait().ok();
        if systemd() {
            let mut stop = Command::new("systemctl");
            stop.args(["stop", &slice(self.lab)]);
            self.lab.finish(&mut stop).ok();
        }
        for mount in crate::kernel::mounts_below(&self.lab.dir).into_iter().rev() {
            nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).ok();
        }
    }
}
