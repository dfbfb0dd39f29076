//! Tests: filters in the kernel, and the message to the agent.
#![forbid(unsafe_code)]

use super::*;
use nix::errno::Errno;
use nix::sys::prctl::{get_no_new_privs, set_no_new_privs};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use oci_spec::runtime::{ContainerState, State, StateBuilder};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// Loads a filter in a thread of its own, which is all it binds, and acts there.
fn confined<T: Send>(planned: &Seccomp, act: impl FnOnce(Option<OwnedFd>) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if !nix::unistd::geteuid().is_root() {
                set_no_new_privs().unwrap();
            }
            let before = get_no_new_privs().unwrap();
            let listener = planned.load().unwrap();
            assert_eq!(get_no_new_privs().unwrap(), before);
            act(listener)
        });
        thread.join().unwrap()
    })
}

#[test]
fn the_kernel_takes_dockers_profile_and_keeps_to_it() {
    let error = confined(&plan(&docker()), |listener| {
        assert!(listener.is_none());
        nix::sched::setns(std::io::stdin(), nix::sched::CloneFlags::empty())
    });
    assert_eq!(error, Err(Errno::EPERM));
}

#[test]
fn the_kernel_gives_a_listener_for_notifications() {
    let json = with(
        "ALLOW",
        r#"{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}"#,
    );
    let json = json.replacen('{', r#"{"listenerPath": "/agent", "#, 1);
    let name = confined(&plan(&json), |listener| {
        let fd = listener.unwrap();
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    });
    assert_eq!(name.to_str(), Some("anon_inode:seccomp notify"));
}

fn listening(path: &str, metadata: &str) -> Seccomp {
    let json = with(
        "ALLOW",
        r#"{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}"#,
    );
    let head = format!(r#"{{"listenerPath": "{path}", {metadata}"#);
    plan(&json.replacen('{', &head, 1))
}

fn state(id: &str) -> State {
    StateBuilder::default()
        .version("1.3.0")
        .id(id)
        .status(ContainerState::Creating)
        .pid(42)
        .bundle("/bundle")
        .build()
        .unwrap()
}

/// What an agent reads from one connection, and how many descriptors came with it.
fn receive(agent: &UnixListener) -> (String, usize) {
    let (connection, _) = agent.accept().unwrap();
    let (mut text, mut descriptors) = (Vec::new(), 0);
    loop {
        let mut bytes = [0; 4096];
        let mut control = nix::cmsg_space!([i32; 4]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<()>(
            connection.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            flags,
        );
        let got = got.unwrap();
        let length = got.bytes;
        for message in got.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(fds) = message {
                descriptors += fds.len();
            }
        }
        if length == 0 {
            return (String::from_utf8(text).unwrap(), descriptors);
        }
        text.extend_from_slice(&bytes[..length]);
    }
}

fn own() -> OwnedFd {
    crate::sys::pidfd::open(std::process::id().cast_signed()).unwrap()
}

#[test]
fn the_agent_gets_the_state_and_the_descriptor() {
    let path = std::env::temp_dir().join(format!("creel-agent-{}", std::process::id()));
    let agent = UnixListener::bind(&path).unwrap();
    let planned = listening(path.to_str().unwrap(), r#""listenerMetadata": "a: b","#);
    let long = "x".repeat(500_000);
    for id in ["web1", &long] {
        let (text, descriptors) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| receive(&agent));
            let listener = planned.listener().unwrap();
            listener
                .send((42, own().as_fd()), state(id), std::io::stdin().as_fd())
                .unwrap();
            thread.join().unwrap()
        });
        assert_eq!(descriptors, 1);
        let want = format!(
            r#"{{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":42,"metadata":"a: b","state":{}}}"#,
            serde_json::to_string(&state(id)).unwrap(),
        );
        assert!(text == want, "{}", &text[..200]);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    for path in ["/nonexistent/agent", "@creel-nobody-listens-here"] {
        let planned = listening(path, "");
        let listener = planned.listener().unwrap();
        let error = listener.send((42, own().as_fd()), state("web1"), std::io::stdin().as_fd());
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("failed to connect with seccomp agent"),
            "{text}"
        );
        assert!(
            text.contains(path) && text.contains("linux.seccomp.listenerPath"),
            "{text}"
        );
    }
}
