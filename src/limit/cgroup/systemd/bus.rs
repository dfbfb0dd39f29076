//! LIMIT, the systemd driver: one connection to a systemd instance, and calls of its manager.
//!
//! Blocking, with a deadline for everything. Root talks to the system instance by the private
//! socket that systemctl uses, or where that is not, over the system bus; a user to his own
//! instance over the session bus (ADR 28).
#![forbid(unsafe_code)]

use super::message::{self, Message, Method, Value};
use crate::error::{Act, Doing, Error, Explain, Result};
use crate::host::in_user_namespace;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::{geteuid, read};
use std::env::var;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const SERVICE: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

const BUS: &str = "org.freedesktop.DBus";

/// How long a job may take: as long as runc waits for one.
const PATIENCE: Duration = Duration::from_secs(30);

/// More than this without a whole message is nonsense.
const MOST: usize = 1 << 23;

/// A connection that is ready for calls.
#[derive(Debug)]
pub(super) struct Bus {
    socket: OwnedFd,
    place: String,
    input: Vec<u8>,
    serial: u32,
    /// Jobs that ended: object path, how, and who says so.
    ended: Vec<(String, String, String)>,
    deadline: Instant,
}

/// What systemd answers that does not do as asked.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) name: String,
    text: String,
}

impl Refusal {
    /// As an error about that act.
    pub(super) fn about(self, act: impl std::fmt::Display) -> Error {
        let Self { name, text } = self;
        let why = if text.is_empty() { name.clone() } else { text };
        let error = Error::rule(Doing::Systemd, why).on(act);
        match name.rsplit('.').next() {
            Some("UnitExists") => error.hint(
                "another container or service has this unit: choose another linux.cgroupsPath, or look at `systemctl status`",
            ),
            Some("InteractiveAuthorizationRequired" | "AccessDenied") => {
                error.hint("only root may use the system instance; a user has `systemd --user`")
            }
            _ => error,
        }
    }
}

/// Where an instance may listen: the path of a socket (abstract with a leading NUL), and whether
/// a message bus is between.
type Place = (String, bool);

