//! What went wrong: the one error type, from a syscall in a child to the line that the user reads.
//!
//! An [`Error`] names the act ([`Doing`]), the field of config.json that asked for it, the thing it
//! was done to, and the cause. It crosses the stage socket unchanged (see [`Error::encode`]) and is
//! printed once, by `main`.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use std::fmt::{self, Display};

/// The result of everything in the runtime.
pub type Result<T> = std::result::Result<T, Error>;

/// One failure: the act, its field, its subject and its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    doing: Doing,
    field: Option<Box<str>>,
    subject: Option<Box<str>>,
    hint: Option<Box<str>>,
    cause: Cause,
}

/// Why an act failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel said no.
    Os(Errno),
    /// A rule was broken: the spec's, or one of ours; the text says which.
    Rule(Box<str>),
    /// A smaller act within this one failed.
    Within(Error),
}

macro_rules! acts {
    ($($name:ident = $text:literal,)*) => {
        /// The acts that can fail, as the user reads them at the head of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        #[allow(missing_docs)] // each name is explained by its text
        pub enum Doing { $($name,)* }

        impl Doing {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// The act in words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The act of that number on the wire.
            fn decode(number: u16) -> Option<Self> {
                Self::ALL.get(usize::from(number)).copied()
            }
        }
    };
}

acts! {
    // The command and its bundle.
    Create = "create",
    Run = "run",
    Start = "start",
    Exec = "exec in",
    Kill = "kill",
    Delete = "delete",
    Command = "command line",
    List = "list",
    Log = "open the log",
    OpenBundle = "open bundle",
    ReadConfig = "read",
    ParseConfig = "parse",
    CheckConfig = "check config.json",
    WriteSpec = "write",
    Seal = "seal the runtime's own program",
    // The state store.
    CheckId = "check container id",
    OpenStore = "open state root",
    ReserveState = "reserve state of container",
    FindContainer = "load container",
    ReadState = "read state of container",
    WriteState = "write state of container",
    LockState = "lock container",
    RemoveState = "remove state of container",
    WritePidFile = "write pid file",
    ConnectConsole = "connect to console socket",
    SendPidfd = "send pidfd to socket",
    // Processes.
    Clone = "clone the container's process",
    Talk = "talk to the container's process",
    Await = "wait for the container's process",
    InInit = "in init",
    Signal = "signal",
    Freeze = "freeze cgroup",
    Thaw = "thaw cgroup",
    // Isolation.
    JoinNamespace = "join namespace",
    CreateNamespaces = "create namespace",
    MapIds = "map user and group ids",
    SetTimeOffset = "set time namespace offset of",
    SetName = "set",
    RaiseLoopback = "bring up network interface",
    MoveNetDevice = "move network device",
    Keyring = "join session keyring",
    SetSysctl = "set sysctl",
    // The root.
    OpenRootfs = "open rootfs",
    SetPropagation = "set mount propagation of",
    OpenSource = "open mount source",
    OpenTarget = "open mount point",
    MakeTarget = "make mount point",
    Mount = "mount",
    SetMountAttributes = "set mount attributes of",
    MakeDevice = "make device",
    MakeLink = "make link",
    Mask = "mask path",
    MakeReadonly = "make read-only",
    Pivot = "pivot_root to",
    // Limits.
    PlanCgroup = "plan cgroup",
    MakeCgroup = "make cgroup",
    GiveCgroup = "give cgroup to the container's user",
    JoinCgroup = "join cgroup",
    WriteCgroup = "write cgroup file",
    ReadCgroup = "read cgroup file",
    RemoveCgroup = "remove cgroup",
    WatchCgroup = "watch cgroup",
    LoadDeviceFilter = "load device filter of cgroup",
    SetRlimit = "set rlimit",
    SetOomScore = "set oom_score_adj to",
    IntelRdt = "set Intel RDT",
    // Tuning.
    SetScheduler = "set scheduler",
    SetAffinity = "set cpu affinity",
    SetIoPriority = "set io priority",
    SetMemoryPolicy = "set memory policy",
    SetPersonality = "set personality",
    // Confinement.
    SetCapabilities = "set capabilities:",
    SetNoNewPrivileges = "set no_new_privs",
    SetUser = "set",
    CompileSeccomp = "compile seccomp profile",
    LoadSeccomp = "load seccomp filter",
    SendListener = "send seccomp listener to",
    SetAppArmor = "set AppArmor profile",
    SetSelinux = "set SELinux label",
    // The process.
    OpenConsole = "open console",
    SetStdio = "set stdio",
    ChangeDirectory = "chdir to",
    FindProgram = "find program",
    CloseFds = "close file descriptors",
    PreserveFds = "preserve file descriptors",
    AwaitStart = "wait for start",
    RunHook = "run hook",
    ExecProgram = "exec",
    // Live containers.
    ReadProc = "read",
    WriteProc = "write",
    Pause = "pause",
    Resume = "resume",
    Update = "update",
    Stats = "read statistics of",
    ListProcesses = "list processes of",
    Checkpoint = "checkpoint",
    Restore = "restore",
    CallCriu = "call criu",
    Systemd = "ask systemd to",
    Notify = "proxy sd_notify for",
    Terminal = "set up the terminal",
}

