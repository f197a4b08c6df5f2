//! What becomes of each line of the client's.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{self as tokio_io, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use super::Failure;
use super::headers;
use super::lines::{Line, Lines};
use super::link::{Audience, Link};
use super::message::{Kind, Malformed, Message, error};
use super::session::{Session, Sessions};

/// Takes the client's messages in their order. Requests go on by themselves, and what gets no answer
/// is sent by one courier, in its order; what begins a session is through before the next line is
/// looked at, since what follows counts on it.
#[derive(Debug)]
pub(super) struct Pump {
    link: Link,
    sessions: Arc<Sessions>,
    requests: JoinSet<()>,
    under_way: HashMap<task::Id, UnderWay>,
}

/// A request that has no answer yet.
#[derive(Debug)]
struct UnderWay {
    id: Value,
    is_of_session: bool,
    /// Its answer only comes when the client wants no more of it.
    is_endless: bool,
    task: AbortHandle,
}

impl Pump {
    pub(super) fn new(link: Link) -> Self {
        let sessions = Arc::new(Sessions::new(link.clone()));
        Self { link, sessions, requests: JoinSet::new(), under_way: HashMap::new() }
    }

    /// Works until the input ends, and what was under way then has had its time.
    pub(super) async fn run(&mut self, mut input: impl AsyncRead + Unpin) -> io::Result<()> {
        let (link, sessions) = (self.link.clone(), Arc::clone(&self.sessions));
        let beside = async { tokio::join!(knock(&link), sessions.listen()) };
        let (read, mut ahead) = tokio_io::simplex(READ_AHEAD);
        let (letters, to_send) = mpsc::channel(LETTERS_AHEAD);
        let worked = async { tokio::join!(self.work(read, letters), deliver(&link, to_send)) };
        // The end of the input is seen whatever is waited for meanwhile.
        let ended = async {
            tokio_io::copy(&mut input, &mut ahead).await?;
            ahead.shutdown().await?;
            sleep(link.clocks.grace).await;
            Ok(())
        };
        tokio::select! {
            ended = ended => ended,
            (worked, ()) = worked => worked,
            _ = beside => unreachable!("the sessions are ours, so that they can be listened to"),
        }
    }

    async fn work(
        &mut self,
        mut input: impl AsyncRead + Unpin,
        letters: mpsc::Sender<Letter>,
    ) -> io::Result<()> {
        let mut lines = Lines::new(LONGEST_LINE);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            tokio::select! {
                read = input.read(&mut buffer) => {
                    let read = read?;
                    if read == 0 {
                        break;
                    }
                    for line in lines.feed(&buffer[..read]) {
                        self.line(line, &letters).await;
                    }
                }
                Some(ended) = self.requests.join_next_with_id() => self.reap(ended).await,
            }
        }
        if let Some(line) = lines.end() {
            self.line(line, &letters).await;
        }
        for request in self.under_way.values().filter(|request| request.is_endless) {
            request.task.abort();
        }
        while let Some(ended) = self.requests.join_next_with_id().await {
            self.reap(ended).await;
        }
        Ok(())
    }

    /// Ends what is under way, and the session.
    pub(super) async fn end(&mut self) {
        self.requests.shutdown().await;
        self.sessions.end().await;
    }

    async fn reap(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let request = self.under_way.remove(&id);
        if let (Err(why), Some(request)) = (ended, request)
            && why.is_panic()
        {
            self.link.tell(error(&request.id, -32603, "the bridge has a fault", None)).await;
        }
    }

    async fn line(&mut self, line: Line, letters: &mpsc::Sender<Letter>) {
        let line = match line {
            Line::Whole(line) if line.trim_ascii().is_empty() => return,
            Line::Whole(line) => Message::parse(&line),
            Line::TooLong => {
                let why = format!("a message may have {LONGEST_LINE} bytes at most");
                Err(Malformed(error(&Value::Null, -32600, &why, None)))
            }
        };
        let message = match line {
            Ok(message) => message,
            Err(Malformed(answer)) => return self.link.tell(answer).await,
        };
        match &message.kind {
            Kind::Request(id) if message.method() == "initialize" => {
                let asking = Request::new(&self.link, &self.sessions, id.clone(), message);
                asking.answer().await;
            }
            Kind::Request(id) => self.request(id.clone(), message).await,
            Kind::Notification if message.method() == "notifications/cancelled" => {
                self.cancel(message, letters);
            }
            Kind::Notification if message.method() == "notifications/initialized" => {
                told(self.sessions.initialized(&message).await);
            }
            Kind::Notification | Kind::Response => self.forward(message, letters),
        }
    }

    async fn request(&mut self, id: Value, message: Message) {
        while let Some(ended) = self.requests.try_join_next_with_id() {
            self.reap(ended).await;
        }
        if self.under_way.len() >= MOST_REQUESTS {
            let refused = Failure::Crowded(MOST_REQUESTS);
            let answer = refused.answer(&id, message.method(), &self.link.daemon);
            return self.link.tell(answer).await;
        }
        let is_of_session = message.is_of_session();
        let is_endless = message.method() == "subscriptions/listen";
        let request = Request::new(&self.link, &self.sessions, id.clone(), message);
        let task = self.requests.spawn(request.answer());
        self.under_way.insert(task.id(), UnderWay { id, is_of_session, is_endless, task });
    }

    /// A request that is cancelled gets no answer. Without a session, to hang up is how that is
    /// said.
    fn cancel(&mut self, message: Message, letters: &mpsc::Sender<Letter>) {
        let id = &message.params()["requestId"];
        let is_meant = |request: &UnderWay| request.id == *id && !request.task.is_finished();
        let found = self.under_way.iter().find(|(_, request)| is_meant(request));
        let Some(task) = found.map(|(task, _)| *task) else { return };
        let Some(request) = self.under_way.remove(&task) else { return };
        request.task.abort();
        if request.is_of_session {
            self.forward(message, letters);
        }
    }

    /// Has sent what gets no answer.
    fn forward(&self, message: Message, letters: &mpsc::Sender<Letter>) {
        let Some(session) = self.sessions.current() else {
            tracing::debug!(method = message.method(), "there is no session that it could be for");
            return;
        };
        let text = match message.kind {
            Kind::Response => self.link.answered(&session, &message),
            _ => Some(message.text),
        };
        let Some(text) = text else {
            tracing::warn!("an answer to nothing that was asked in this session was dropped");
            return;
        };
        if letters.try_send(Letter { session, text }).is_err() {
            tracing::warn!("the daemon is too slow: a notification or an answer was dropped");
        }
    }
}

