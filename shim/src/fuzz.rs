//! Fuzzing: what a client sends to the shim's socket, and what containerd says to `start`. As in
//! `creel::fuzz`, a door takes any bytes, and a broken promise is a panic.
#![forbid(unsafe_code)]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::create::check_id;
use crate::options::Options;
use crate::wire::{Frame, Parser, frame, request};
use crate::{bootstrap, mounts};
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, CreateTaskRequest, DeleteRequest,
    ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StateRequest, StatsRequest, UpdateTaskRequest, WaitRequest,
};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::Request;
use containerd_shim_protos::types::mount::Mount;
use std::fmt::Debug;

/// A door, by the name of its fuzz target, with what that begins with.
pub type Door = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// The doors.
pub const DOORS: &[Door] = &[
    ("bootstrap", bootstrap, bootstrap_seeds),
    ("ttrpc", ttrpc, ttrpc_seeds),
];

fn same(first: &impl Debug, second: &impl Debug) {
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

/// ttrpc requests to the shim, in their frames; the first byte says how it is cut. Requests are decoded as the
/// task service does it, and none is acted on.
pub fn ttrpc(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let frames = Parser::default().feed(bytes);
    let mut parser = Parser::default();
    let pieces = bytes.chunks(1 + usize::from(*cut));
    let cut: Vec<Frame> = pieces.flat_map(|piece| parser.feed(piece)).collect();
    same(&frames, &cut);
    for one in frames {
        if let Frame::Call(stream, call) = one {
            let again = Parser::default().feed(&request(stream, &call).unwrap());
            let [Frame::Call(id, same)] = again.as_slice() else {
                panic!("{again:?}");
            };
            assert_eq!((*id, same), (stream, &call));
            decode(&call);
        }
    }
}

fn decode(call: &Request) {
    let bytes = call.payload.as_slice();
    match call.method.as_str() {
        "Create" => {
            if let Some(asked) = read::<CreateTaskRequest>(bytes) {
                id(&asked.id);
                drop(Options::decode(asked.options.as_ref()));
                asked.rootfs.iter().for_each(mounts::fuzz);
            }
        }
        "Exec" => {
            if let Some(asked) = read::<ExecProcessRequest>(bytes) {
                id(&asked.exec_id);
            }
        }
        "State" => drop(read::<StateRequest>(bytes)),
        "Connect" => drop(read::<ConnectRequest>(bytes)),
        "ResizePty" => drop(read::<ResizePtyRequest>(bytes)),
        "CloseIO" => drop(read::<CloseIORequest>(bytes)),
        "Wait" => drop(read::<WaitRequest>(bytes)),
        "Shutdown" => drop(read::<ShutdownRequest>(bytes)),
        "Start" => drop(read::<StartRequest>(bytes)),
        "Delete" => drop(read::<DeleteRequest>(bytes)),
        "Kill" => drop(read::<KillRequest>(bytes)),
        "Pause" => drop(read::<PauseRequest>(bytes)),
        "Resume" => drop(read::<ResumeRequest>(bytes)),
        "Update" => drop(read::<UpdateTaskRequest>(bytes)),
        "Checkpoint" => drop(read::<CheckpointTaskRequest>(bytes)),
        "Pids" => drop(read::<PidsRequest>(bytes)),
        "Stats" => drop(read::<StatsRequest>(bytes)),
        _ => {}
    }
}

/// A message; what is written of it reads back.
fn read<M: Message + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::parse_from_bytes(bytes).ok()?;
    let again = M::parse_from_bytes(&message.write_to_bytes().unwrap());
    assert_eq!(again.as_ref().ok(), Some(&message));
    Some(message)
}

/// An id that is taken is a plain file name.
fn id(id: &str) {
    if check_id(id).is_ok() {
        assert!(!id.contains('/') && !id.starts_with('.') && (1..256).contains(&id.len()));
    }
}

/// What containerd gives the shim at `start`, by its stdin.
pub fn bootstrap(bytes: &[u8]) {
    bootstrap::fuzz::start(bytes);
    if let Ok(any) = Any::parse_from_bytes(bytes)
        && let Ok(options) = Options::decode(Some(&any))
    {
        let mut again = Any::new();
        again.type_url = "containerd.runc.v1.Options".into();
        again.value = options.message().write_to_bytes().unwrap();
        assert_eq!(Options::decode(Some(&again)).unwrap(), options);
        let kept = serde_json::to_vec(&options).unwrap();
        assert_eq!(serde_json::from_slice::<Options>(&kept).unwrap(), options);
    }
}

