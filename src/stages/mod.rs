//! ACT: who does what, in which order.
//!
//! ```text
//! parent (host side)             bridge (only if needed)      init (becomes the container)
//! ------------------             -----------------------      ----------------------------
//! Bundle -> Plan -> Prepared
//! clone3(NEW*, INTO_CGROUP) -------------------------------->  die with the parent, new session
//!  | user, time, joined pid ns:
//!  | clone3(NEWUSER) ----------> join namespaces
//!  | write id maps --- Mapped -> become root in there; time (WantOffsets, OffsetsSet)
//!  |                             clone3(NEW*, CLONE_PARENT) -> (the same script)
//!  |<-- Bridged{pid, pidfd} ---- exit
//! move network devices           DevicesMoved --------------> enter the cgroup (v1), then its
//! limits, oom score (meanwhile)   (only if there are any)      namespace; keyring, names, lo up
//! systemd: make the scope        Placed (only with systemd) -> root, mounts, /dev
//! prestart, createRuntime <----- WantHooks ------------------  (only if there are such hooks)
//!                                HooksDone ----------------->  createContainer hooks
//!                                                              console, sysctl, read-only, masks
//!                                                              pivot_root, propagation, tune, labels
//! device rules, rlimits, state <-- Ready --------------------
//!                                Proceed ------------------->  become: groups, ids, capabilities
//! seccomp listener -> agent <--- Listener{fd} ---------------
//! EOF: created, exit 0 <-------- (socket closed) ------------  wait for `start` at exec.fifo
//!                                                              startContainer hooks, close fds,
//!                                                              seccomp, execve
//! ```
//!
//! The processes share the [`Plan`](crate::plan::Plan) by fork, not by serialisation. Packets
//! are a few bytes on one SOCK_SEQPACKET pair; an error crosses it unchanged. End of file before
//! Ready means that the child died. `exec` runs the same machine with [`join`] for [`init`].
#![forbid(unsafe_code)]

pub(crate) mod bridge;
pub(crate) mod init;
pub(crate) mod join;

pub(crate) mod last_mile;
pub(crate) mod parent;
pub(crate) mod prepare;
pub mod seal;

pub(crate) mod wire;
