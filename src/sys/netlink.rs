//! rtnetlink(7): the few requests that it takes to move a network device with its addresses.
//!
//! A socket belongs to the network namespace that it was opened in, and speaks of that one only.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, send, socket,
};
use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// NLM_F_CREATE | NLM_F_EXCL.
const NEW: u16 = 0x600;
/// In an answer: the table changed while it was read.
const INTERRUPTED: u16 = 0x10;

const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;

/// Not given by a protocol with a lifetime (IFA_F_PERMANENT).
const PERMANENT: u32 = 0x80;
/// What of an address's flags is its owner's wish rather than its present state: IFA_F_NODAD,
/// IFA_F_HOMEADDRESS, IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE, IFA_F_MCAUTOJOIN.
const WISHES: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;

/// The lengths of nlmsghdr, ifinfomsg and ifaddrmsg.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;

/// A network device of the socket's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) is_up: bool,
}

/// An address of a device, as the kernel tells it and takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// family, prefix length, flags and scope of ifaddrmsg.
    head: [u8; 4],
    flags: u32,
    /// IFA_LOCAL, IFA_ADDRESS and IFA_BROADCAST, as far as it has them.
    parts: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Whether it stays until somebody takes it away.
    pub(crate) fn is_permanent(&self) -> bool {
        self.flags & PERMANENT != 0
    }

    /// Whether it means something beyond the host and the link (RT_SCOPE_UNIVERSE).
    pub(crate) fn is_global(&self) -> bool {
        self.head[3] == 0
    }
}

