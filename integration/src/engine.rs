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
/// The runtime type of creel's shim.
pub const SHIM_NAME: &str = "io.containerd.creel.v2";

/// The first number of an engine's version.
pub fn major(lab: &Lab, program: &str) -> Result<u32> {
    let mut command = Command::new(program);
    let told = lab.finish(command.env("PATH", crate::lab::path()).arg("--version"))?;
    let told = told.ok()?;
    let starts = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let version = told.words().into_iter().find(starts);
    let number = version.and_then(|version| version.split('.').next());
    Ok(number
        .ok_or(format!("{program} tells no version"))?
        .parse()?)
}

/// Packs the root of all bundles under that name and with that program as `docker save` would, for
/// `podman load`, `ctr image import` and `docker load`.
pub fn archive(lab: &Lab, name: &str, program: &[&str]) -> Result<PathBuf> {
    let dir = lab.directory("archive")?;
    let layer = dir.join("layer.tar");
    let tar = |out: &Path, of: &Path, names: &[&str]| {
        let mut command = Command::new("tar");
        command.arg("-C").arg(of).arg("-cf").arg(out).args(names);
        lab.finish(&mut command)?.ok()
    };
    // Of a copy: what is linked by other cases meanwhile has changed, for tar.
    let image = dir.join("image");
    lab.finish(Command::new("cp").arg("-a").arg(lab.image()).arg(&image))?
        .ok()?;
    tar(&layer, &image, &["."])?;
    let sum = lab.finish(Command::new("sha256sum").arg(&layer))?.ok()?;
    let sum = sum.words().first().copied().unwrap_or_default().to_owned();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": program, "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]}
    });
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}
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
        let image = archive(lab, IMAGE, &["sh"])?;
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
    /// Where it listens.
    pub socket: PathBuf,
    /// What `ctr run` says of the runtime.
    runtime: Vec<String>,
}

/// The shim under test; with another runtime, containerd's own does what it does.
pub fn shim(runtime: &Path) -> Option<PathBuf> {
    let given = std::env::var_os("SHIM").map(PathBuf::from);
    let beside = || runtime.with_file_name("containerd-shim-creel-v2");
    let creel = runtime.file_name().is_some_and(|name| name == "creel");
    Some(given.unwrap_or_else(beside)).filter(|shim| creel && shim.is_file())
}

/// Puts that shim where the daemon looks for it; false if there is none.
fn link_shim(lab: &Lab) -> Result<bool> {
    let Some(shim) = shim(&lab.runtime) else {
        return Ok(false);
    };
    let bin = lab.directory("bin")?;
    std::os::unix::fs::symlink(&lab.runtime, bin.join("creel"))?;
    std::os::unix::fs::symlink(&shim, bin.join("containerd-shim-creel-v2"))?;
    // dockerd before 23 knows no runtime by another name than this.
    std::os::unix::fs::symlink(&shim, bin.join("containerd-shim-runc-v2"))?;
    Ok(true)
}

