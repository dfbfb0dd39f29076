//! How containerd calls the shim: `start`, `delete`, `-info`, and the words that they share.
//!
//! Three dialects of `start`. Until 1.6 it answers with a bare address; since 1.7, when
//! `MAX_SHIM_VERSION` is set, with JSON; since 2.3 question and answer are protobuf.
#![forbid(unsafe_code)]

use crate::options::Options;
use crate::status::{Doing, Result, Status};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use nix::sys::stat::{Mode, umask};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Keeps glibc from giving each thread a heap of its own.
pub const ARENAS: &str = "MALLOC_ARENA_MAX";
/// What containerd may send on stdin.
const LONGEST: u64 = 10 << 20;
/// Where sockets are unless containerd says otherwise.
const SOCKETS: &str = "/run/containerd/s";
/// The newest version of the task service that we speak.
const VERSION: i32 = 3;
/// Annotations by which containers share a shim, in order.
const GROUPS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

/// The words of the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    /// containerd's gRPC socket.
    pub address: String,
    /// The containerd that publishes events, for shims without ttrpc.
    pub publish_binary: String,
    /// The bundle, for `delete`.
    pub bundle: String,
    /// Our own socket.
    pub socket: String,
    /// Say more.
    pub debug: bool,
    /// Say the version.
    pub version: bool,
    /// Describe the runtime.
    pub info: bool,
    /// `start`, `delete`, or nothing: to serve.
    pub action: String,
}

impl Words {
    /// Reads them as Go's `flag` does: one or two dashes, a value behind `=` or as the next word.
    pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut words = Self::default();
        let mut args = args.map(|arg| arg.to_string_lossy().into_owned());
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix('-') else {
                words.action = arg;
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, mut value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let text = match name {
                "namespace" => &mut words.namespace,
                "id" => &mut words.id,
                "address" => &mut words.address,
                "publish-binary" => &mut words.publish_binary,
                "bundle" => &mut words.bundle,
                "socket" => &mut words.socket,
                "debug" | "v" | "version" | "info" => {
                    let on = value.is_none_or(|value| value == "true" || value == "1");
                    match name {
                        "debug" => words.debug = on,
                        "info" => words.info = on,
                        _ => words.version = on,
                    }
                    continue;
                }
                other => return Err(Status::invalid(format_args!("unknown flag -{other}"))),
            };
            if value.is_none() {
                value = args.next();
            }
            *text = value.ok_or_else(|| Status::invalid(format_args!("-{name} needs a value")))?;
        }
        Ok(words)
    }
}

/// How `start` was asked, and is to be answered.
#[derive(Debug, PartialEq)]
enum Dialect {
    Plain,
    Json(i32),
    Protobuf,
}

/// What containerd says to `start`.
struct Ask {
    dialect: Dialect,
    options: Options,
    socket_dir: PathBuf,
    grpc: String,
    ttrpc: String,
}

impl Ask {
    fn read(words: &Words, input: &[u8], env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        // An Any can be read as parameters, too: those name us.
        let params = BootstrapParams::parse_from_bytes(input)
            .ok()
            .filter(|params| !input.is_empty() && params.instance_id == words.id)
            .filter(|params| params.namespace == words.namespace);
        if let Some(params) = params {
            let known = params
                .extensions
                .iter()
                .filter_map(|one| one.value.as_ref());
            let options = known
                .map(|any| Options::decode(Some(any)))
                .find_map(std::result::Result::ok);
            return Ok(Self {
                dialect: Dialect::Protobuf,
                options: options.unwrap_or_default(),
                socket_dir: match params.socket_dir.as_deref() {
                    None | Some("") => SOCKETS.into(),
                    Some(dir) => dir.into(),
                },
                grpc: params.containerd_grpc_address,
                ttrpc: params.containerd_ttrpc_address,
            });
        }
        let any = Any::parse_from_bytes(input).doing("options")?;
        let newest = env("MAX_SHIM_VERSION").and_then(|text| text.parse::<i32>().ok());
        Ok(Self {
            dialect: newest.map_or(Dialect::Plain, |newest| {
                Dialect::Json(newest.clamp(2, VERSION))
            }),
            options: Options::decode(Some(&any))?,
            socket_dir: SOCKETS.into(),
            grpc: words.address.clone(),
            ttrpc: env("TTRPC_ADDRESS").unwrap_or_else(|| {
                let grpc = &words.address;
                if grpc.is_empty() {
                    String::new()
                } else {
                    format!("{grpc}.ttrpc")
                }
            }),
        })
    }

