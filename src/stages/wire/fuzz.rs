//! Fuzzing: packets at both ends of the stage socket.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

/// A packet from a child that lies, and one from a parent; the first byte says whether a
/// descriptor rides along.
pub fn stage_socket(bytes: &[u8]) {
    let Some((rides, packet)) = bytes.split_first() else {
        return;
    };
    error(packet);
    let packet = packet.get(..PACKET).unwrap_or(packet);
    if packet.is_empty() {
        return;
    }
    let (parent, child) = pair().unwrap();
    let own = [child.0.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&own)];
    let rights = if rides % 2 == 1 { &rights[..] } else { &[] };
    let iov = [IoSlice::new(packet)];
    sendmsg::<()>(child.0.as_raw_fd(), &iov, rights, MsgFlags::empty(), None).unwrap();
    let Ok(Some(message)) = parent.receive() else {
        return;
    };
    match &message {
        FromChild::WantMaps => child.send_want_maps().unwrap(),
        FromChild::WantOffsets => child.send_want_offsets().unwrap(),
        FromChild::WantHooks => child.send_want_hooks().unwrap(),
        FromChild::Ready => child.send_ready().unwrap(),
        FromChild::Bridged(pid, pidfd) => child.send_bridged(*pid, pidfd.as_fd()).unwrap(),
        // The number of a descriptor that is not ours to send.
        FromChild::Listener(_) => return,
        FromChild::Failed(error) => child.send_failure(error),
    }
    match (message, parent.receive().unwrap().unwrap()) {
        (FromChild::Bridged(pid, _), FromChild::Bridged(again, _)) => assert_eq!(pid, again),
        (FromChild::Failed(error), FromChild::Failed(again)) => {
            // Texts may be cut to fit; the acts and the errno never.
            assert_eq!(error.doing(), again.doing());
            assert_eq!(error.errno(), again.errno());
        }
        (one, other) => assert_eq!(std::mem::discriminant(&one), std::mem::discriminant(&other)),
    }
}

fn error(bytes: &[u8]) {
    let Some(error) = Error::decode(bytes) else {
        return;
    };
    assert_eq!(
        Error::decode(&error.encode(usize::MAX)).as_ref(),
        Some(&error)
    );
    let short = error.encode(PACKET - 1);
    assert!(short.len() < PACKET);
    let short = Error::decode(&short).unwrap();
    assert_eq!(short.errno(), error.errno());
    assert!(!error.to_string().is_empty());
}

/// Each message that a child can send, without a descriptor and with one.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let error = Error::os(Doing::Mount, Errno::EPERM)
        .on("proc at /proc")
        .field("mounts[0]")
        .hint("a hint")
        .within(Doing::InInit);
    let rule = Error::rule(Doing::CheckConfig, "a rule").encode(PACKET - 1);
    let mut seeds = vec![
        [&[0, FAILED], &*error.encode(PACKET - 1)].concat(),
        [&[0, FAILED], &*rule].concat(),
        [&[0], &*rule].concat(),
        vec![1, BRIDGED, 42, 0, 0, 0],
        vec![0, LISTENER, 7, 0, 0, 0],
    ];
    for kind in [WANT_MAPS, WANT_OFFSETS, WANT_HOOKS, READY] {
        seeds.extend([vec![0, kind], vec![1, kind]]);
    }
    seeds
}
