//! The workplace of one case: a directory, fresh names, and the runtime's command line.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::{Need, Result};
use crate::container::Container;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// Its exit status; 256 + signal if it was killed, so that nobody takes it for an exit.
    pub code: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl Output {
    /// Fails unless the command succeeded.
    pub fn ok(self) -> Result<Self> {
        if self.code == 0 {
            return Ok(self);
        }
        Err(format!("exit {}: {}{}", self.code, self.out.trim(), self.err.trim()).into())
    }

    /// Fails unless the command failed, by its own exit.
    pub fn refused(self, what: &str) -> Result<Self> {
        match self.code {
            0 => Err(format!("{what} was accepted").into()),
            code if code > 255 => Err(format!("{what}: died of signal {}", code - 256).into()),
            _ => Ok(self),
        }
    }

    /// The words on stdout.
    pub fn words(&self) -> Vec<&str> {
        self.out.split_whitespace().collect()
    }
}

/// The exit code as [`Output`] tells it.
pub fn code(status: ExitStatus) -> i32 {
    match status.code() {
        Some(code) => code,
        None => 256 + status.signal().unwrap_or(0),
    }
}

/// See the module.
pub struct Lab {
    /// This case's own directory.
    pub dir: PathBuf,
    /// The binary under test.
    pub runtime: PathBuf,
    image: PathBuf,
    mark: String,
    next: Cell<u32>,
    /// Global flags of every call.
    pub globals: RefCell<Vec<&'static str>>,
}

impl Lab {
    /// The workplace that the supervisor prepared.
    pub fn from_env() -> Result<Self> {
        let path = |name: &str| -> Result<PathBuf> {
            Ok(std::env::var_os(name)
                .ok_or(format!("{name} is not set"))?
                .into())
        };
        Ok(Self {
            dir: path("INTEGRATION_DIR")?,
            runtime: path("RUNTIME")?,
            image: path("INTEGRATION_STAGE")?.join("image"),
            mark: std::env::var("INTEGRATION_MARK")?,
            next: Cell::new(0),
            globals: RefCell::default(),
        })
    }

    /// The same workplace with another binary under test, whose ids are others, too.
    pub fn with_runtime(&self, runtime: PathBuf) -> Self {
        Self {
            dir: self.dir.clone(),
            runtime,
            image: self.image.clone(),
            mark: self.mark.clone(),
            next: Cell::new(self.next.get() + 1000),
            globals: RefCell::default(),
        }
    }

    /// Whether the binary under test is creel.
    pub fn is_creel(&self) -> bool {
        Need::Creel.lack(&self.runtime).is_none()
    }

    fn count(&self) -> u32 {
        self.next.replace(self.next.get() + 1)
    }

    /// A container id that nobody else uses.
    pub fn id(&self) -> String {
        format!("{}{}", self.mark, self.count())
    }

    /// The rootfs that all bundles are copies of.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// A file or directory of this case.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a directory of this case.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// A file of this case with that text.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.dir.join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// A fresh bundle.
    pub fn bundle(&self) -> Result<Bundle> {
        Bundle::new(
            self.dir.join(format!("bundle{}", self.count())),
            &self.image,
        )
    }

    /// A fresh bundle whose process is a shell with this script.
    pub fn script(&self, script: &str) -> Result<Bundle> {
        let mut bundle = self.bundle()?;
        bundle.script(script)?;
        Ok(bundle)
    }

    /// A fresh bundle whose process waits to be killed.
    pub fn idle(&self) -> Result<Bundle> {
        let mut bundle = self.bundle()?;
        bundle.idle()?;
        Ok(bundle)
    }

    /// The runtime with this case's state root and a plain environment.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.command_in("root", args)
    }

    /// The same with another state root.
    pub fn command_in<S: AsRef<OsStr>>(&self, root: &str, args: &[S]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.env_clear().env("PATH", path());
        command.arg("--root").arg(self.dir.join(root));
        command.args(&*self.globals.borrow()).args(args);
        command
    }

    /// A null device that is ours: a careless runtime gives the one it stands on to the user.
    pub fn null(&self) -> Result<File> {
        let path = self.dir.join("null");
        if !path.exists() {
            let (kind, mode) = (SFlag::S_IFCHR, Mode::from_bits_truncate(0o666));
            mknod(&path, kind, mode, makedev(1, 3))?;
        }
        let open = |path: &Path| File::options().read(true).write(true).open(path);
        // Where the scratch directory is mounted nodev, the host's has to do.
        Ok(open(&path).or_else(|_| open(Path::new("/dev/null")))?)
    }

    /// Runs a command to its end, however many of its children keep its output open: that goes to
    /// files, for a container inherits it.
    pub fn finish(&self, command: &mut Command) -> Result<Output> {
        let number = self.count();
        let (out, err) = (
            self.path(&format!("{number}.out")),
            self.path(&format!("{number}.err")),
        );
        let status = command
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .status();
        let status = status.map_err(|e| format!("{}: {e}", self.runtime.display()))?;
        Ok(Output {
            code: code(status),
            out: text(&out)?,
            err: text(&err)?,
        })
    }

    /// Calls the runtime without input.
    pub fn call<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<Output> {
        self.finish(self.command(args).stdin(self.null()?))
    }

    /// `run` or `create` of a bundle under that id.
    pub fn launch(&self, verb: &str, bundle: &Bundle, id: &str, flags: &[&str]) -> Result<Output> {
        bundle.save()?;
        let dir = bundle.dir.to_string_lossy();
        let mut args = vec![verb, "--bundle", &dir];
        args.extend(flags);
        args.push(id);
        self.call(&args)
    }

    /// Runs a bundle to its end.
    pub fn run(&self, bundle: &Bundle) -> Result<Output> {
        self.launch("run", bundle, &self.id(), &[])
    }

    /// Runs a bundle and returns its stdout; it must succeed.
    pub fn told(&self, bundle: &Bundle) -> Result<String> {
        Ok(self.run(bundle)?.ok()?.out)
    }

    /// Creates a container that goes away with the value.
    pub fn create(&self, bundle: &Bundle) -> Result<Container<'_>> {
        self.create_with(bundle, &[])
    }

    /// The same with flags.
    pub fn create_with(&self, bundle: &Bundle, flags: &[&str]) -> Result<Container<'_>> {
        let mut container = Container::new(self, self.id(), bundle.dir.clone());
        bundle.save()?;
        container.create(flags)?;
        Ok(container)
    }

    /// Creates and starts a container.
    pub fn started(&self, bundle: &Bundle) -> Result<Container<'_>> {
        let container = self.create(bundle)?;
        container.start()?.ok()?;
        Ok(container)
    }

    /// A container that some other call makes, to be cleaned up when the value goes.
    pub fn adopt(&self, id: &str, bundle: &Bundle) -> Container<'_> {
        Container::new(self, id.to_owned(), bundle.dir.clone())
    }

    /// The state directories under this case's root.
    pub fn states(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.join("root"))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// What the names of this case's containers begin with.
    pub fn mark(&self) -> &str {
        &self.mark
    }
}

/// Where runtimes look for their helpers: `TOOLS` names a directory that comes before the usual ones.
pub fn path() -> String {
    let usual = "/usr/sbin:/usr/bin:/sbin:/bin";
    match std::env::var("TOOLS") {
        Ok(tools) => format!("{tools}:{usual}"),
        Err(_) => usual.into(),
    }
}

/// The text of a file, whatever bytes are in it.
pub fn text(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