/// A socket to the routing subsystem of one network namespace.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl Netlink {
    /// Of the namespace that this process is in.
    pub(crate) fn open() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        Ok(Self {
            socket,
            sequence: Cell::new(0),
        })
    }

    /// All devices.
    pub(crate) fn links(&self) -> nix::Result<Vec<Link>> {
        let answers = self.ask(GETLINK, DUMP, &[0; LINK])?;
        Ok(answers.iter().filter_map(|body| link(body)).collect())
    }

    /// The addresses of one device, of every family.
    pub(crate) fn addresses(&self, index: u32) -> nix::Result<Vec<Address>> {
        let answers = self.ask(GETADDR, DUMP, &[0; ADDRESS])?;
        let all = answers.iter().filter_map(|body| address(body));
        Ok(all.filter(|(of, _)| *of == index).map(|(_, a)| a).collect())
    }

    /// Gives a device to the namespace behind `target`, under `name`, in one step.
    pub(crate) fn hand_over(
        &self,
        index: u32,
        name: &str,
        target: BorrowedFd<'_>,
    ) -> nix::Result<()> {
        let mut body = of_link(index, 0);
        put(&mut body, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        let number = target.as_raw_fd().to_ne_bytes();
        put(&mut body, IFLA_NET_NS_FD, &number);
        self.ask(NEWLINK, ACK, &body).map(drop)
    }

    /// Brings a device up.
    pub(crate) fn raise(&self, index: u32) -> nix::Result<()> {
        self.ask(NEWLINK, ACK, &of_link(index, IFF_UP)).map(drop)
    }

    /// Gives a device an address; one that it has already is no error.
    pub(crate) fn add(&self, index: u32, address: &Address) -> nix::Result<()> {
        let mut body = address.head.to_vec();
        // The old byte of flags: the attribute has them all.
        if let Some(byte) = body.get_mut(2) {
            *byte = 0;
        }
        body.extend(index.to_ne_bytes());
        let flags = address.flags & WISHES;
        put(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
        for (kind, value) in &address.parts {
            put(&mut body, *kind, value);
        }
        match self.ask(NEWADDR, ACK | NEW, &body) {
            Ok(_) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a request and collects the answers' bodies, up to the end of a dump or the
    /// acknowledgement.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> nix::Result<Vec<Vec<u8>>> {
        // A table that keeps changing is told as it is.
        for _ in 0..8 {
            let (answers, whole) = self.ask_once(kind, flags, body)?;
            if whole {
                return Ok(answers);
            }
        }
        Err(Errno::EAGAIN)
    }

    fn ask_once(&self, kind: u16, flags: u16, body: &[u8]) -> nix::Result<(Vec<Vec<u8>>, bool)> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut packet = length.to_ne_bytes().to_vec();
        packet.extend(kind.to_ne_bytes());
        packet.extend((REQUEST | flags).to_ne_bytes());
        packet.extend(sequence.to_ne_bytes());
        packet.extend([0; 4]);
        packet.extend(body);
        send(self.socket.as_raw_fd(), &packet, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut whole = true;
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            let length = match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                // Any process may send to this socket; the kernel is 0.
                Ok((length, Some(sender))) if sender.pid() == 0 => length,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((message, next)) = split(rest) {
                rest = next;
                if message.sequence != sequence {
                    continue;
                }
                whole &= message.flags & INTERRUPTED == 0;
                match message.kind {
                    ERROR => {
                        let code = word(message.body, 0).unwrap_or(0).cast_signed();
                        return match code {
                            0 => Ok((answers, whole)),
                            code => Err(Errno::from_raw(code.saturating_neg())),
                        };
                    }
                    DONE => return Ok((answers, whole)),
                    _ => answers.push(message.body.to_vec()),
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The first message of a packet, and the rest.
fn split(packet: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(word(packet, 0)?).ok()?;
    let message = Message {
        kind: half(packet, 4)?,
        flags: half(packet, 6)?,
        sequence: word(packet, 8)?,
        body: packet.get(HEADER..length)?,
    };
    Some((message, packet.get(aligned(length)..).unwrap_or_default()))
}

/// What is in an answer about a link.
fn link(body: &[u8]) -> Option<Link> {
    let name = attributes(body, LINK).find(|(kind, _)| *kind == IFLA_IFNAME);
    let name = name.and_then(|(_, value)| value.split(|byte| *byte == 0).next())?;
    Some(Link {
        index: word(body, 4)?,
        name: String::from_utf8_lossy(name).into_owned(),
        is_up: word(body, 8)? & IFF_UP != 0,
    })
}

/// What is in an answer about an address, and the device it is of.
fn address(body: &[u8]) -> Option<(u32, Address)> {
    let head: [u8; 4] = *body.first_chunk()?;
    let mut flags = u32::from(head[2]);
    let mut parts = Vec::new();
    for (kind, value) in attributes(body, ADDRESS) {
        match kind {
            IFA_LOCAL | IFA_ADDRESS | IFA_BROADCAST => parts.push((kind, value.to_vec())),
            IFA_FLAGS => flags = word(value, 0)?,
            _ => {}
        }
    }
    Some((word(body, 4)?, Address { head, flags, parts }))
}

/// The attributes behind the fixed part of a body.
fn attributes(body: &[u8], from: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(from..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        let value = rest.get(4..length)?;
        // The top bits say how the value is built.
        let kind = half(rest, 2)? & 0x3fff;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A request about a link, with the flags to raise.
fn of_link(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body
}

/// Appends an attribute.
fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(aligned(body.len()), 0);
}

/// Messages and attributes begin at multiples of four bytes.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_told_with_its_address() {
        let netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert_eq!(lo.index, 1);
        let addresses = netlink.addresses(lo.index).unwrap();
        if lo.is_up {
            let local = (IFA_LOCAL, vec![127, 0, 0, 1]);
            let found = addresses.iter().find(|a| a.parts.contains(&local));
            let found = found.unwrap();
            assert!(found.is_permanent() && !found.is_global());
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_an_errno() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.raise(0x7fff_0000), Err(Errno::ENODEV));
    }

    #[test]
    fn broken_packets_end_the_reading() {
        assert!(split(&[]).is_none());
        assert!(split(&[200, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(link(&[0; LINK]).is_none());
        // A length of zero must not be read forever.
        assert_eq!(attributes(&[0; 32], LINK).count(), 0);
        assert!(address(&[0; 3]).is_none());
    }
}