/// What gets no answer.
#[derive(Debug)]
struct Letter {
    session: Session,
    text: String,
}

/// Sends letters in their order.
async fn deliver(link: &Link, mut letters: mpsc::Receiver<Letter>) {
    while let Some(Letter { session, text }) = letters.recv().await {
        let headers = headers::of_session(&session);
        told(link.daemon.post(&text, headers, link.clocks.head).await.map(drop));
    }
}

/// A request on its way.
#[derive(Debug)]
struct Request {
    link: Link,
    sessions: Arc<Sessions>,
    id: Value,
    message: Message,
}

impl Request {
    fn new(link: &Link, sessions: &Arc<Sessions>, id: Value, message: Message) -> Self {
        Self { link: link.clone(), sessions: Arc::clone(sessions), id, message }
    }

    /// Sees to it that there is an answer.
    async fn answer(self) {
        if let Err(failure) = self.ask_patiently().await {
            let answer = failure.answer(&self.id, self.message.method(), &self.link.daemon);
            self.link.tell(answer).await;
        }
    }

    /// An editor may start before the daemon does, and its first question is not asked twice.
    async fn ask_patiently(&self) -> Result<(), Failure> {
        let is_first = matches!(self.message.method(), "initialize" | "server/discover");
        let until = Instant::now() + self.link.clocks.patience;
        loop {
            match self.ask().await {
                Err(Failure::Absent(_)) if is_first && Instant::now() < until => {
                    sleep(self.link.clocks.retry / 4).await;
                }
                asked => return asked,
            }
        }
    }

    async fn ask(&self) -> Result<(), Failure> {
        if self.message.method() == "initialize" {
            return self.sessions.begin(&self.id, &self.message).await;
        }
        let session = self.sessions.current().filter(|_| self.message.is_of_session());
        let asked = self.exchange(session.as_ref()).await;
        match (asked, session) {
            // So it was not done, and may be repeated whatever it is.
            (Err(Failure::NotFound(_)), Some(gone)) => {
                let session = self.sessions.renew(gone.serial).await?;
                self.exchange(Some(&session)).await
            }
            (asked, _) => asked,
        }
    }

    async fn exchange(&self, session: Option<&Session>) -> Result<(), Failure> {
        let message = &self.message;
        let headers = match session {
            Some(session) => headers::in_session(session, message),
            None => headers::stateless(message),
        };
        let (text, limit) = (&message.text, self.link.clocks.answer);
        let to = (session, Audience::Client);
        let answer = self.link.exchange(&self.id, text, headers, limit, to).await?;
        if let (Some(session), Some(_)) = (session, answer.body.get("result")) {
            self.sessions.subscribed(session, message).await;
        }
        Ok(())
    }
}

/// Says at once if nobody is there, before anybody asks.
async fn knock(link: &Link) {
    let knocked = link.daemon.get(HeaderMap::new(), link.clocks.head).await;
    // There is nothing to be had without a session; that somebody says so is enough.
    if let Err(failure) = knocked
        && matches!(failure, Failure::Absent(_) | Failure::Unauthorized(_) | Failure::NotFound(_))
    {
        tracing::warn!("{}", failure.words("", &link.daemon));
    }
}

/// Nobody waits for an answer to what is no request.
fn told(sent: Result<(), Failure>) {
    if let Err(failure) = sent {
        tracing::warn!(?failure, "a notification did not arrive");
    }
}

/// What a client may say at once, in bytes. The daemon takes less, and says itself how much.
const LONGEST_LINE: usize = 4 * 1024 * 1024;
/// What is read while a line before it is seen to, in bytes.
const READ_AHEAD: usize = 4 * 1024 * 1024;
/// What waits to be sent while the daemon takes its time.
const LETTERS_AHEAD: usize = 64;
const MOST_REQUESTS: usize = 64;
