//! What containerd is told unasked: one queue, one thread while there is something in it, so that
//! events arrive in the order they happened in.
#![forbid(unsafe_code)]

use crate::status::{Doing, Result, Status};
use crate::wire;
use crate::work::Workers;
use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::ttrpc::Request;
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
/// How long containerd may take for one event.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an event is offered to a containerd that is away: long enough for a restart.
const FRESH: Duration = Duration::from_secs(60);
/// How many are kept meanwhile.
const QUEUE: usize = 2048;
/// How long the thread stays when there is nothing to tell: between a create and its start, say.
const LINGER: Duration = Duration::from_secs(2);

struct Event {
    envelope: Envelope,
    since: Instant,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    /// A thread is at it.
    running: bool,
    /// It has one in its hands.
    sending: bool,
}

struct Inner {
    address: String,
    namespace: String,
    workers: Workers,
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The way to containerd.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

/// The moment, as protobuf has it.
pub fn timestamp(moment: SystemTime) -> Timestamp {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().cast_signed(),
        ..Timestamp::default()
    }
}

impl Publisher {
    /// To the ttrpc socket at that path; an empty one means that nobody listens.
    pub fn new(address: &str, namespace: &str, workers: &Workers) -> Self {
        Self(Arc::new(Inner {
            address: address.trim_start_matches("unix://").into(),
            namespace: namespace.into(),
            workers: workers.clone(),
            queue: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Queues an event; `name` is the message's, in `containerd.events`.
    pub fn send(&self, topic: &str, name: &str, event: &impl Message) {
        if self.0.address.is_empty() {
            return;
        }
        let mut any = Any::new();
        any.type_url = format!("containerd.events.{name}");
        any.value = event.write_to_bytes().unwrap_or_default();
        let mut envelope = Envelope::new();
        envelope.timestamp = Some(timestamp(SystemTime::now())).into();
        envelope.namespace = self.0.namespace.clone();
        envelope.topic = topic.into();
        envelope.event = Some(any).into();
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.events.len() >= QUEUE {
            queue.events.pop_front();
            creel::log::warning(&"containerd takes no events; the oldest is lost");
        }
        queue.events.push_back(Event {
            envelope,
            since: Instant::now(),
        });
        self.0.changed.notify_all();
        if !queue.running {
            queue.running = true;
            let inner = Arc::clone(&self.0);
            self.0.workers.take_first(move || inner.run());
        }
    }

    /// Waits until all is told, or the patience is over.
    pub fn finish(&self, patience: Duration) {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.changed.wait_timeout_while(queue, patience, |queue| {
            queue.sending || !queue.events.is_empty()
        }));
    }
}

impl Inner {
    /// The next event; `None` if there is none for a while: the thread ends then.
    fn next(&self) -> Option<Event> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut queue, _) = self
            .changed
            .wait_timeout_while(queue, LINGER, |queue| queue.events.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let event = queue.events.pop_front();
        queue.running = event.is_some();
        queue.sending = event.is_some();
        event
    }

    fn run(&self) {
        let mut line = None;
        while let Some(event) = self.next() {
            // A containerd that is away is waited for; one that says no is not asked again.
            while let Err(error) = self.forward(&mut line, &event.envelope) {
                line = None;
                if error.refused || event.since.elapsed() > FRESH {
                    let topic = &event.envelope.topic;
                    creel::log::warning(&format_args!("event {topic} is lost: {}", error.status));
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.sending = false;
            self.changed.notify_all();
        }
    }

    fn forward(
        &self,
        line: &mut Option<Line>,
        envelope: &Envelope,
    ) -> std::result::Result<(), Failure> {
        let mut forward = ForwardRequest::new();
        forward.envelope = Some(envelope.clone()).into();
        let line = match line {
            Some(line) => line,
            None => line.insert(self.connect()?),
        };
        let mut request = Request::new();
        request.service = SERVICE.into();
        request.method = "Forward".into();
        request.payload = forward.write_to_bytes().map_err(Status::from)?;
        request.timeout_nano = i64::try_from(PATIENCE.as_nanos()).unwrap_or(0);
        // A client's streams have odd numbers, each greater than the one before.
        let stream = line.next;
        line.next = stream.wrapping_add(2);
        line.socket
            .write_all(&wire::request(stream, &request)?)
            .map_err(Status::from)?;
        let response = wire::read_response(&mut line.socket)?;
        match response.status.as_ref() {
            Some(status) if status.code.value() != 0 => Err(Failure {
                refused: true,
                status: Status::invalid(&status.message),
            }),
            _ => Ok(()),
        }
    }

    fn connect(&self) -> Result<Line> {
        let socket = UnixStream::connect(&self.address).doing(&self.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Line { socket, next: 1 })
    }
}

/// A connection to containerd and the number of its next stream.
struct Line {
    socket: UnixStream,
    next: u32,
}

struct Failure {
    /// containerd has heard it and does not want it.
    refused: bool,
    status: Status,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            refused: false,
            status,
        }
    }
}