fn any(kind: &str, value: Vec<u8>) -> Any {
    let mut any = Any::new();
    any.type_url = kind.into();
    any.value = value;
    any
}

fn options() -> [Any; 2] {
    let options = Options {
        binary_name: "/usr/sbin/creel".into(),
        root: "/run/creel".into(),
        systemd_cgroup: true,
        io_uid: 5,
        ..Options::default()
    };
    let toml = b"# of ctr\nBinaryName = \"/usr/sbin/\\\"creel\" # so\nIoUid = 7\nSystemdCgroup = true\nRoot = '/r'\n[x]\n";
    let length = u8::try_from(toml.len()).unwrap_or(0);
    [
        any(
            "containerd.runc.v1.Options",
            options.message().write_to_bytes().unwrap(),
        ),
        any(
            "runtimeoptions.v1.Options",
            [&[26, length], &toml[..]].concat(),
        ),
    ]
}

fn bootstrap_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = options()
        .iter()
        .map(|any| any.write_to_bytes().unwrap())
        .collect();
    seeds.push(bootstrap::fuzz::seed(&options()));
    seeds.push(Vec::new());
    seeds
}

fn ttrpc_seeds() -> Vec<Vec<u8>> {
    let mut mount = Mount::new();
    mount.type_ = "overlay".into();
    mount.source = "overlay".into();
    mount.target = "/a".into();
    mount.options = ["ro", "nosuid", "rbind", "lowerdir=/l/1:/l/2", "upperdir=/u"]
        .map(String::from)
        .to_vec();
    let mut create = CreateTaskRequest::new();
    create.id = "web1".into();
    create.bundle = "/bundle".into();
    create.rootfs = vec![mount];
    create.stdout = "/run/fifo".into();
    let [first, second] = options();
    create.options = Some(first).into();
    let mut other = create.clone();
    other.options = Some(second).into();
    let mut exec = ExecProcessRequest::new();
    exec.id = "web1".into();
    exec.exec_id = "e1".into();
    exec.spec = Some(any("spec", br#"{"args": ["sh"], "cwd": "/"}"#.to_vec())).into();
    let mut update = UpdateTaskRequest::new();
    update.id = "web1".into();
    update.resources = Some(any("resources", br#"{"pids": {"limit": 5}}"#.to_vec())).into();
    let mut kill = KillRequest::new();
    kill.id = "web1".into();
    kill.signal = 9;
    let of_id = StateRequest {
        id: "web1".into(),
        ..StateRequest::new()
    };
    let of_id = of_id.write_to_bytes().unwrap();
    let mut calls = vec![
        ("Create", create.write_to_bytes().unwrap()),
        ("Create", other.write_to_bytes().unwrap()),
        ("Exec", exec.write_to_bytes().unwrap()),
        ("Update", update.write_to_bytes().unwrap()),
        ("Kill", kill.write_to_bytes().unwrap()),
    ];
    let others = "State Connect ResizePty CloseIO Wait Shutdown Start Delete Pause Resume Checkpoint Pids Stats";
    calls.extend(others.split(' ').map(|name| (name, of_id.clone())));
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for (name, payload) in calls {
        let mut call = Request::new();
        call.service = "containerd.task.v2.Task".into();
        call.method = name.into();
        call.payload = payload;
        seeds.push([&[6], &*request(1, &call).unwrap()].concat());
    }
    let two = [&seeds[0][..], &seeds[3][1..], &frame(9, 5, b"")].concat();
    seeds.push(two);
    seeds.push([&[0, 0xff, 0xff, 0xff, 0xff], &[0; 40][..]].concat());
    seeds
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_door_holds_for_what_its_fuzzer_begins_with_and_has_found() {
        for (name, door, seeds) in super::DOORS {
            let found = creel_found(name);
            for seed in seeds().into_iter().chain(found) {
                door(&seed);
            }
        }
    }

    fn creel_found(door: &str) -> Vec<Vec<u8>> {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../hack/fuzz.d/found");
        let entries = std::fs::read_dir(std::path::Path::new(dir).join(door));
        let paths = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("a file").path());
        paths
            .map(|path| std::fs::read(path).expect("its bytes"))
            .collect()
    }
}
