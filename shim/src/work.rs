//! What may take time: each call that starts a program or waits for one runs on a thread of its
//! own, for as long as it takes and no longer. An idle shim has one thread.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

/// How many at a time.
const HANDS: usize = 64;
/// How many may wait for a hand.
const QUEUE: usize = 4096;
/// A worker's stack; only what is touched costs memory.
const STACK: usize = 256 << 10;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Desk {
    busy: usize,
    waiting: VecDeque<Job>,
}

/// Those who do it.
#[derive(Clone, Default)]
pub struct Workers(Arc<Mutex<Desk>>);

impl Workers {
    /// Has a job done; `false` if there is too much to do already, or no thread to be had.
    pub fn take(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let mut desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if desk.waiting.len() >= QUEUE {
            return false;
        }
        desk.waiting.push_back(Box::new(job));
        if desk.busy >= HANDS {
            return true;
        }
        let all = self.clone();
        let spawned = Builder::new()
            .stack_size(STACK)
            .spawn(move || all.work())
            .is_ok();
        if spawned {
            desk.busy += 1;
        } else if desk.busy == 0 {
            // Nobody will come for it.
            desk.waiting.pop_back();
            return false;
        }
        true
    }

    fn work(&self) {
        loop {
            let job = {
                let mut desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                match desk.waiting.pop_front() {
                    Some(job) => job,
                    None => {
                        desk.busy -= 1;
                        return;
                    }
                }
            };
            job();
        }
    }
}