    fn answer(&self, address: &str) -> Result<Vec<u8>> {
        match self.dialect {
            Dialect::Plain => Ok(address.as_bytes().to_vec()),
            Dialect::Json(version) => {
                let said = json!({"version": version, "address": address, "protocol": "ttrpc"});
                Ok(serde_json::to_vec(&said)?)
            }
            Dialect::Protobuf => {
                let mut said = BootstrapResult::new();
                said.version = VERSION;
                said.address = address.into();
                said.protocol = "ttrpc".into();
                Ok(said.write_to_bytes()?)
            }
        }
    }
}

/// All of stdin, within reason.
pub fn input() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_end(&mut bytes)
        .doing("stdin")?;
    Ok(bytes)
}

/// `start`: finds or makes the shim of this container's group, and says where it is.
pub fn start(words: &Words) -> Result<()> {
    let ask = Ask::read(words, &input()?, |name| std::env::var(name).ok())?;
    let bundle = std::env::current_dir()?;
    let group = group(&bundle)?.unwrap_or_else(|| words.id.clone());
    let path = socket_path(&ask.socket_dir, &ask.grpc, &words.namespace, &group);
    let address = format!("unix://{}", path.display());
    if let Some(listener) = bind(&path)? {
        let made = serve_elsewhere(words, &ask, &path, listener);
        if made.is_err() {
            std::fs::remove_file(&path).unwrap_or(());
        }
        made?;
    }
    // containerd 1.x finds us by this after a restart.
    std::fs::write(bundle.join("address"), &address).doing("address")?;
    let mut out = std::io::stdout().lock();
    out.write_all(&ask.answer(&address)?)?;
    Ok(out.flush()?)
}

/// The group that config.json says, by its annotations alone.
fn group(bundle: &Path) -> Result<Option<String>> {
    let text = std::fs::read(bundle.join("config.json")).doing("config.json")?;
    let config: Value = serde_json::from_slice(&text).doing("config.json")?;
    let annotations = config.get("annotations");
    Ok(GROUPS.iter().find_map(|name| {
        let value = annotations?.get(name)?.as_str()?;
        Some(value.to_owned())
    }))
}

/// Where the shim of a bundle listens, unless containerd has said otherwise.
pub fn usual_socket(words: &Words, bundle: &Path) -> Option<PathBuf> {
    let group = group(bundle).ok()?.unwrap_or_else(|| words.id.clone());
    let (grpc, namespace) = (&words.address, &words.namespace);
    Some(socket_path(Path::new(SOCKETS), grpc, namespace, &group))
}

/// One name for each containerd, namespace and group, short enough for a socket's address.
fn socket_path(dir: &Path, grpc: &str, namespace: &str, group: &str) -> PathBuf {
    let text = format!("{grpc}\0{namespace}\0{group}\0creel");
    dir.join(crate::digest::hex(text.as_bytes()))
}

/// Our listener; `None` if somebody listens there already. A socket that a dead shim has left is
/// replaced.
fn bind(path: &Path) -> Result<Option<UnixListener>> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).doing(dir.display())?;
    }
    for _ in 0..2 {
        let before = umask(Mode::from_bits_truncate(0o077));
        let bound = UnixListener::bind(path);
        umask(before);
        match bound {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if UnixStream::connect(path).is_ok() {
                    return Ok(None);
                }
                std::fs::remove_file(path).unwrap_or(());
            }
            Err(error) => return Err(error).doing(path.display()),
        }
    }
    Err(Status::precondition(format_args!(
        "{}: somebody else is at it",
        path.display()
    )))
}

/// Starts the process that serves, with the listener as its stdin.
fn serve_elsewhere(words: &Words, ask: &Ask, path: &Path, listener: UnixListener) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["-namespace", &words.namespace, "-id", &words.id])
        .args(["-address", &ask.grpc])
        .arg("-socket")
        .arg(path);
    if words.debug {
        command.arg("-debug");
    }
    let child = command
        .env("TTRPC_ADDRESS", &ask.ttrpc)
        .env(ARENAS, "1")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .doing("start the shim")?;
    let pid = child.id();
    if !ask.options.shim_cgroup.is_empty() {
        join_cgroup(&ask.options.shim_cgroup, pid)?;
    }
    adjust_oom_score(pid)
}

/// Moves the shim into a cgroup that is there: in each hierarchy of v1 that has it, or in v2's.
fn join_cgroup(group: &str, pid: u32) -> Result<()> {
    let top = Path::new("/sys/fs/cgroup");
    let group = group.trim_start_matches('/');
    let join = |dir: &Path| std::fs::write(dir.join(group).join("cgroup.procs"), pid.to_string());
    if top.join("cgroup.controllers").exists() {
        return join(top).doing(format_args!("ShimCgroup {group}"));
    }
    let mut joined = 0;
    for entry in std::fs::read_dir(top)?.flatten() {
        let dir = entry.path();
        let real = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if real && dir.join(group).is_dir() {
            join(&dir).doing(format_args!("ShimCgroup {group} in {}", dir.display()))?;
            joined += 1;
        }
    }
    if joined == 0 {
        return Err(Status::precondition(format_args!(
            "ShimCgroup {group}: no such cgroup"
        )));
    }
    Ok(())
}

