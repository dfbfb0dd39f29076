//! containerd's side of a shim, without containerd: `start` and `delete`, the task service over
//! ttrpc, and the events that come back.
#![forbid(unsafe_code)]

use crate::bundle::Bundle;
use crate::case::Result;
use crate::kernel::{self, until};
use crate::lab::{Lab, Output};
use crate::proto::{Fields, Message, any};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// gRPC's codes.
pub const NOT_FOUND: u64 = 5;
/// See [`NOT_FOUND`].
pub const PRECONDITION: u64 = 9;

/// The shim under test; of another runtime than creel, containerd's own.
pub fn program(lab: &Lab) -> PathBuf {
    crate::engine::shim(&lab.runtime).unwrap_or_else(|| "containerd-shim-runc-v2".into())
}

/// `containerd.runc.v1.Options`: the runtime under test, with a state root of this case.
pub fn options(lab: &Lab) -> Message {
    let root = lab.path("state");
    Message::new()
        .bytes(6, lab.runtime.as_os_str().as_encoded_bytes())
        .bytes(7, root.as_os_str().as_encoded_bytes())
}

/// The same as an Any.
pub fn any_options(lab: &Lab) -> Message {
    any("containerd.runc.v1.Options", options(lab))
}

/// The shim's program with the words that containerd puts before the action.
pub fn command(lab: &Lab, events: &Events, id: &str, bundle: &Bundle) -> Result<Command> {
    events.read_log(bundle)?;
    let mut command = Command::new(program(lab));
    command
        .args(["-namespace", lab.mark(), "-id", id, "-address"])
        .arg(lab.path("sock"))
        .env("TTRPC_ADDRESS", &events.path)
        .env("PATH", crate::lab::path())
        .current_dir(&bundle.dir);
    Ok(command)
}

/// `start` as containerd 1.6 asks for it.
pub fn start(lab: &Lab, events: &Events, id: &str, bundle: &Bundle) -> Result<Shim> {
    bundle.save()?;
    let input = lab.path("options");
    std::fs::write(&input, any_options(lab))?;
    let mut command = command(lab, events, id, bundle)?;
    let output = lab.finish(command.arg("start").stdin(File::open(input)?))?;
    Shim::connect(output.ok()?.out.trim())
}

/// `delete`, for when the shim is dead: what it says, as a message.
pub fn delete(lab: &Lab, events: &Events, id: &str, bundle: &Bundle) -> Result<Fields> {
    let mut command = command(lab, events, id, bundle)?;
    command.arg("-bundle").arg(&bundle.dir).arg("delete");
    let said = lab.path("said");
    let output = command
        .stdin(Stdio::null())
        .stdout(File::create(&said)?)
        .output()?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = crate::lab::code(output.status);
    let out = String::new();
    Output { code, out, err }.ok()?;
    Fields::parse(&std::fs::read(said)?)
}

/// An answer of the shim.
pub struct Answer {
    /// gRPC's code; 0 is success.
    pub code: u64,
    /// What it says of a failure.
    pub why: String,
    payload: Vec<u8>,
}

impl Answer {
    /// The message, of a success.
    pub fn ok(self) -> Result<Fields> {
        match self.code {
            0 => Fields::parse(&self.payload),
            code => Err(format!("code {code}: {}", self.why).into()),
        }
    }
}

/// A shim that runs, and a connection to it.
pub struct Shim {
    /// Where it listens.
    pub path: PathBuf,
    /// Its process.
    pub pid: i32,
    line: UnixStream,
    next: u32,
    early: HashMap<u32, Answer>,
}

impl Shim {
    /// To the address that `start` has answered.
    pub fn connect(address: &str) -> Result<Self> {
        let path = address.strip_prefix("unix://");
        let path = PathBuf::from(path.ok_or(format!("no address: {address:?}"))?);
        let line = UnixStream::connect(&path)?;
        line.set_read_timeout(Some(kernel::patience() * 3))?;
        let mut shim = Self {
            path,
            pid: 0,
            line,
            next: 1,
            early: HashMap::new(),
        };
        let said = shim.call("Connect", Message::new().bytes(1, "any"))?.ok()?;
        shim.pid = i32::try_from(said.number(1))?;
        Ok(shim)
    }

