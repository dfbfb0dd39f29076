//! CRI, as a kubelet speaks it: crictl on a containerd of the case's own. Pods are on the host's network,
//! so that no plugin for networks is needed.
#![forbid(unsafe_code)]

use crate::case::{Failure, Result};
use crate::engine::{Containerd, IMAGE, archive};
use crate::kernel::until;
use crate::lab::{Lab, Output};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Whose program waits, as that of a sandbox has to.
const SANDBOX: &str = "localhost/pause:latest";
/// CRI's namespace in containerd.
const NAMESPACE: &str = "k8s.io";

/// See the module.
pub struct Cri<'lab> {
    lab: &'lab Lab,
    /// Who serves it.
    pub containerd: Containerd<'lab>,
}

impl<'lab> Cri<'lab> {
    /// With the runtime under test as a handler of containerd's.
    pub fn new(lab: &'lab Lab) -> Result<Self> {
        Self::on(lab, "native")
    }

    /// The same with another snapshotter; a skip where containerd cannot use it.
    pub fn on(lab: &'lab Lab, snapshotter: &str) -> Result<Self> {
        let containerd = Containerd::for_cri(lab, SANDBOX, snapshotter)?;
        let plugins = containerd.call(&["plugins", "ls"])?.ok()?.out;
        let works = plugins.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&snapshotter) && words.last() == Some(&"ok")
        });
        if !works {
            return Err(Failure::skip(format!("no {snapshotter} here")));
        }
        let config = format!(
            "runtime-endpoint: unix://{0}\nimage-endpoint: unix://{0}\ntimeout: 60\n",
            containerd.socket.display()
        );
        lab.file("crictl.yaml", &config)?;
        let cri = Self { lab, containerd };
        for (name, program) in [(SANDBOX, &["sleep", "1000000"][..]), (IMAGE, &["sh"])] {
            let image = archive(lab, name, program)?;
            let image = image.to_string_lossy();
            let import = ["image", "import", &image];
            lab.finish(&mut cri.containerd.command_in(NAMESPACE, &import))?
                .ok()?;
            cri.knows(name)?;
        }
        Ok(cri)
    }

    /// It hears of images from containerd, and a moment later.
    fn knows(&self, image: &str) -> Result {
        until("CRI knows the image", || {
            let images = self.call(&["inspecti", image]).ok()?;
            (images.code == 0).then_some(())
        })
    }

    /// containerd is killed, and another one started when `meanwhile` is over.
    pub fn restart(&mut self, meanwhile: impl FnOnce() -> Result) -> Result {
        self.containerd.restart(meanwhile)?;
        until("CRI answers", || {
            let answer = self.call(&["pods", "-q"]).ok()?;
            (answer.code == 0).then_some(())
        })
    }

    /// A call of crictl.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("crictl");
        command
            .env("PATH", crate::lab::path())
            .env("CRI_CONFIG_FILE", self.lab.path("crictl.yaml"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn call(&self, args: &[&str]) -> Result<Output> {
        self.lab.finish(&mut self.command(args))
    }

    /// The same, which must succeed; what it printed.
    pub fn told(&self, args: &[&str]) -> Result<String> {
        Ok(self.call(args)?.ok()?.out.trim().to_owned())
    }

    /// Runs a pod; `pids` says whether its containers share their process ids.
    pub fn pod(&self, name: &str, pids: bool) -> Result<Pod<'_, 'lab>> {
        self.pod_in(name, "tested", Self::namespaces(pids))
    }

    /// The same of one of the handlers and in these namespaces, as CRI's NamespaceOption has them.
    pub fn pod_in(&self, name: &str, handler: &str, namespaces: Value) -> Result<Pod<'_, 'lab>> {
        let logs = self.lab.directory(name)?;
        let config = json!({
            "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 0},
            "log_directory": logs,
            "linux": {
                "cgroup_parent": format!("/{}", self.lab.mark()),
                "security_context": {"namespace_options": namespaces}
            }
        });
        let file = self
            .lab
            .file(&format!("{name}.json"), &config.to_string())?;
        let file = file.display().to_string();
        let id = self.told(&["runp", "--runtime", handler, &file])?;
        let cri = self;
        Ok(Pod {
            cri,
            id,
            file,
            namespaces,
        })
    }

    /// 2 is the host's, 0 the pod's, 1 the container's own.
    pub fn namespaces(pids: bool) -> Value {
        json!({"network": 2, "pid": i32::from(!pids), "ipc": 0})
    }

    /// One word of a container's status.
    pub fn status(&self, id: &str, field: &str) -> Result<Value> {
        let text = self.told(&["inspect", "-o", "json", id])?;
        let all: Value = serde_json::from_str(&text)?;
        Ok(all["status"][field].clone())
    }

    /// Waits until the container has ended.
    pub fn ended(&self, id: &str) -> Result {
        until("the container has ended", || {
            let state = self.status(id, "state").ok()?;
            (state == "CONTAINER_EXITED").then_some(())
        })
    }
}

impl Drop for Cri<'_> {
    fn drop(&mut self) {
        self.call(&["rmp", "-fa"]).ok();
    }
}

/// A pod that runs.
pub struct Pod<'cri, 'lab> {
    cri: &'cri Cri<'lab>,
    /// Its id.
    pub id: String,
    file: String,
    namespaces: Value,
}

impl Pod<'_, '_> {
    /// Creates and starts a container with this script, and `more` beside the defaults of `linux`.
    pub fn start(&self, name: &str, script: &str, more: &Value) -> Result<String> {
        let mut linux = json!({"security_context": {}});
        for (key, value) in more.as_object().into_iter().flatten() {
            linux[key] = value.clone();
        }
        linux["security_context"]["namespace_options"] = self.namespaces.clone();
        let config = json!({
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", script],
            "log_path": format!("{name}.log"),
            "linux": linux
        });
        let file = self
            .cri
            .lab
            .file(&format!("{name}.json"), &config.to_string())?;
        let create = ["create", &self.id, &file.to_string_lossy(), &self.file];
        let id = self.cri.told(&create)?;
        self.cri.told(&["start", &id])?;
        Ok(id)
    }
}
