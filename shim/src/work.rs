//! What may take time: each call that starts a program or waits for one has a thread of its own.
//!
//! One thread always waits for work; whoever takes some leaves a new one behind who waits. So each
//! descends from the first, which is older than the jail of the thread that serves (`jail`).
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    waiting: VecDeque<Job>,
    /// Done even when all hands are full.
    urgent: VecDeque<Job>,
    busy: usize,
    /// Threads that wait, or are about to: one, or none if there was none to be had.
    idle: usize,
}

impl Desk {
    /// What to do next, and whether it takes a hand.
    fn pick(&mut self) -> Option<(Job, usize)> {
        if let Some(job) = self.urgent.pop_front() {
            return Some((job, 0));
        }
        if self.busy >= HANDS {
            return None;
        }
        let job = self.waiting.pop_front()?;
        self.busy += 1;
        Some((job, 1))
    }
}

#[derive(Default)]
struct Office {
    desk: Mutex<Desk>,
    bell: Condvar,
}

/// Those who do it.
#[derive(Clone)]
pub struct Workers(Arc<Office>);

impl Workers {
    /// The first of them.
    pub fn start() -> std::io::Result<Self> {
        let workers = Self(Arc::default());
        workers.desk().idle = 1;
        workers.hire()?;
        Ok(workers)
    }

    /// Has a job done; `false` if there is too much to do already.
    pub fn take(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let mut desk = self.desk();
        if desk.waiting.len() >= QUEUE {
            return false;
        }
        desk.waiting.push_back(Box::new(job));
        self.0.bell.notify_one();
        true
    }

    /// Has a job done that the others may depend on.
    pub fn take_first(&self, job: impl FnOnce() + Send + 'static) {
        self.desk().urgent.push_back(Box::new(job));
        self.0.bell.notify_one();
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        let desk = self.0.desk.lock();
        desk.unwrap_or_else(PoisonError::into_inner)
    }

    fn hire(&self) -> std::io::Result<()> {
        let all = self.clone();
        let thread = Builder::new().stack_size(STACK);
        thread.spawn(move || all.work()).map(drop)
    }

    fn work(&self) {
        let mut desk = self.desk();
        desk.idle -= 1;
        loop {
            let Some((job, hand)) = desk.pick() else {
                if desk.idle > 0 {
                    return;
                }
                desk.idle += 1;
                desk = self
                    .0
                    .bell
                    .wait(desk)
                    .unwrap_or_else(PoisonError::into_inner);
                desk.idle -= 1;
                continue;
            };
            if desk.idle == 0 {
                desk.idle += 1;
                drop(desk);
                // Without another one, the jobs that come meanwhile wait for this one's end.
                if self.hire().is_err() {
                    self.desk().idle -= 1;
                }
            } else {
                drop(desk);
            }
            job();
            desk = self.desk();
            desk.busy -= hand;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn all_jobs_are_done_and_one_thread_stays() {
        let workers = Workers::start().unwrap();
        let (done, all) = channel();
        for number in 0..500 {
            let done = done.clone();
            assert!(workers.take(move || done.send(number).unwrap()));
        }
        let mut numbers: Vec<i32> = (0..500).map(|_| all.recv().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        while workers.desk().busy > 0 {
            std::thread::yield_now();
        }
        assert_eq!(workers.desk().idle, 1);
    }

    #[test]
    fn full_hands_keep_nobody_from_what_is_urgent() {
        let workers = Workers::start().unwrap();
        let (hold, held) = channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (done, all) = channel();
        for _ in 0..HANDS + 3 {
            let (held, done) = (Arc::clone(&held), done.clone());
            workers.take(move || {
                held.lock().unwrap().recv().unwrap();
                done.send("job").unwrap();
            });
        }
        let told = done.clone();
        workers.take_first(move || told.send("urgent").unwrap());
        assert_eq!(all.recv().unwrap(), "urgent");
        assert!(workers.desk().busy <= HANDS);
        for _ in 0..HANDS + 3 {
            hold.send(()).unwrap();
        }
        assert!((0..HANDS + 3).all(|_| all.recv().unwrap() == "job"));
    }
}
