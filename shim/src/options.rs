//! What an engine asks of the shim besides the container: `containerd.runc.v1.Options`, or
//! `runtimeoptions.v1.Options` with TOML in it, which CRI and ctr send to any runtime but runc's.
#![forbid(unsafe_code)]

use crate::status::{Doing, Result, Status};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message};
use containerd_shim_protos::shim::oci;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where containers are remembered, below it by namespace, unless the engine says otherwise.
const ROOT: &str = "/run/containerd/creel";
/// Kept in the bundle, for `delete` when the shim is dead. The Go shim's name and keys.
const FILE: &str = "options.json";

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Move the root instead of pivoting.
    pub no_pivot_root: bool,
    /// Leave the session keyring.
    pub no_new_keyring: bool,
    /// The cgroup that the shim itself joins.
    pub shim_cgroup: String,
    /// Who owns the container's pipes.
    pub io_uid: u32,
    /// And its group.
    pub io_gid: u32,
    /// The creel to start.
    pub binary_name: String,
    /// The state root, without the namespace.
    pub root: String,
    /// Make cgroups through systemd.
    pub systemd_cgroup: bool,
    /// Where checkpoints are written and read.
    pub criu_image_path: String,
    /// Where criu keeps its logs.
    pub criu_work_path: String,
}

impl Options {
    /// Reads what came as an Any; none at all means the defaults.
    pub fn decode(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        // "type.googleapis.com/" may stand in front.
        let kind = any.type_url.rsplit('/').next().unwrap_or_default();
        match kind {
            "containerd.runc.v1.Options" | "containerd.linux.runc.v1.Options" => {
                Ok(oci::Options::parse_from_bytes(&any.value)?.into())
            }
            "runtimeoptions.v1.Options" | "cri.runtimeoptions.v1.Options" => {
                Self::from_toml(&toml_of(&any.value)?)
            }
            other => Err(Status::invalid(format_args!("options of type {other}"))),
        }
    }

    /// Reads the keys that containerd's configuration has for a runtime, of a TOML that has
    /// nothing else: `key = value` lines; tables belong to other programs.
    fn from_toml(text: &str) -> Result<Self> {
        let mut options = Self::default();
        let lines = text.lines().map(str::trim);
        for line in lines.take_while(|line| !line.starts_with('[')) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line
                .split_once('=')
                .ok_or_else(|| Status::invalid(format_args!("options: no value in {line:?}")))?;
            let value = value.trim();
            let bad = || Status::invalid(format_args!("options: {}: {value}", key.trim()));
            let flag = || scalar(value).parse::<bool>().map_err(|_| bad());
            let number = || scalar(value).parse::<u32>().map_err(|_| bad());
            let string = || text_of(value).ok_or_else(bad);
            match key.trim() {
                "NoPivotRoot" => options.no_pivot_root = flag()?,
                "NoNewKeyring" => options.no_new_keyring = flag()?,
                "SystemdCgroup" => options.systemd_cgroup = flag()?,
                "IoUid" => options.io_uid = number()?,
                "IoGid" => options.io_gid = number()?,
                "ShimCgroup" => options.shim_cgroup = string()?,
                "BinaryName" => options.binary_name = string()?,
                "Root" => options.root = string()?,
                "CriuImagePath" => options.criu_image_path = string()?,
                "CriuWorkPath" => options.criu_work_path = string()?,
                // A newer containerd's: not for us.
                _ => {}
            }
        }
        Ok(options)
    }

    /// Keeps them in the bundle.
    pub fn keep(&self, bundle: &Path) -> Result<()> {
        std::fs::write(bundle.join(FILE), serde_json::to_vec(self)?).doing(FILE)
    }

    /// Those kept in a bundle; the defaults if there are none.
    pub fn kept(bundle: &Path) -> Self {
        std::fs::read(bundle.join(FILE))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    /// The state root of a namespace.
    pub fn root(&self, namespace: &str) -> PathBuf {
        let root = if self.root.is_empty() {
            ROOT
        } else {
            &self.root
        };
        Path::new(root).join(namespace)
    }

    /// The creel to start: the one asked for, else the one beside the shim, else any in PATH.
    pub fn binary(&self) -> PathBuf {
        if !self.binary_name.is_empty() {
            return PathBuf::from(&self.binary_name);
        }
        let beside = std::fs::read_link("/proc/self/exe")
            .ok()
            .and_then(|shim| Some(shim.parent()?.join("creel")));
        beside
            .filter(|creel| creel.is_file())
            .unwrap_or_else(|| PathBuf::from("creel"))
    }

    /// As the message that runc's shim speaks of.
    pub fn message(&self) -> oci::Options {
        let mut message = oci::Options::new();
        message.no_pivot_root = self.no_pivot_root;
        message.no_new_keyring = self.no_new_keyring;
        message.shim_cgroup = self.shim_cgroup.clone();
        message.io_uid = self.io_uid;
        message.io_gid = self.io_gid;
        message.binary_name = self.binary_name.clone();
        message.root = self.root.clone();
        message.systemd_cgroup = self.systemd_cgroup;
        message.criu_image_path = self.criu_image_path.clone();
        message.criu_work_path = self.criu_work_path.clone();
        message
    }
}