impl Bus {
    /// Connects to the system's or the user's own instance.
    pub(super) fn open(user: bool) -> Result<Self> {
        let mut failed = None;
        for (path, shared) in places(user)? {
            match Self::connect(&path) {
                Ok(mut bus) => {
                    bus.introduce()?;
                    if shared {
                        bus.join()?;
                    }
                    return Ok(bus);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let none = || Error::rule(Doing::Systemd, "no address of a bus is known").on("listen");
        let hint = match user {
            true => {
                "is there a user session, with XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS set?"
            }
            false => "is systemd running? without it, leave out --systemd-cgroup",
        };
        Err(failed.unwrap_or_else(none).hint(hint))
    }

    fn connect(path: &str) -> Result<Self> {
        let shown = path.replace('\0', "@");
        let subject = format_args!("listen at {shown}");
        let connected = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            // Also of the wait for a place in a queue that is full.
            let limit = TimeVal::seconds(PATIENCE.as_secs().cast_signed());
            setsockopt(&socket, sockopt::SendTimeout, &limit)?;
            let address = match path.strip_prefix('\0') {
                Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
                None => UnixAddr::new(path)?,
            };
            connect(socket.as_raw_fd(), &address)?;
            Ok(socket)
        };
        Ok(Self {
            socket: connected().doing(Doing::Systemd).on(subject)?,
            place: shown,
            input: Vec::new(),
            serial: 0,
            ended: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        })
    }

    /// Says who we are: by the kernel's word (SASL "EXTERNAL").
    fn introduce(&mut self) -> Result<()> {
        // In a user namespace our number is not the one that the other side sees: leave it out.
        let whom = match in_user_namespace() {
            true => "\r\nDATA".into(),
            false => geteuid()
                .to_string()
                .bytes()
                .fold(String::from(" "), |mut hex, digit| {
                    hex.push('3');
                    hex.push(char::from(digit));
                    hex
                }),
        };
        self.send(format!("\0AUTH EXTERNAL{whom}\r\nBEGIN\r\n").as_bytes())?;
        loop {
            while let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                if line.starts_with(b"OK ") {
                    return Ok(());
                }
                if !line.starts_with(b"DATA") {
                    return Err(self.broken("it does not take us for the user that we are"));
                }
            }
            self.fill()?;
        }
    }

    /// On a bus: gets us a name, and the news of ended jobs.
    fn join(&mut self) -> Result<()> {
        let at = |member| ("/org/freedesktop/DBus", BUS, member);
        let rule = format!("type='signal',sender='{SERVICE}',path='{MANAGER}',member='JobRemoved'");
        let hello = self.ask(BUS, at("Hello"), &[])?;
        let matched = self.ask(BUS, at("AddMatch"), &[Value::text(rule)])?;
        for serial in [hello, matched] {
            self.answer(serial)?
                .map_err(|refusal| refusal.about("let us onto the bus"))?;
        }
        Ok(())
    }

    /// Calls a method of the manager; the answer is [`answer`](Self::answer)ed later.
    pub(super) fn begin(&mut self, member: &str, arguments: &[Value]) -> Result<u32> {
        self.ask(SERVICE, (MANAGER, INTERFACE, member), arguments)
    }

    /// Asks for a property of the manager, a text.
    pub(super) fn begin_get(&mut self, name: &str) -> Result<u32> {
        let get = (MANAGER, "org.freedesktop.DBus.Properties", "Get");
        self.ask(SERVICE, get, &[Value::text(INTERFACE), Value::text(name)])
    }

    /// Calls a method of the manager.
    pub(super) fn call(
        &mut self,
        member: &str,
        arguments: &[Value],
    ) -> Result<std::result::Result<Message, Refusal>> {
        let serial = self.begin(member, arguments)?;
        self.answer(serial)
    }

    fn ask(&mut self, service: &str, method: Method<'_>, arguments: &[Value]) -> Result<u32> {
        self.serial += 1;
        self.deadline = Instant::now() + PATIENCE;
        self.send(&message::call(self.serial, service, method, arguments))?;
        Ok(self.serial)
    }

    /// Waits for the answer to a call.
    pub(super) fn answer(&mut self, serial: u32) -> Result<std::result::Result<Message, Refusal>> {
        loop {
            let message = self.receive()?;
            match message.kind {
                message::REPLY if message.answers == serial => return Ok(Ok(message)),
                message::ERROR if message.answers == serial => {
                    let text = message
                        .texts()
                        .and_then(|texts| texts.first().map(|one| (*one).into()));
                    return Ok(Err(Refusal {
                        name: message.error,
                        text: text.unwrap_or_default(),
                    }));
                }
                _ => self.note(&message),
            }
        }
    }

    /// Waits until the job that a call started has ended: how, in systemd's word for it.
    pub(super) fn job(&mut self, started: &Message) -> Result<String> {
        let Some(job) = started
            .texts()
            .and_then(|texts| texts.first().map(|one| (*one).to_owned()))
        else {
            return Err(self.broken("an answer without a job"));
        };
        loop {
            // On a bus, anybody could send us such news: the sender's name is the bus's word.
            let ended = self
                .ended
                .iter()
                .position(|(path, _, who)| *path == job && *who == started.sender);
            if let Some(at) = ended {
                return Ok(self.ended.swap_remove(at).1);
            }
            let message = self.receive()?;
            self.note(&message);
        }
    }

    /// Keeps the news of a job; all else that nobody asked for is nothing to us.
    fn note(&mut self, message: &Message) {
        if message.kind == message::SIGNAL
            && message.member == "JobRemoved"
            && message.signature == "uoss"
            && let Some([job, _unit, result]) = message.texts().as_deref()
        {
            let news = ((*job).into(), (*result).into(), message.sender.clone());
            self.ended.push(news);
        }
    }

    fn receive(&mut self) -> Result<Message> {
        loop {
            match message::parse(&self.input) {
                Ok(Some((message, length))) => {
                    self.input.drain(..length);
                    return Ok(message);
                }
                Ok(None) if self.input.len() < MOST => self.fill()?,
                Ok(None) => return Err(self.broken("a message that does not end")),
                Err(why) => return Err(self.broken(why)),
            }
        }
    }

    /// Reads what there is, or waits for it.
    fn fill(&mut self) -> Result<()> {
        let subject = format_args!("answer at {}", self.place);
        let mut buffer = [0; 4096];
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let got = match poll(&mut polled, timeout) {
                Ok(0) => Err(Errno::ETIMEDOUT),
                Ok(_) => read(&self.socket, &mut buffer),
                Err(errno) => Err(errno),
            };
            match got {
                Ok(0) => return Err(self.broken("the connection was closed")),
                Ok(count) => {
                    self.input.extend(buffer.iter().take(count));
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::os(Doing::Systemd, errno).on(subject)),
            }
        }
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let subject = format_args!("listen at {}", self.place);
                    return Err(Error::os(Doing::Systemd, errno).on(subject));
                }
            }
        }
        Ok(())
    }

    fn broken(&self, why: &str) -> Error {
        Error::rule(Doing::Systemd, why).on(format_args!("answer at {}", self.place))
    }
}

