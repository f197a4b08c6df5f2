//! Clients who want things, all at once.

use std::collections::BTreeMap;
use std::io;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::nanny::ask;

/// Requests under way, and how all others ended.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    under_way: Vec<JoinHandle<(String, io::Result<u16>)>>,
    pub(crate) answers: BTreeMap<u16, u64>,
    pub(crate) dropped: u64,
}

/// A start has 120 s, and may first wait for a stop that takes its time.
const PATIENCE: Duration = Duration::from_secs(200);
/// No more than that at once.
const MAX_UNDER_WAY: usize = 64;

impl Clients {
    pub(crate) fn send(&mut self, address: &str, path: String, body: &'static str) {
        self.sweep();
        if self.under_way.len() >= MAX_UNDER_WAY {
            return;
        }
        let address = address.to_owned();
        self.under_way.push(std::thread::spawn(move || {
            let answer = ask(&address, "POST", &path, body, PATIENCE);
            (path, answer.map(|(status, _)| status))
        }));
    }

    /// Waits until all have their answer; what is wrong with those who have not, and with answers
    /// that no client should ever get.
    pub(crate) fn wait(&mut self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        while self.under_way.iter().any(|client| !client.is_finished()) {
            if Instant::now() > deadline {
                let waiting = self.under_way.iter().filter(|client| !client.is_finished()).count();
                return vec![format!("{waiting} requests have no answer")];
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.sweep()
    }

    fn sweep(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let (done, under_way) =
            std::mem::take(&mut self.under_way).into_iter().partition(JoinHandle::is_finished);
        self.under_way = under_way;
        for client in done {
            match client.join() {
                Ok((_, Ok(status))) => *self.answers.entry(status).or_default() += 1,
                Ok((path, Err(error))) if error.kind() == io::ErrorKind::WouldBlock => {
                    wrong.push(format!("{path} had no answer in {PATIENCE:?}"));
                }
                // The nanny was killed, or was not there.
                Ok((_, Err(_))) => self.dropped += 1,
                Err(_) => wrong.push("a client panicked".to_owned()),
            }
        }
        wrong
    }
}
