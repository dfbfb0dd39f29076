//! Engines that drive the runtime: each with its daemon, store, sockets and cgroups in this case's own
//! scratch directory, and gone when the value is.
#![forbid(unsafe_code)]

use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::{Lab, Output};
use serde_json::json;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the image of [`archive`] is called.
pub const IMAGE: &str = "localhost/box:latest";

/// Packs the image of all bundles as `docker save` would, for `podman load`, `ctr image import` and
/// `docker load`.
pub fn archive(lab: &Lab) -> Result<PathBuf> {
    let dir = lab.directory("archive")?;
    let layer = dir.join("layer.tar");
    let tar = |out: &Path, of: &Path, names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(of).arg("-cf").arg(out).args(names);
        lab.finish(&mut command)?.ok()
    };
    tar(&layer, lab.image(), &["."])?;
    let sum = lab.finish(Command::new("sha256sum").arg(&layer))?.ok()?;
    let sum = sum.words().first().copied().unwrap_or_default().to_owned();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}
    });
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}
    ]);
    fs::write(dir.join("config.json"), config.to_string())?;
    fs::write(dir.join("manifest.json"), manifest.to_string())?;
    let archive = lab.path("image.tar");
    let names = ["manifest.json", "config.json", "layer.tar"];
    tar(&archive, &dir, &names)?;
    Ok(archive)
}

/// Removes the cgroups that engines make above those of their containers. What still has a process
/// stays, for the supervisor to find.
fn remove_cgroups(mark: &str) {
    let top = Path::new("/sys/fs/cgroup");
    let gone = || {
        let mut cgroups = kernel::directories_named(top, mark);
        cgroups.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for cgroup in &cgroups {
            fs::remove_dir(cgroup).ok();
        }
        kernel::directories_named(top, mark)
            .is_empty()
            .then_some(())
    };
    // Engines clean up behind our back, and end a moment later.
    until("the engine's cgroups are empty", gone).ok();
}

/// Podman with a store of its own.
pub struct Podman<'lab> {
    lab: &'lab Lab,
    /// Podman takes no more than 50 characters here.
    runroot: PathBuf,
}

impl<'lab> Podman<'lab> {
    /// Makes the store and loads the image.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        let name = lab.runtime.file_name().unwrap_or_default();
        // Podman reads the runtime's log only if it knows that it is JSON. Its own default limits
        // need CAP_SYS_RESOURCE, and its shared memory would be everybody's.
        let config = format!(
            "[engine]\nlock_type = \"file\"\nruntime_supports_json = [{name:?}]\n\
             [containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n"
        );
        lab.file("containers.conf", &config)?;
        let runroot = lab.dir.with_file_name(lab.mark());
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = {:?}\ngraphroot = {:?}\n",
            runroot,
            lab.path("store"),
        );
        lab.file("storage.conf", &storage)?;
        let podman = Self { lab, runroot };
        let image = archive(lab)?;
        podman
            .call(&["load", "-q", "-i", &image.to_string_lossy()])?
            .ok()?;
        Ok(podman)
    }

    /// A call of it.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let dir = |name: &str| self.lab.directory(name);
        let mut command = Command::new("podman");
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", dir("home")?)
            .env("TMPDIR", dir("tmp")?)
            .env("CONTAINERS_CONF", self.lab.path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.lab.path("storage.conf"))
            .arg("--root")
            .arg(dir("store")?)
            .arg("--runroot")
            .arg(&self.runroot)
            .arg("--tmpdir")
            .arg(dir("libpod")?)
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "file", "--runtime"])
            .arg(&self.lab.runtime)
            .args(args)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs it to its end.
    pub fn call(&self, args: &[&str]) -> Result<Output> {
        self.lab.finish(&mut self.command(args)?)
    }

    /// `run FLAGS IMAGE PROGRAM`, without a network.
    pub fn run(&self, flags: &[&str], program: &[&str]) -> Result<Output> {
        let parent = format!("--cgroup-parent=/{}", self.lab.mark());
        let mut args = vec!["run", "--network", "none", &parent];
        args.extend(flags);
        args.push(IMAGE);
        args.extend(program);
        self.call(&args)
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        for args in [
            &["pod", "rm", "-af", "-t", "0"][..],
            &["rm", "-af", "-t", "0"],
        ] {
            self.call(args).ok();
        }
        fs::remove_dir_all(&self.runroot).ok();
        remove_cgroups(self.lab.mark());
    }
}

/// A containerd of our own; its containers are in a namespace, and below a cgroup, of the case's mark.
pub struct Containerd<'lab> {
    lab: &'lab Lab,
    daemon: Child,
    socket: PathBuf,
}

impl<'lab> Containerd<'lab> {
    /// Starts it, waits until it answers, and imports the image.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        let dir = lab.directory("containerd")?;
        let socket = dir.join("sock");
        let path = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("sock"),
            path("ttrpc"),
        );
        let config = lab.file("containerd.toml", &config)?;
        let log = fs::File::create(lab.path("containerd.log"))?;
        let daemon = Command::new("containerd")
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let containerd = Self {
            lab,
            daemon,
            socket,
        };
        until("containerd listens", || {
            UnixStream::connect(&containerd.socket).ok()
        })?;
        let image = archive(lab)?;
        containerd
            .call(&["image", "import", &image.to_string_lossy()])?
            .ok()?;
        Ok(containerd)
    }

    /// A call of `ctr`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", self.lab.mark()])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs `ctr` to its end.
    pub fn call(&self, args: &[&str]) -> Result<Output> {
        self.lab.finish(&mut self.command(args))
    }

    /// `run FLAGS IMAGE ID PROGRAM`, under containerd's runc shim with the runtime under test.
    pub fn run(&self, flags: &[&str], id: &str, program: &[&str]) -> Result<Output> {
        let runtime = self.lab.runtime.to_string_lossy();
        let mut args = vec!["run", "--snapshotter", "native", "--runc-binary", &runtime];
        args.extend(flags);
        args.extend([IMAGE, id]);
        args.extend(program);
        self.call(&args)
    }

    /// The status of a task, as `tasks ls` has it; none once it is deleted.
    pub fn status(&self, id: &str) -> Result<Option<String>> {
        let list = self.call(&["tasks", "ls"])?.ok()?.out;
        let line = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&id));
        Ok(line.and_then(|words| words.get(2).map(|&status| status.to_owned())))
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let list = |args: &[&str]| match self.call(args) {
            Ok(output) => output.out,
            Err(_) => String::new(),
        };
        for id in list(&["tasks", "ls", "-q"]).lines() {
            self.call(&["tasks", "rm", "-f", id]).ok();
        }
        for id in list(&["containers", "ls", "-q"]).lines() {
            self.call(&["containers", "rm", id]).ok();
        }
        remove_cgroups(self.lab.mark());
        self.daemon.kill().ok();
        self.daemon.wait().ok();
    }
}