/// Where to look for the instance, the best first.
fn places(user: bool) -> Result<Vec<Place>> {
    let said = |name| var(name).ok().filter(|value| !value.is_empty());
    let name = match user {
        true => "DBUS_SESSION_BUS_ADDRESS",
        false => "DBUS_SYSTEM_BUS_ADDRESS",
    };
    if let Some(list) = said(name) {
        let paths: Vec<_> = list.split(';').filter_map(socket_path).collect();
        if paths.is_empty() {
            let why = format!("${name} names no unix socket: {list:?}");
            return Err(Error::rule(Doing::Systemd, why).on("listen"));
        }
        return Ok(paths.into_iter().map(|path| (path, true)).collect());
    }
    Ok(match (user, said("XDG_RUNTIME_DIR")) {
        (true, Some(dir)) => vec![
            (format!("{dir}/bus"), true),
            (format!("{dir}/systemd/private"), false),
        ],
        (true, None) => Vec::new(),
        (false, _) => vec![
            ("/run/systemd/private".into(), false),
            ("/run/dbus/system_bus_socket".into(), true),
        ],
    })
}

/// The socket of an address as `unix:path=/run/user/1000/bus,guid=...`.
fn socket_path(address: &str) -> Option<String> {
    address.strip_prefix("unix:")?.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let path = match key {
            "path" => unescape(value)?,
            "abstract" => format!("\0{}", unescape(value)?),
            _ => return None,
        };
        Some(path)
    })
}

/// `%20` and its like, in an address.
fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        out.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        out.extend(part.bytes().skip(2));
    }
    String::from_utf8(out).ok()
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_socket() {
        let path = |address| socket_path(address);
        assert_eq!(
            path("unix:path=/run/user/1000/bus,guid=0af").as_deref(),
            Some("/run/user/1000/bus")
        );
        assert_eq!(path("unix:path=/a%20b%2fc").as_deref(), Some("/a b/c"));
        assert_eq!(path("unix:abstract=/tmp/x").as_deref(), Some("\0/tmp/x"));
        for other in [
            "tcp:host=x",
            "unix:dir=/tmp",
            "",
            "unix:path=%4",
            "unix:path=%zz",
        ] {
            assert_eq!(path(other), None, "{other}");
        }
    }

    #[test]
    fn a_bus_that_is_away_is_named() {
        let error = Bus::connect("/nowhere/bus")
            .expect_err("no such socket")
            .to_string();
        assert_eq!(
            error,
            "ask systemd to listen at /nowhere/bus: no such file or directory (ENOENT)"
        );
    }

    /// What comes of talking to something that answers with these bytes, and then hangs up.
    fn talk(name: &str, answers: &'static [u8]) -> String {
        let path = std::env::temp_dir().join(format!("creel-bus-{name}-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let other = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut peer, _) = listener.accept().unwrap();
            let mut heard = [0; 512];
            let length = peer.read(&mut heard).unwrap();
            peer.write_all(answers).unwrap();
            drop(peer.shutdown(std::net::Shutdown::Write));
            // Until we hang up, too.
            while peer.read(&mut heard).is_ok_and(|count| count > 0) {}
            length
        });
        let said = (|| {
            let mut bus = Bus::connect(path.to_str().unwrap())?;
            bus.introduce()?;
            bus.call("StopUnit", &[Value::text("x.scope")])?
                .map(|_| "it answered".to_owned())
                .or_else(|refusal| Ok(refusal.about("stop x.scope").to_string()))
        })();
        assert!(other.join().unwrap() > 20, "we introduced ourselves");
        std::fs::remove_file(&path).unwrap();
        said.unwrap_or_else(|error: Error| error.to_string())
    }

    #[test]
    fn a_peer_that_is_no_bus_is_an_error() {
        for (name, answers, why) in [
            ("silent", &b""[..], "the connection was closed"),
            (
                "rejecting",
                b"REJECTED EXTERNAL\r\n",
                "it does not take us for the user that we are",
            ),
            ("leaving", b"OK 1234\r\n", "the connection was closed"),
            (
                "garbled",
                b"OK 1234\r\nHTTP/1.1 400 Bad Request\r\n\r\n",
                "no message of D-Bus version 1",
            ),
            (
                "partial",
                b"OK 1234\r\nl\x02\x01\x01\x09\0\0\0",
                "the connection was closed",
            ),
        ] {
            let said = talk(name, answers);
            assert!(
                said.contains(why) && said.contains("ask systemd to answer at"),
                "{name}: {said}"
            );
        }
    }

    #[test]
    fn a_refusal_is_told_in_systemds_words() {
        let refusal = b"DATA\r\nOK 1234\r\n\
            l\x03\x01\x01\x0d\0\0\0\x07\0\0\0\x27\0\0\0\
            \x05\x01u\0\x01\0\0\0\
            \x04\x01s\0\x0e\0\0\0a.b.UnitExists\0\0\
            \x08\x01g\0\x01s\0\0\
            \x08\0\0\0is there\0";
        let said = talk("refusing", refusal);
        assert!(
            said.starts_with("ask systemd to stop x.scope: is there; another container"),
            "{said}"
        );
    }
}