impl Error {
    /// The kernel refused an act.
    #[must_use]
    pub fn os(doing: Doing, errno: Errno) -> Self {
        Self::new(doing, Cause::Os(errno))
    }

    /// An act broke a rule, said in `why`.
    pub fn rule(doing: Doing, why: impl Into<Box<str>>) -> Self {
        Self::new(doing, Cause::Rule(bounded(why.into())))
    }

    /// As [`rule`](Self::rule), with the words of another program, to their end: the last line may be
    /// the one that matters. How much is kept of them is for the caller to bound.
    pub(crate) fn quoting(doing: Doing, words: impl Into<Box<str>>) -> Self {
        Self::new(doing, Cause::Rule(words.into()))
    }

    /// This failure, seen as part of a larger act.
    #[must_use]
    pub fn within(self, doing: Doing) -> Self {
        Self::new(doing, Cause::Within(self))
    }

    fn new(doing: Doing, cause: Cause) -> Self {
        Self(Box::new(Inner {
            doing,
            field: None,
            subject: None,
            hint: None,
            cause,
        }))
    }

    /// Names the thing acted on.
    #[must_use]
    pub fn on(mut self, subject: impl Display) -> Self {
        self.0.subject = Some(bounded(subject.to_string().into()));
        self
    }

    /// Names the field of config.json that asked for the act, as `linux.namespaces[1].path`.
    #[must_use]
    pub fn field(mut self, field: impl Display) -> Self {
        self.0.field = Some(field.to_string().into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.0.hint = Some(hint.to_string().into());
        self
    }

    /// The rule that was broken, or the errno, without the act.
    #[must_use]
    pub fn why(&self) -> String {
        match &self.0.cause {
            Cause::Os(errno) => libc_words(*errno),
            Cause::Rule(why) => why.to_string(),
            Cause::Within(error) => error.why(),
        }
    }

    /// What was being done.
    #[must_use]
    pub fn doing(&self) -> Doing {
        self.0.doing
    }

    /// The innermost errno, if the kernel was the cause.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match &self.0.cause {
            Cause::Os(errno) => Some(*errno),
            Cause::Rule(_) => None,
            Cause::Within(error) => error.errno(),
        }
    }

    /// Whether this failure, or one within it, is of that act.
    #[must_use]
    pub fn involves(&self, doing: Doing) -> bool {
        self.0.doing == doing
            || matches!(&self.0.cause, Cause::Within(error) if error.involves(doing))
    }

    /// The bytes of this error for the stage socket, at most `limit` of them.
    ///
    /// Texts that do not fit are cut; the acts and the errno always arrive.
    #[must_use]
    pub fn encode(&self, limit: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut next = Some(self);
        while let Some(Self(inner)) = next {
            out.extend((inner.doing as u16).to_le_bytes());
            for text in [&inner.field, &inner.subject, &inner.hint] {
                put(&mut out, text.as_deref(), limit);
            }
            next = match &inner.cause {
                Cause::Os(errno) => {
                    out.push(0);
                    out.extend((*errno as i32).to_le_bytes());
                    None
                }
                Cause::Rule(why) => {
                    out.push(1);
                    put(&mut out, Some(why), limit);
                    None
                }
                Cause::Within(error) => {
                    out.push(2);
                    Some(error)
                }
            };
        }
        out
    }

    /// The error that [`encode`](Self::encode) made these bytes of; `None` if nothing did.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let error = take_error(&mut bytes, 16)?;
        bytes.is_empty().then_some(error)
    }
}

