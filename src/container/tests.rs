//! The life of a container in the store, with a shell for an init.
#![forbid(unsafe_code)]

use super::state::{FORMAT, Namespaces, Private};
use super::status::start_time;
use super::{Container, State, Status, Store, delete};
use crate::error::{Doing, Error};
use nix::errno::Errno;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "creel-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }

    fn store(&self) -> Store {
        Store::standard(self.0.join("root"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

fn state(id: &str, pid: i32, status: Status) -> State {
    let own = vec!["pid".to_owned()];
    State {
        id: id.into(),
        pid,
        status,
        creel: Private {
            format: FORMAT,
            start_time: start_time(pid).expect("asked").unwrap_or(0),
            namespaces: Namespaces {
                own,
                joined: Vec::new(),
            },
            ..Private::default()
        },
        ..super::state::tests::sample()
    }
}

/// A created container whose init is a shell that reads its byte and then runs `then`.
fn create(store: &Store, id: &str, then: &str) -> (Container, Child) {
    create_with(store, id, &format!("head -c1 >/dev/null; {then}"), "{}")
}

fn create_with(store: &Store, id: &str, script: &str, config: &str) -> (Container, Child) {
    let slot = store.reserve(id).expect("slot");
    slot.keep_config(config.as_bytes()).expect("config");
    let fifos = slot.make_fifos().expect("fifos");
    let init = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::from(fifos.exec))
        .stdout(Stdio::from(fifos.outcome))
        .spawn()
        .expect("sh");
    let state = state(id, init.id().cast_signed(), Status::Created);
    (slot.commit(state).expect("committed"), init)
}

const BECOME: &str = "exec sleep 1000 </dev/null >/dev/null";

#[test]
fn an_id_is_taken_once_and_given_back_by_drop() {
    let scratch = Scratch::new();
    let store = scratch.store();
    assert_eq!(
        store.ids(),
        Ok(Vec::new()),
        "a standard root that is not there"
    );
    assert!(Store::given(scratch.0.join("none")).ids().is_err());
    let slot = store.reserve("a").expect("slot");
    let error = store.reserve("a").expect_err("taken").to_string();
    assert!(
        error.contains("container with given ID already exists"),
        "{error}"
    );
    let error = store.find("a").expect_err("no state yet").to_string();
    assert!(error.contains("container does not exist"), "{error}");
    drop(slot);
    assert_eq!(store.ids(), Ok(Vec::new()));
    assert!(store.reserve("a").is_ok());
}

#[test]
fn ids_are_checked_as_runc_does() {
    let store = Scratch::new().store();
    for bad in [".", "..", "a/b", "../a", "a b", "é", "a\0"] {
        let error = store.reserve(bad).expect_err(bad).to_string();
        assert!(error.contains("invalid container ID format"), "{error}");
        assert!(store.find(bad).is_err() && delete(&store, bad, true).is_err());
    }
    assert!(store.reserve("").is_err() && store.reserve(&"a".repeat(1025)).is_err());
    assert!(super::id::check_id("a_Z+0-.x").is_ok());
}

#[test]
fn a_container_is_created_started_killed_and_deleted() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (container, mut init) = create(&store, "web", BECOME);
    assert_eq!(container.status(), Ok(Status::Created));
    assert_eq!(store.find("web").and_then(|web| web.start()), Ok(()));
    assert_eq!(container.status(), Ok(Status::Running));
    let again = container.start().expect_err("runs").to_string();
    assert!(
        again.ends_with("cannot start an already running container"),
        "{again}"
    );
    let early = delete(&store, "web", false).expect_err("runs").to_string();
    assert!(early.ends_with("cannot delete container web that is not stopped: running"));
    assert_eq!(container.kill(0), Ok(()));
    assert_eq!(container.kill(15), Ok(()));
    assert!(!init.wait().expect("reaped").success());
    assert_eq!(container.status(), Ok(Status::Stopped));
    let error = container.kill(15).expect_err("stopped").to_string();
    assert!(error.ends_with("container not running"), "{error}");
    let error = container.start().expect_err("stopped").to_string();
    assert!(
        error.ends_with("cannot start a container that has stopped"),
        "{error}"
    );
    assert_eq!(delete(&store, "web", false), Ok(()));
    assert!(store.find("web").is_err() && delete(&store, "web", false).is_err());
    assert_eq!(delete(&store, "web", true), Ok(()));
}

#[test]
fn the_error_of_init_is_the_error_of_start() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let cause = Error::os(Doing::ExecProgram, Errno::ENOENT).on("/run.sh");
    std::fs::create_dir_all(&scratch.0).expect("scratch");
    let file = scratch.0.join("error");
    std::fs::write(&file, cause.encode(4096)).expect("error file");
    let (container, mut init) = create(&store, "web", &format!("cat {}", file.display()));
    let error = container.start().expect_err("must fail");
    assert_eq!(error.to_string(), format!("start web: {cause}"));
    init.wait().expect("reaped");
    assert_eq!(delete(&store, "web", false), Ok(()));
}