/// A shim goes before containerd does, and its containers before it.
fn adjust_oom_score(pid: u32) -> Result<()> {
    let parent = std::os::unix::process::parent_id();
    let score = |pid: u32| format!("/proc/{pid}/oom_score_adj");
    let text = std::fs::read_to_string(score(parent)).unwrap_or_default();
    let wanted = text
        .trim()
        .parse::<i32>()
        .unwrap_or(0)
        .saturating_add(1)
        .min(1000);
    match std::fs::write(score(pid), wanted.to_string()) {
        // Rootless: it stays as it is.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        other => other.doing("oom_score_adj"),
    }
}

#[cfg(any(test, fuzzing))]
pub mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::Extension;

    fn words(text: &str) -> Words {
        Words::parse(text.split(' ').map(OsString::from)).unwrap()
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let want = Words {
            namespace: "moby".into(),
            id: "a".into(),
            address: "/run/c.sock".into(),
            debug: true,
            action: "start".into(),
            ..Words::default()
        };
        let one = "-namespace moby -id a -address /run/c.sock -debug start";
        let two = "--namespace=moby --id=a --address=/run/c.sock --debug=true start";
        assert_eq!(words(one), want);
        assert_eq!(words(two), want);
        assert!(words("-info").info && words("-v").version);
        assert!(Words::parse(["-id"].map(OsString::from).into_iter()).is_err());
        assert!(Words::parse(["-what"].map(OsString::from).into_iter()).is_err());
    }

    fn options() -> Any {
        let options = Options {
            systemd_cgroup: true,
            ..Options::default()
        };
        Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: options.message().write_to_bytes().unwrap(),
            ..Any::default()
        }
    }

    #[test]
    fn each_containerd_is_answered_as_it_asks() {
        let words = words("-namespace moby -id a -address /run/c.sock start");
        let any = options().write_to_bytes().unwrap();
        let plain = Ask::read(&words, &any, |_| None).unwrap();
        assert_eq!(plain.dialect, Dialect::Plain);
        assert!(plain.options.systemd_cgroup);
        assert_eq!(plain.ttrpc, "/run/c.sock.ttrpc");
        assert_eq!(plain.answer("unix:///s").unwrap(), b"unix:///s");
        for (newest, version) in [("2", 2), ("3", 3), ("9", 3)] {
            let env = |name: &str| (name == "MAX_SHIM_VERSION").then(|| newest.to_owned());
            let json = Ask::read(&words, &[], env).unwrap();
            let said: Value = serde_json::from_slice(&json.answer("unix:///s").unwrap()).unwrap();
            let want = json!({"version": version, "address": "unix:///s", "protocol": "ttrpc"});
            assert_eq!(said, want);
        }
        let mut params = BootstrapParams::new();
        params.instance_id = "a".into();
        params.namespace = "moby".into();
        params.containerd_ttrpc_address = "/run/t.sock".into();
        params.socket_dir = Some("/run/x".into());
        let mut extension = Extension::new();
        extension.value = Some(options()).into();
        params.extensions.push(extension);
        let ask = Ask::read(&words, &params.write_to_bytes().unwrap(), |_| None).unwrap();
        assert_eq!(ask.dialect, Dialect::Protobuf);
        assert!(ask.options.systemd_cgroup);
        assert_eq!(
            (ask.socket_dir.as_path(), ask.ttrpc.as_str()),
            (Path::new("/run/x"), "/run/t.sock")
        );
        let said = BootstrapResult::parse_from_bytes(&ask.answer("unix:///s").unwrap()).unwrap();
        assert_eq!(
            (said.version, said.address.as_str(), said.protocol.as_str()),
            (3, "unix:///s", "ttrpc")
        );
    }

    #[test]
    fn sockets_of_different_groups_differ_and_are_short() {
        let path = |group| socket_path(Path::new(SOCKETS), "/run/c.sock", "moby", group);
        assert_ne!(path("a"), path("b"));
        assert_eq!(path("a"), path("a"));
        assert!(path("a").as_os_str().len() < 100);
    }

    #[test]
    fn a_dead_shims_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = std::env::temp_dir().join(format!("shim-bind-{}", std::process::id()));
        let path = dir.join("s");
        let first = bind(&path).unwrap().expect("ours");
        assert!(bind(&path).unwrap().is_none());
        drop(first);
        assert!(bind(&path).unwrap().is_some());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
