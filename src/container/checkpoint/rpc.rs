//! CHECKPOINT, said: criu's requests and responses, by the numbers of its `images/rpc.proto`.
#![forbid(unsafe_code)]

use super::protobuf::{Message, Value, fields};

/// `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl Kind {
    /// Its name in criu.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dump => "DUMP",
            Self::Restore => "RESTORE",
            Self::PreDump => "PRE_DUMP",
            Self::Notify => "NOTIFY",
            Self::FeatureCheck => "FEATURE_CHECK",
            Self::Version => "VERSION",
        }
    }
}

/// Fields of `criu_opts`.
pub(super) mod opt {
    pub(in super::super) const IMAGES_DIR_FD: u64 = 1;
    pub(in super::super) const PID: u64 = 2;
    pub(in super::super) const LEAVE_RUNNING: u64 = 3;
    pub(in super::super) const EXT_UNIX_SK: u64 = 4;
    pub(in super::super) const TCP_ESTABLISHED: u64 = 5;
    pub(in super::super) const EVASIVE_DEVICES: u64 = 6;
    pub(in super::super) const SHELL_JOB: u64 = 7;
    pub(in super::super) const FILE_LOCKS: u64 = 8;
    pub(in super::super) const LOG_LEVEL: u64 = 9;
    pub(in super::super) const LOG_FILE: u64 = 10;
    pub(in super::super) const PAGE_SERVER: u64 = 11;
    pub(in super::super) const NOTIFY_SCRIPTS: u64 = 12;
    pub(in super::super) const ROOT: u64 = 13;
    pub(in super::super) const PARENT_IMG: u64 = 14;
    pub(in super::super) const TRACK_MEM: u64 = 15;
    pub(in super::super) const AUTO_DEDUP: u64 = 16;
    pub(in super::super) const WORK_DIR_FD: u64 = 17;
    pub(in super::super) const LINK_REMAP: u64 = 18;
    pub(in super::super) const EXT_MNT: u64 = 23;
    pub(in super::super) const MANAGE_CGROUPS: u64 = 24;
    pub(in super::super) const CG_ROOT: u64 = 25;
    pub(in super::super) const RST_SIBLING: u64 = 26;
    pub(in super::super) const INHERIT_FD: u64 = 27;
    pub(in super::super) const MANAGE_CGROUPS_MODE: u64 = 34;
    pub(in super::super) const EXTERNAL: u64 = 37;
    pub(in super::super) const EMPTY_NS: u64 = 38;
    pub(in super::super) const JOIN_NS: u64 = 39;
    pub(in super::super) const FREEZE_CGROUP: u64 = 44;
    pub(in super::super) const TCP_SKIP_IN_FLIGHT: u64 = 46;
    pub(in super::super) const LAZY_PAGES: u64 = 48;
    pub(in super::super) const STATUS_FD: u64 = 49;
    pub(in super::super) const ORPHAN_PTS_MASTER: u64 = 50;
    pub(in super::super) const CONFIG_FILE: u64 = 51;
    pub(in super::super) const LSM_PROFILE: u64 = 53;
    pub(in super::super) const LSM_MOUNT_CONTEXT: u64 = 63;
}

/// `criu_req`, with options or without.
pub(super) fn request(kind: Kind, opts: Option<&Message>) -> Message {
    let mut request = Message::default();
    request.number(1, kind as i32);
    if let Some(opts) = opts {
        request.message(2, opts);
    }
    request
}

/// The answer to a notification.
pub(super) fn notified(success: bool) -> Message {
    let mut request = request(Kind::Notify, None);
    request.number(3, success);
    request
}

/// What criu and this kernel can: asked for and told in one shape, `criu_features`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) mem_track: bool,
    pub(super) lazy_pages: bool,
}

/// Asks for features.
pub(super) fn feature_check(wanted: Features) -> Message {
    let mut features = Message::default();
    for (field, wanted) in [(1, wanted.mem_track), (2, wanted.lazy_pages)] {
        if wanted {
            features.number(field, true);
        }
    }
    let mut request = request(Kind::FeatureCheck, None);
    request.message(5, &features);
    request
}

/// `criu_resp`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Response {
    /// A [`Kind`], as a number.
    pub(super) kind: u64,
    pub(super) success: bool,
    /// The script of a notification, and the process it is about.
    pub(super) notify: Option<(String, i32)>,
    pub(super) errno: i32,
    pub(super) message: String,
    pub(super) features: Features,
    /// 31700 is 3.17.
    pub(super) version: u32,
}