/// A text as an error holds it: a config may name a path of a hundred megabytes, and nobody reads on.
fn bounded(text: Box<str>) -> Box<str> {
    /// Longer than any path that the kernel takes.
    const LONG: usize = 8192;
    if text.len() <= LONG {
        return text;
    }
    let start = text.get(..text.floor_char_boundary(LONG / 2));
    format!("{}... ({} bytes)", start.unwrap_or_default(), text.len()).into()
}

/// Room kept for the fixed parts of the records that follow a text.
const RESERVE: usize = 256;

fn put(out: &mut Vec<u8>, text: Option<&str>, limit: usize) {
    let Some(text) = text else {
        return out.extend(u16::MAX.to_le_bytes());
    };
    let room = limit
        .saturating_sub(out.len() + RESERVE)
        .min(usize::from(u16::MAX - 1));
    let mut end = text.len().min(room);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend(u16::try_from(end).unwrap_or(0).to_le_bytes());
    out.extend(text.as_bytes().iter().take(end));
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_text(bytes: &mut &[u8]) -> Option<Option<Box<str>>> {
    let length = u16::from_le_bytes(take(bytes)?);
    if length == u16::MAX {
        return Some(None);
    }
    let (text, rest) = bytes.split_at_checked(usize::from(length))?;
    *bytes = rest;
    Some(Some(std::str::from_utf8(text).ok()?.into()))
}

fn take_error(bytes: &mut &[u8], depth: usize) -> Option<Error> {
    let doing = Doing::decode(u16::from_le_bytes(take(bytes)?))?;
    let field = take_text(bytes)?;
    let subject = take_text(bytes)?;
    let hint = take_text(bytes)?;
    let cause = match take::<1>(bytes)? {
        [0] => Cause::Os(Errno::from_raw(i32::from_le_bytes(take(bytes)?))),
        [1] => Cause::Rule(take_text(bytes)??),
        [2] => Cause::Within(take_error(bytes, depth.checked_sub(1)?)?),
        _ => return None,
    };
    Some(Error(Box::new(Inner {
        doing,
        field,
        subject,
        hint,
        cause,
    })))
}

/// `create web1: mount proc at /proc (mounts[0]): operation not permitted (EPERM); a hint`.
///
/// The errno's words are libc's, in lower case: runc's callers match on them.
impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            doing,
            field,
            subject,
            hint,
            cause,
        } = &*self.0;
        f.write_str(doing.text())?;
        if let Some(subject) = subject {
            write!(f, " {subject}")?;
        }
        if let Some(field) = field {
            write!(f, " ({field})")?;
        }
        f.write_str(": ")?;
        match cause {
            // Callers compare runc's whole line here: `exec /run.sh: no such file or directory`.
            Cause::Os(errno) if *doing == Doing::ExecProgram => f.write_str(&words(*errno))?,
            Cause::Os(errno) => write!(f, "{} ({errno:?})", words(*errno))?,
            Cause::Rule(why) => f.write_str(why)?,
            Cause::Within(error) => error.fmt(f)?,
        }
        if let Some(hint) = hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// An errno in libc's words, starting in lower case as Go and runc print it.
fn words(errno: Errno) -> String {
    let words = libc_words(errno);
    let mut letters = words.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(letters).collect()
}