impl<'lab> Containerd<'lab> {
    /// Starts it, for its own runc shim with the runtime under test, and imports the image.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        let runtime = lab.runtime.display().to_string();
        Self::with(lab, vec!["--runc-binary".into(), runtime])
    }

    /// The same for the runtime's own shim, if it has one.
    pub fn own_shim(lab: &'lab Lab) -> Result<Self> {
        match link_shim(lab)? {
            true => Self::with(lab, vec!["--runtime".into(), SHIM_NAME.into()]),
            false => Self::new(lab),
        }
    }

    /// One that serves CRI, with the runtime under test as the handlers "tested" and "as-runc", which
    /// is of runc's type by name, so that containerd reads and adds to its options.
    pub fn for_cri(lab: &'lab Lab, sandbox: &str, snapshotter: &str) -> Result<Self> {
        let own = lab.path("bin/containerd-shim-creel-v2");
        let (shim, path) = match link_shim(lab)? {
            true => (SHIM_NAME, format!("runtime_path = {own:?}\n")),
            false => ("io.containerd.runc.v2", String::new()),
        };
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        // Who may not lower its score cannot start a sandbox otherwise.
        let config = format!(
            "[{cri}]\nsandbox_image = {sandbox:?}\nrestrict_oom_score_adj = true\n\
             [{cri}.cni]\nconf_dir = {none:?}\nbin_dir = {none:?}\n\
             [{cri}.containerd]\nsnapshotter = {snapshotter:?}\n\
             default_runtime_name = \"tested\"\n\
             [{cri}.containerd.runtimes.tested]\nruntime_type = {shim:?}\n\
             [{cri}.containerd.runtimes.tested.options]\nBinaryName = {binary:?}\n\
             [{cri}.containerd.runtimes.as-runc]\nruntime_type = \"io.containerd.runc.v2\"\n{path}\
             [{cri}.containerd.runtimes.as-runc.options]\nBinaryName = {binary:?}\n",
            binary = lab.runtime,
            none = lab.path("cni"),
        );
        Self::configured(lab, Vec::new(), &config)
    }

    fn with(lab: &'lab Lab, runtime: Vec<String>) -> Result<Self> {
        let more = "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        let containerd = Self::configured(lab, runtime, more)?;
        let image = archive(lab, IMAGE, &["sh"])?;
        containerd
            .call(&["image", "import", &image.to_string_lossy()])?
            .ok()?;
        Ok(containerd)
    }

    fn configured(lab: &'lab Lab, runtime: Vec<String>, more: &str) -> Result<Self> {
        let dir = lab.directory("containerd")?;
        let path = |name: &str| dir.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n{more}[grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("sock"),
            path("ttrpc"),
        );
        lab.file("containerd.toml", &config)?;
        let socket = dir.join("sock");
        Ok(Self {
            lab,
            daemon: daemon(lab, &socket)?,
            socket,
            runtime,
        })
    }

    /// Kills it and starts another one in its place, when `meanwhile` is over.
    pub fn restart(&mut self, meanwhile: impl FnOnce() -> Result) -> Result {
        self.daemon.kill()?;
        self.daemon.wait()?;
        meanwhile()?;
        self.daemon = daemon(self.lab, &self.socket)?;
        Ok(())
    }

    /// A call of `ctr`.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_in(self.lab.mark(), args)
    }

    /// The same in another of containerd's namespaces.
    pub fn command_in(&self, namespace: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .env("PATH", crate::lab::path())
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", namespace])
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs `ctr` to its end.
    pub fn call(&self, args: &[&str]) -> Result<Output> {
        self.lab.finish(&mut self.command(args))
    }

    /// `run FLAGS IMAGE ID PROGRAM` with the runtime under test.
    pub fn run(&self, flags: &[&str], id: &str, program: &[&str]) -> Result<Output> {
        self.lab.finish(&mut self.run_command(flags, id, program))
    }

    /// The same, to be run.
    pub fn run_command(&self, flags: &[&str], id: &str, program: &[&str]) -> Command {
        let mut args = vec!["run", "--snapshotter", "native"];
        args.extend(self.runtime.iter().map(String::as_str));
        args.extend(flags);
        args.extend([IMAGE, id]);
        args.extend(program);
        self.command(&args)
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

/// Makes the network namespace that the case's daemons are in from then on, and after a restart:
/// the containers' ends of bridges are in it.
pub fn own_network(lab: &Lab) -> Result {
    let net = lab.file("net", "")?;
    let mut make = Command::new("unshare");
    make.arg(format!("--net={}", net.display()));
    lab.finish(make.args(["busybox", "ip", "link", "set", "lo", "up"]))?
        .ok()?;
    Ok(())
}

/// A daemon's program in the case's network namespace, if it has one.
pub fn within(lab: &Lab, program: &str) -> Command {
    let net = lab.path("net");
    if !net.exists() {
        return Command::new(program);
    }
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", net.display())).arg(program);
    command
}

/// Starts containerd and waits until it listens.
fn daemon(lab: &Lab, socket: &Path) -> Result<Child> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(lab.path("containerd.log"))?;
    let bin = lab.path("bin");
    let child = within(lab, "containerd")
        .arg("-c")
        .arg(lab.path("containerd.toml"))
        .env("PATH", format!("{}:{}", bin.display(), crate::lab::path()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    until("containerd listens", || UnixStream::connect(socket).ok())?;
    Ok(child)
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
