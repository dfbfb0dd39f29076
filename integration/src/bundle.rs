//! Bundles: a rootfs of busybox links and a config.json that each case bends to its question.
#![forbid(unsafe_code)]

use crate::case::Result;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      user:x:1000:1000:user:/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\nextra:x:1234:user\n";

/// Makes the image that every rootfs is a copy of. Busybox is copied once, so that the links of the
/// bundles share our copy and never the host's file.
pub fn make_image(image: &Path) -> Result {
    for dir in [
        "bin",
        "dev",
        "etc",
        "home/user",
        "mnt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr",
        "var",
    ] {
        fs::create_dir_all(image.join(dir))?;
    }
    fs::set_permissions(image.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut places = path.split(':').map(|dir| Path::new(dir).join("busybox"));
    let host = places
        .find(|file| file.is_file())
        .ok_or("no busybox in PATH")?;
    let busybox = image.join("bin/busybox");
    fs::copy(&host, &busybox)?;
    let applets = Command::new(&busybox).arg("--list").output()?;
    for applet in String::from_utf8(applets.stdout)?.lines() {
        if applet != "busybox" {
            symlink("busybox", image.join("bin").join(applet))?;
        }
    }
    fs::write(image.join("etc/passwd"), PASSWD)?;
    fs::write(image.join("etc/group"), GROUP)?;
    Ok(())
}

/// Copies the image: files by hard link, except those of /etc, which cases rewrite.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&source, &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else if from.ends_with("etc") {
            fs::copy(&source, &target)?;
        } else {
            fs::hard_link(&source, &target)?;
        }
    }
    Ok(())
}

/// A bundle directory and the config that is written to it when it is used.
pub struct Bundle {
    /// The bundle directory.
    pub dir: PathBuf,
    /// What config.json will say.
    pub config: Value,
}

impl Bundle {
    /// A fresh copy of the image with the plain config.
    pub fn new(dir: PathBuf, image: &Path) -> Result<Self> {
        copy(image, &dir.join("rootfs"))?;
        Ok(Self {
            dir,
            config: plain(),
        })
    }

    /// A path in the rootfs, as the host sees it.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Sets a value by JSON pointer, making what is missing above it; `-` appends to a list.
    pub fn set(&mut self, pointer: &str, value: impl Into<Value>) -> Result<&mut Self> {
        let mut at = &mut self.config;
        for key in pointer.split('/').skip(1) {
            let key = key.replace("~1", "/");
            if at.is_null() {
                *at = if key == "-" { json!([]) } else { json!({}) };
            }
            at = match at {
                Value::Array(list) => {
                    if key == "-" {
                        list.push(Value::Null);
                    }
                    let index = key.parse().unwrap_or(list.len() - 1);
                    list.get_mut(index)
                        .ok_or(format!("{pointer}: no such index"))?
                }
                Value::Object(map) => map.entry(key).or_insert(Value::Null),
                _ => return Err(format!("{pointer}: passes through a scalar").into()),
            };
        }
        *at = value.into();
        Ok(self)
    }

    /// Takes a member away.
    pub fn unset(&mut self, pointer: &str) -> Result<&mut Self> {
        let (above, key) = pointer.rsplit_once('/').ok_or("not a pointer")?;
        let map = self
            .config
            .pointer_mut(above)
            .and_then(Value::as_object_mut);
        map.ok_or(format!("{above}: no object"))?.remove(key);
        Ok(self)
    }

    /// The process's arguments.
    pub fn args(&mut self, args: &[&str]) -> Result<&mut Self> {
        self.set("/process/args", json!(args))
    }

    /// The process is a shell with this script.
    pub fn script(&mut self, script: &str) -> Result<&mut Self> {
        self.args(&["/bin/sh", "-c", script])
    }

    /// The process waits to be killed; busybox's sleep as pid 1 ignores what it does not handle.
    pub fn idle(&mut self) -> Result<&mut Self> {
        self.args(&["/bin/sleep", "1000"])
    }

    /// Adds a mount at the end of the list.
    pub fn mount(
        &mut self,
        kind: &str,
        source: impl AsRef<Path>,
        at: &str,
        options: &[&str],
    ) -> Result<&mut Self> {
        let source = source.as_ref().to_string_lossy().into_owned();
        let mount = json!({"destination": at, "type": kind, "source": source, "options": options});
        self.set("/mounts/-", mount)
    }

    /// Replaces the namespace of that type: by a fresh one, or by the one at the path.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) -> Result<&mut Self> {
        self.drop_namespace(kind)?;
        let entry = match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({ "type": kind }),
        };
        self.set("/linux/namespaces/-", entry)
    }

    /// Takes the namespace of that type out of the list.
    pub fn drop_namespace(&mut self, kind: &str) -> Result<&mut Self> {
        let list = self
            .config
            .pointer_mut("/linux/namespaces")
            .and_then(Value::as_array_mut);
        list.ok_or("no namespaces")?
            .retain(|entry| entry["type"] != kind);
        Ok(self)
    }

    /// Runs as the ids 0.. of a user namespace, which are 100000.. on the host.
    pub fn mapped(&mut self) -> Result<&mut Self> {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        self.namespace("user", None)?
            .set("/linux/uidMappings", map.clone())?
            .set("/linux/gidMappings", map)
    }

    /// Gives the process exactly these capabilities in the four usual sets.
    pub fn caps(&mut self, caps: &[&str]) -> Result<&mut Self> {
        for set in ["bounding", "effective", "permitted"] {
            self.set(&format!("/process/capabilities/{set}"), json!(caps))?;
        }
        Ok(self)
    }

    /// Writes config.json.
    pub fn save(&self) -> Result {
        let text = serde_json::to_vec_pretty(&self.config)?;
        Ok(fs::write(self.dir.join("config.json"), text)?)
    }
}

/// A config like the one that `runc spec` writes, without the terminal.
pub fn plain() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin:/usr/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": caps,
                "effective": caps,
                "permitted": caps
            },
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}
            ]
        }
    })
}