impl Response {
    /// Reads one; `None` if criu's bytes make no sense.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut response = Self::default();
        for (field, value) in fields(bytes)? {
            match field {
                1 => response.kind = value.number(),
                2 => response.success = value.number() != 0,
                5 => response.notify = Some(notify(value)?),
                7 => response.errno = int(value),
                8 => response.features = features(value)?,
                9 => response.message = text(value).trim_end().to_owned(),
                10 => response.version = version(value)?,
                _ => {}
            }
        }
        Some(response)
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        u64::try_from(kind as i32) == Ok(self.kind)
    }
}

fn text(value: Value<'_>) -> String {
    String::from_utf8_lossy(value.bytes()).into_owned()
}

/// Numbers of 32 bits come sign-extended; others have no meaning here.
fn int(value: Value<'_>) -> i32 {
    i32::try_from(value.number().cast_signed()).unwrap_or(0)
}

fn notify(value: Value<'_>) -> Option<(String, i32)> {
    let (mut script, mut pid) = (String::new(), 0);
    for (field, value) in fields(value.bytes())? {
        match field {
            1 => script = text(value),
            2 => pid = int(value),
            _ => {}
        }
    }
    Some((script, pid))
}

fn features(value: Value<'_>) -> Option<Features> {
    let mut found = Features::default();
    for (field, value) in fields(value.bytes())? {
        match field {
            1 => found.mem_track = value.number() != 0,
            2 => found.lazy_pages = value.number() != 0,
            _ => {}
        }
    }
    Some(found)
}

/// Major, minor and sublevel in pairs of digits; one built from git counts as the next minor.
fn version(value: Value<'_>) -> Option<u32> {
    let (mut major, mut minor, mut sublevel, mut git) = (0, 0, 0, false);
    for (field, value) in fields(value.bytes())? {
        let number = u32::try_from(value.number().min(99)).unwrap_or(99);
        match field {
            1 => major = number,
            2 => minor = number,
            3 => git = !value.bytes().is_empty(),
            4 => sublevel = number,
            _ => {}
        }
    }
    Some(major * 10_000 + minor * 100 + if git { 100 } else { sublevel })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_bytes_that_criu_expects() {
        let mut opts = Message::default();
        opts.number(opt::IMAGES_DIR_FD, 5)
            .number(opt::LSM_MOUNT_CONTEXT, true);
        let request = request(Kind::Dump, Some(&opts));
        assert_eq!(request.bytes(), b"\x08\x01\x12\x05\x08\x05\xf8\x03\x01");
        assert_eq!(notified(true).bytes(), b"\x08\x06\x18\x01");
        let features = Features {
            mem_track: true,
            lazy_pages: false,
        };
        assert_eq!(feature_check(features).bytes(), b"\x08\x09\x2a\x02\x08\x01");
    }

    #[test]
    fn responses_are_read() {
        let response = Response::read(b"\x08\x06\x10\x01\x2a\x0f\x0a\x0bpost-resume\x10\x7b");
        let response = response.unwrap();
        assert!(response.is(Kind::Notify) && response.success);
        assert_eq!(response.notify, Some(("post-resume".into(), 123)));
        let response = Response::read(b"\x08\x0a\x10\x01\x52\x04\x08\x03\x10\x11").unwrap();
        assert_eq!(response.version, 31_700);
        let response = Response::read(b"\x08\x0a\x10\x01\x52\x08\x08\x04\x10\x02\x1a\x02v4");
        assert_eq!(response.unwrap().version, 40_300);
        let failed = Response::read(b"\x08\x01\x10\x00\x38\x34\x4a\x02no").unwrap();
        assert_eq!(
            (failed.success, failed.errno, failed.message.as_str()),
            (false, 52, "no")
        );
    }

    #[test]
    fn of_a_field_that_is_told_again_the_last_counts() {
        let told = b"\x08\x03\x10\x63\x20\x01".repeat(5000);
        let mut response = Message::default();
        response.put(10, told);
        let version = Response::read(response.bytes()).map(|read| read.version);
        assert_eq!(version, Some(39_901));
    }

    #[test]
    fn garbled_responses_are_none() {
        assert_eq!(Response::read(b"\x2a\x05\x0a\x0bpo"), None);
        assert_eq!(Response::read(b"\xff"), None);
    }
}