#[test]
fn an_init_that_died_is_not_started() {
    let scratch = Scratch::new();
    let (container, mut init) = create_with(&scratch.store(), "web", "exec head -c1", "{}");
    init.kill().expect("killed");
    init.wait().expect("reaped");
    let error = container.start().expect_err("must fail").to_string();
    assert!(
        error.ends_with("cannot start a container that has stopped"),
        "{error}"
    );
}

#[test]
fn a_failing_poststart_hook_kills_the_container() {
    let scratch = Scratch::new();
    let config = r#"{"hooks":{"poststart":[{"path":"/bin/sh","args":["sh","-c","cat; exit 1"]}]}}"#;
    let script = format!("head -c1 >/dev/null; {BECOME}");
    let (container, mut init) = create_with(&scratch.store(), "web", &script, config);
    let error = container.start().expect_err("must fail").to_string();
    assert!(error.contains("status\":\"running"), "{error}");
    assert!(!init.wait().expect("reaped").success());
    assert_eq!(container.status(), Ok(Status::Stopped));
}

#[test]
fn force_deletes_a_running_container() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let (container, mut init) = create(&store, "web", BECOME);
    container.start().expect("started");
    assert_eq!(delete(&store, "web", true), Ok(()));
    assert!(!init.wait().expect("reaped").success());
    assert_eq!(store.ids(), Ok(Vec::new()));
}

#[test]
fn every_half_state_can_be_deleted() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let dir = |id: &str| scratch.0.join("root").join(id);
    for id in ["bare", "garbled", "fifo", "nested"] {
        std::fs::create_dir_all(dir(id)).expect("dir");
    }
    std::fs::write(dir("garbled").join("state.json"), "{\"id\":").expect("state");
    std::fs::write(dir("fifo").join("exec.fifo"), "").expect("fifo");
    std::fs::create_dir_all(dir("nested").join("notify/deep")).expect("dir");
    std::os::unix::fs::symlink("/", dir("nested").join("link")).expect("link");
    for id in ["bare", "garbled", "fifo", "nested"] {
        // As runc: it is gone, but it was no container.
        let error = delete(&store, id, false).expect_err(id).to_string();
        assert!(error.ends_with("container does not exist"), "{error}");
        assert!(!dir(id).exists(), "{id}");
        std::fs::create_dir_all(dir(id)).expect("dir");
        assert_eq!(delete(&store, id, true), Ok(()), "{id}");
    }
    assert_eq!(store.ids(), Ok(Vec::new()));
}

#[test]
fn a_create_that_was_killed_leaves_a_stopped_container() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let slot = store.reserve("web").expect("slot");
    slot.record(&state("web", 0, Status::Creating))
        .expect("recorded");
    let container = store.find("web").expect("found");
    assert_eq!(container.status(), Ok(Status::Creating), "the lock is held");
    let error = delete(&store, "web", false)
        .expect_err("refused")
        .to_string();
    assert!(error.ends_with("that is not stopped: creating"), "{error}");
    // What a kill leaves: the files, without the lock.
    let kept = scratch.0.join("root/web/state.json");
    let bytes = std::fs::read(&kept).expect("state");
    drop(slot);
    std::fs::create_dir_all(scratch.0.join("root/web")).expect("dir");
    std::fs::write(&kept, bytes).expect("state");
    let container = store.find("web").expect("found");
    assert_eq!(container.status(), Ok(Status::Stopped));
    assert_eq!(delete(&store, "web", false), Ok(()));
}
