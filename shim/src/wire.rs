//! ttrpc's frames: ten bytes of header, then a protobuf message (containerd/ttrpc, PROTOCOL.md).
//!
//! A server of our own because the one of the `ttrpc` crate keeps a thread per call, and a `Wait`
//! for each process of a pod is a call that stands open all the process's life (ADR 31).
#![forbid(unsafe_code)]

use crate::status::{Result, Status};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::{self, Request, Response};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of a header.
const HEADER: usize = 10;
/// The longest message that the protocol allows.
const LONGEST: usize = 4 << 20;
/// What may wait for a client that does not read before it is given up.
const BACKLOG: usize = 16 << 20;
/// How much is taken from one client before the others get their turn.
const TURN: usize = 256 << 10;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// Puts a message into a frame.
pub fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend(length.to_be_bytes());
    out.extend(stream.to_be_bytes());
    out.extend([kind, 0]);
    out.extend(payload);
    out
}

/// A request in its frame, as a client sends it.
pub fn request(stream: u32, request: &Request) -> Result<Vec<u8>> {
    Ok(frame(REQUEST, stream, &request.write_to_bytes()?))
}

/// Reads one response from a socket that has a timeout.
pub fn read_response(from: &mut UnixStream) -> Result<Response> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let (length, _, _) = parse_header(&header);
    if length > LONGEST {
        return Err(Status::invalid("the answer is too long"));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Response::parse_from_bytes(&payload)?)
}

/// Length, stream and kind.
fn parse_header(header: &[u8; HEADER]) -> (usize, u32, u8) {
    let [a, b, c, d, e, f, g, h, kind, _flags] = *header;
    let length = u32::from_be_bytes([a, b, c, d]);
    let stream = u32::from_be_bytes([e, f, g, h]);
    (usize::try_from(length).unwrap_or(usize::MAX), stream, kind)
}

/// What comes out of the bytes of a client.
#[derive(Debug)]
pub enum Frame {
    /// A call.
    Call(u32, Box<Request>),
    /// Something that is none: answered with an error.
    Bad(u32, &'static str),
}

/// Takes frames out of a stream of bytes that arrives in pieces.
#[derive(Debug, Default)]
pub struct Parser {
    held: Vec<u8>,
    /// What is left of a message that is too long to be held.
    skip: usize,
}

impl Parser {
    /// Adds bytes and takes the frames that are complete.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Frame> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = bytes.get(skipped..).unwrap_or_default();
        self.held.extend(bytes);
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some(header) = self.held.get(at..).and_then(|rest| rest.first_chunk()) {
            let (length, stream, kind) = parse_header(header);
            let body = at + HEADER;
            if length > LONGEST {
                frames.push(Frame::Bad(stream, "the message is too long"));
                let here = self.held.len() - body;
                self.skip = length.saturating_sub(here);
                at = body + length.min(here);
                continue;
            }
            let Some(payload) = self.held.get(body..body + length) else {
                break;
            };
            frames.push(if kind != REQUEST {
                Frame::Bad(stream, "only requests are expected here")
            } else {
                match Request::parse_from_bytes(payload) {
                    Ok(request) => Frame::Call(stream, Box::new(request)),
                    Err(_) => Frame::Bad(stream, "the request is garbled"),
                }
            });
            at = body + length;
        }
        self.held.drain(..at);
        if self.held.is_empty() {
            // A long message was held once; it need not be paid for ever.
            self.held.shrink_to(4096);
        }
        frames
    }
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    socket: UnixStream,
    /// What it has not read yet.
    out: Mutex<Vec<u8>>,
    left: AtomicBool,
}

/// Whether a client is still there.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing more for now.
    Quiet,
    /// There may be more: others first.
    More,
    /// It has gone.
    Closed,
}