    /// Sends a call, and returns the number of its answer.
    pub fn send(&mut self, method: &str, message: impl AsRef<[u8]>) -> Result<u32> {
        self.send_to("containerd.task.v2.Task", method, message)
    }

    /// The same to another service.
    pub fn send_to(
        &mut self,
        service: &str,
        method: &str,
        message: impl AsRef<[u8]>,
    ) -> Result<u32> {
        let request = Message::new().bytes(1, service).bytes(2, method);
        let stream = self.next;
        self.next += 2;
        let bytes = frame(1, stream, request.bytes(3, message).as_ref())?;
        self.line.write_all(&bytes)?;
        Ok(stream)
    }

    /// The answer of that number.
    pub fn answer(&mut self, stream: u32) -> Result<Answer> {
        loop {
            if let Some(answer) = self.early.remove(&stream) {
                return Ok(answer);
            }
            let (_, of, payload) = read_frame(&mut self.line)?;
            let response = Fields::parse(&payload)?;
            let status = response.message(1)?;
            let answer = Answer {
                code: status.number(1),
                why: status.text(2),
                payload: response.bytes(2).to_vec(),
            };
            self.early.insert(of, answer);
        }
    }

    /// Calls and waits for the answer.
    pub fn call(&mut self, method: &str, message: impl AsRef<[u8]>) -> Result<Answer> {
        let stream = self.send(method, message)?;
        self.answer(stream)
    }

    /// A call about a container, or a process in it.
    pub fn of(&mut self, method: &str, id: &str, exec: &str) -> Result<Answer> {
        self.call(method, Message::new().bytes(1, id).bytes(2, exec))
    }

    /// `Create`, with nothing to read and nobody who reads: init's pid.
    pub fn create(&mut self, lab: &Lab, id: &str, bundle: &Bundle) -> Result<i32> {
        let asked = creation(lab, id, bundle);
        Ok(i32::try_from(self.call("Create", asked)?.ok()?.number(1))?)
    }

    /// `Create` and `Start`.
    pub fn run(&mut self, lab: &Lab, id: &str, bundle: &Bundle) -> Result<i32> {
        let pid = self.create(lab, id, bundle)?;
        self.of("Start", id, "")?.ok()?;
        Ok(pid)
    }

    /// `Exec` of a shell with that script.
    pub fn exec(&mut self, id: &str, exec: &str, script: &str) -> Result<Answer> {
        let spec = serde_json::json!({
            "args": ["/bin/sh", "-c", script],
            "cwd": "/",
            "env": ["PATH=/bin:/usr/bin"],
            "user": {"uid": 0, "gid": 0}
        });
        let kind = "types.containerd.io/opencontainers/runtime-spec/1/Process";
        let spec = any(kind, spec.to_string());
        let asked = Message::new().bytes(1, id).bytes(2, exec);
        self.call("Exec", asked.bytes(7, spec))
    }

    /// `Kill` with SIGKILL.
    pub fn kill(&mut self, id: &str) -> Result {
        self.call("Kill", Message::new().bytes(1, id).number(3, 9))?
            .ok()?;
        Ok(())
    }

    /// Kills a container, waits for its end, and deletes it.
    pub fn end(&mut self, id: &str) -> Result<Fields> {
        self.kill(id)?;
        self.of("Wait", id, "")?.ok()?;
        self.of("Delete", id, "")?.ok()
    }