impl From<oci::Options> for Options {
    fn from(said: oci::Options) -> Self {
        Self {
            no_pivot_root: said.no_pivot_root,
            no_new_keyring: said.no_new_keyring,
            shim_cgroup: said.shim_cgroup,
            io_uid: said.io_uid,
            io_gid: said.io_gid,
            binary_name: said.binary_name,
            root: said.root,
            systemd_cgroup: said.systemd_cgroup,
            criu_image_path: said.criu_image_path,
            criu_work_path: said.criu_work_path,
        }
    }
}

/// `runtimeoptions.v1.Options`: type_url = 1, config_path = 2, config_body = 3.
fn toml_of(bytes: &[u8]) -> Result<String> {
    let (mut path, mut body) = (String::new(), Vec::new());
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            18 => path = input.read_string()?,
            26 => body = input.read_bytes()?,
            10 => drop(input.read_string()?),
            other => {
                return Err(Status::invalid(format_args!(
                    "runtime options: tag {other}"
                )));
            }
        }
    }
    // A fuzzer's paths lead anywhere.
    if body.is_empty() && !path.is_empty() && !cfg!(fuzzing) {
        body = std::fs::read(&path).doing(format_args!("runtime options in {path}"))?;
    }
    String::from_utf8(body).map_err(|_| Status::invalid("runtime options: not UTF-8"))
}

/// A bare value without the comment after it.
fn scalar(value: &str) -> &str {
    value.split('#').next().unwrap_or_default().trim()
}

/// A quoted string: literal in single quotes, with the escapes of paths in double ones.
fn text_of(value: &str) -> Option<String> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut out = String::new();
    let mut chars = value.chars().skip(1);
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Some(out),
            '\\' if quote == '"' => match chars.next()? {
                c @ ('\\' | '"') => out.push(c),
                't' => out.push('\t'),
                _ => return None,
            },
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(kind: &str, value: Vec<u8>) -> Any {
        Any {
            type_url: kind.into(),
            value,
            ..Any::default()
        }
    }

    #[test]
    fn runcs_options_are_read() {
        let want = Options {
            systemd_cgroup: true,
            binary_name: "/opt/creel".into(),
            ..Options::default()
        };
        let bytes = want.message().write_to_bytes().unwrap();
        for kind in [
            "containerd.runc.v1.Options",
            "type.googleapis.com/containerd.runc.v1.Options",
        ] {
            let got = Options::decode(Some(&any(kind, bytes.clone()))).unwrap();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn the_toml_that_cri_sends_is_read() {
        let toml = "  # as containerd writes it\n  BinaryName = \"/opt/creel\" # ours\n  IoUid = 7\n\
                    Root = '/run/a'\nSystemdCgroup = true\nUnknown = [1]\n[other]\nRoot = 3\n";
        let mut value = vec![
            10,
            1,
            b'x',
            26,
            u8::try_from(toml.len()).unwrap() & 0x7f | 0x80,
            1,
        ];
        value.extend(toml.as_bytes());
        assert!((128..256).contains(&toml.len()));
        let got = Options::decode(Some(&any("runtimeoptions.v1.Options", value))).unwrap();
        assert_eq!(
            got,
            Options {
                binary_name: "/opt/creel".into(),
                root: "/run/a".into(),
                systemd_cgroup: true,
                io_uid: 7,
                ..Options::default()
            }
        );
        assert_eq!(got.root("moby"), Path::new("/run/a/moby"));
    }

    #[test]
    fn bad_options_are_refused_and_none_are_fine() {
        assert_eq!(Options::decode(None).unwrap(), Options::default());
        assert_eq!(
            Options::decode(Some(&Any::new())).unwrap(),
            Options::default()
        );
        for toml in ["SystemdCgroup = maybe", "Root = /run", "Root"] {
            assert!(Options::from_toml(toml).is_err(), "{toml}");
        }
        assert!(Options::decode(Some(&any("some.Type", vec![]))).is_err());
        assert!(Options::decode(Some(&any("containerd.runc.v1.Options", vec![0xff; 9]))).is_err());
        assert!(Options::decode(Some(&any("runtimeoptions.v1.Options", vec![26, 200]))).is_err());
    }

    #[test]
    fn they_survive_in_the_bundle() {
        let dir = std::env::temp_dir().join(format!("shim-options-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let options = Options {
            root: "/run/x".into(),
            ..Options::default()
        };
        options.keep(&dir).unwrap();
        assert_eq!(Options::kept(&dir), options);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(Options::kept(&dir), Options::default());
    }
}