impl Connection {
    /// Takes a connected socket over.
    pub fn new(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            out: Mutex::new(Vec::new()),
            left: AtomicBool::new(false),
        })
    }

    /// Its client has gone.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// The socket, to wait at.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what is there, for a while.
    pub fn read(&self, parser: &mut Parser, buffer: &mut [u8], frames: &mut Vec<Frame>) -> Line {
        let mut taken = 0;
        while taken < TURN {
            match (&self.socket).read(buffer) {
                Ok(0) => return Line::Closed,
                Ok(count) => {
                    taken += count;
                    frames.extend(parser.feed(buffer.get(..count).unwrap_or_default()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Line::Quiet,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Line::Closed,
            }
        }
        Line::More
    }

    /// Sends a frame, or keeps what the client does not take now.
    fn send(&self, bytes: &[u8]) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.len() > BACKLOG {
            self.socket.shutdown(std::net::Shutdown::Both).unwrap_or(());
            out.clear();
            return;
        }
        out.extend(bytes);
        self.write(&mut out);
    }

    /// Sends what was kept.
    pub fn flush(&self) {
        self.write(&mut self.out.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut done = 0;
        while let Some(rest) = out.get(done..).filter(|rest| !rest.is_empty()) {
            match (&self.socket).write(rest) {
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It has gone; the reading side will notice.
                Err(_) => done = out.len(),
            }
        }
        out.drain(..done);
        if out.is_empty() {
            out.shrink_to(4096);
        }
    }
}

/// The right to answer one call, now or later, from any thread.
#[derive(Debug)]
pub struct Reply {
    connection: Arc<Connection>,
    stream: u32,
}

impl Reply {
    /// For a call on that stream.
    pub fn new(connection: Arc<Connection>, stream: u32) -> Self {
        Self { connection, stream }
    }

    /// The same right once more: of the two, one is to be used.
    pub fn copy(&self) -> Self {
        Self::new(Arc::clone(&self.connection), self.stream)
    }

    /// Whether the client is still there.
    pub fn is_awaited(&self) -> bool {
        !self.connection.left.load(Ordering::Relaxed)
    }

    /// Answers.
    pub fn settle(self, result: Result<Vec<u8>>) {
        let mut response = Response::new();
        let mut status = ttrpc::Status::new();
        match result {
            Ok(payload) => response.payload = payload,
            Err(failure) => {
                status.code = failure.code.into();
                status.message = failure.message;
            }
        }
        response.status = Some(status).into();
        let payload = response.write_to_bytes().unwrap_or_default();
        self.connection
            .send(&frame(RESPONSE, self.stream, &payload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str) -> Vec<u8> {
        let mut call = Request::new();
        call.method = method.into();
        request(1, &call).expect("a frame")
    }

    #[test]
    fn a_call_arrives_however_it_is_cut() {
        let bytes = [call("One"), call("Two")].concat();
        for size in 1..bytes.len() {
            let mut parser = Parser::default();
            let frames: Vec<_> = bytes
                .chunks(size)
                .flat_map(|part| parser.feed(part))
                .collect();
            let names: Vec<_> = frames
                .iter()
                .map(|frame| match frame {
                    Frame::Call(1, request) => request.method.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(names, ["One", "Two"], "in pieces of {size}");
            assert!(parser.held.is_empty());
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_skipped_and_the_next_one_heard() {
        let length = LONGEST + 5;
        let mut bytes = frame(REQUEST, 7, &vec![b'x'; length]);
        bytes.extend(call("Next"));
        for size in [1000, 65536, bytes.len()] {
            let mut parser = Parser::default();
            let frames: Vec<_> = bytes
                .chunks(size)
                .flat_map(|part| parser.feed(part))
                .collect();
            assert!(matches!(frames.first(), Some(Frame::Bad(7, _))));
            assert!(matches!(frames.get(1), Some(Frame::Call(1, _))), "{size}");
            assert_eq!(frames.len(), 2);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let mut parser = Parser::default();
        let frames = parser.feed(&frame(REQUEST, 3, b"\xff\xff\xff\xff"));
        assert!(matches!(frames.as_slice(), [Frame::Bad(3, _)]));
        let frames = parser.feed(&frame(9, 5, b""));
        assert!(matches!(frames.as_slice(), [Frame::Bad(5, _)]));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // A xorshift is all the chance this needs, and the same each time.
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut parser = Parser::default();
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..seed % 64)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed.to_le_bytes()[0]
                })
                .collect();
            seed = seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1);
            parser.feed(&noise);
            assert!(parser.held.len() <= LONGEST + HEADER + 64);
        }
    }
}