    /// `Shutdown`, of a shim that has nothing left: it ends, and takes its socket with it.
    pub fn shutdown(mut self) -> Result {
        let program = std::fs::read_link(format!("/proc/{}/exe", self.pid))?;
        match self.call("Shutdown", Message::new().bytes(1, "any")) {
            // It may hang up before it has answered, which containerd forgives.
            Err(_) if program.ends_with("containerd-shim-runc-v2") => {}
            answer => drop(answer?.ok()?),
        }
        until("the shim ends", || {
            (!kernel::alive(self.pid) && !self.path.exists()).then_some(())
        })
    }

    /// Kills it as it never expects.
    pub fn destroy(self) -> Result {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL)?;
        until("the shim is dead", || {
            (!kernel::alive(self.pid)).then_some(())
        })
    }
}

/// What `Create` is asked for.
pub fn creation(lab: &Lab, id: &str, bundle: &Bundle) -> Message {
    Message::new()
        .bytes(1, id)
        .bytes(2, bundle.dir.as_os_str().as_encoded_bytes())
        .bytes(10, any_options(lab))
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = u32::try_from(payload.len())?.to_be_bytes().to_vec();
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(payload);
    Ok(bytes)
}

/// Kind, stream and payload.
fn read_frame(from: &mut UnixStream) -> Result<(u8, u32, Vec<u8>)> {
    let mut header = [0; 10];
    from.read_exact(&mut header)?;
    let [a, b, c, d, e, f, g, h, kind, _] = header;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d]))?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok((kind, u32::from_be_bytes([e, f, g, h]), payload))
}

/// Where the shim tells its events.
pub struct Events {
    path: PathBuf,
    told: Arc<Mutex<Vec<String>>>,
    logs: Mutex<Vec<File>>,
}

impl Events {
    /// Listens until this process ends.
    pub fn listen(lab: &Lab) -> Result<Self> {
        let path = lab.path("ttrpc");
        let listener = UnixListener::bind(&path)?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                std::thread::spawn(move || hear(line, &all).ok());
            }
        });
        let logs = Mutex::default();
        Ok(Self { path, told, logs })
    }

    /// Opens the fifo that the shim logs to, as containerd does before it starts one.
    fn read_log(&self, bundle: &Bundle) -> Result {
        let path = bundle.dir.join("log");
        if !path.exists() {
            mkfifo(&path, Mode::S_IRWXU)?;
        }
        let log = File::options().read(true).write(true).open(path)?;
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.push(log);
        Ok(())
    }

    /// What was told: a topic and an id, and of an end how it was.
    pub fn told(&self) -> Vec<String> {
        let told = self.told.lock();
        told.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was told of a container or a process, when the last of it is that.
    pub fn of(&self, id: &str, last: &str) -> Result<Vec<String>> {
        let all = || -> Vec<String> {
            let told = self.told().into_iter();
            let mine = told.filter_map(|one| {
                let mut words: Vec<&str> = one.split(' ').collect();
                let of = words.iter().position(|word| *word == id)?;
                words.remove(of);
                Some(words.join(" "))
            });
            mine.collect()
        };
        until(&format!("{last} is told of {id}; {:?}", all()), || {
            all().iter().any(|one| one == last).then(all)
        })
    }
}

fn hear(mut line: UnixStream, told: &Mutex<Vec<String>>) -> Result {
    loop {
        let (_, stream, payload) = read_frame(&mut line)?;
        let envelope = Fields::parse(&payload)?.message(3)?.message(1)?;
        let event = envelope.message(4)?.message(2)?;
        let topic = envelope.text(3).replace("/tasks/", "");
        let words = match topic.as_str() {
            "exit" => format!("exit {} {}", event.text(2), event.number(4)),
            "delete" => format!("delete {} {}", event.text(1), event.number(3)),
            "exec-added" | "exec-started" => format!("{topic} {}", event.text(2)),
            _ => format!("{topic} {}", event.text(1)),
        };
        told.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(words);
        let fine = Message::new().bytes(1, Message::new());
        line.write_all(&frame(2, stream, fine.as_ref())?)?;
    }
}

/// The descriptors that a process has open.
pub fn descriptors(pid: i32) -> Result<usize> {
    Ok(std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"))?.count())
}