/// Of strerror(3): nix has words of its own for some, as "Try again".
fn libc_words(errno: Errno) -> String {
    let words = std::io::Error::from(errno).to_string();
    match words.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => words,
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            Cause::Os(errno) => Some(errno),
            Cause::Rule(_) => None,
            Cause::Within(error) => Some(error),
        }
    }
}

/// Turns a syscall's failure into an [`Error`]: `open(path).doing(Doing::OpenBundle)`.
pub trait Act<T> {
    /// Says what the failed call was part of.
    fn doing(self, doing: Doing) -> Result<T>;
}

impl<T> Act<T> for nix::Result<T> {
    fn doing(self, doing: Doing) -> Result<T> {
        self.map_err(|errno| Error::os(doing, errno))
    }
}

impl<T> Act<T> for std::io::Result<T> {
    fn doing(self, doing: Doing) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Error::os(doing, Errno::from_raw(errno)),
            None => Error::rule(doing, error.to_string()),
        })
    }
}

/// Adds what only the caller knows to a failure: `....on(path).field("root.path")?`.
pub trait Explain: Sized {
    /// See [`Error::on`].
    #[must_use]
    fn on(self, subject: impl Display) -> Self;
    /// See [`Error::field`].
    #[must_use]
    fn field(self, field: impl Display) -> Self;
    /// See [`Error::hint`].
    #[must_use]
    fn hint(self, hint: impl Display) -> Self;
    /// See [`Error::within`].
    #[must_use]
    fn within(self, doing: Doing) -> Self;
}

impl<T> Explain for Result<T> {
    fn on(self, subject: impl Display) -> Self {
        self.map_err(|error| error.on(subject))
    }
    fn field(self, field: impl Display) -> Self {
        self.map_err(|error| error.field(field))
    }
    fn hint(self, hint: impl Display) -> Self {
        self.map_err(|error| error.hint(hint))
    }
    fn within(self, doing: Doing) -> Self {
        self.map_err(|error| error.within(doing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Error {
        Error::os(Doing::Mount, Errno::EPERM)
            .on("proc at /proc")
            .field("mounts[0]")
            .hint("a hint")
            .within(Doing::Create)
            .on("web1")
    }

    #[test]
    fn an_error_is_one_line_that_names_act_field_subject_and_errno() {
        assert_eq!(
            sample().to_string(),
            "create web1: mount proc at /proc (mounts[0]): operation not permitted (EPERM); a hint"
        );
    }

    #[test]
    fn an_error_is_no_longer_than_one_reads() {
        let error = Error::rule(Doing::CheckConfig, "ä".repeat(1 << 20)).on("x".repeat(1 << 20));
        let text = error.to_string();
        assert!(text.len() < 10_000, "{}", text.len());
        assert!(text.contains("xxx... (1048576 bytes): ää"), "{text}");
    }

    #[test]
    fn an_errno_is_told_in_the_words_of_libc() {
        let error = Error::os(Doing::Clone, Errno::EAGAIN);
        let text = "clone the container's process: resource temporarily unavailable (EAGAIN)";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_failed_exec_reads_as_runc_prints_it() {
        let error = Error::os(Doing::ExecProgram, Errno::ENOENT).on("/run.sh");
        assert_eq!(error.to_string(), "exec /run.sh: no such file or directory");
    }

    #[test]
    fn an_error_crosses_the_wire_unchanged() {
        assert_eq!(Error::decode(&sample().encode(4096)), Some(sample()));
    }

    #[test]
    fn a_long_text_is_cut_and_the_errno_survives() {
        let error = Error::os(Doing::Mount, Errno::EPERM)
            .on("é".repeat(9000))
            .within(Doing::Run);
        let bytes = error.encode(4096);
        assert!(bytes.len() <= 4096);
        assert_eq!(
            Error::decode(&bytes).and_then(|e| e.errno()),
            Some(Errno::EPERM)
        );
    }

    #[test]
    fn truncated_bytes_are_no_error_value_and_no_panic() {
        let bytes = sample().encode(4096);
        for end in 0..bytes.len() {
            assert_eq!(Error::decode(&bytes[..end]), None);
        }
    }
}
