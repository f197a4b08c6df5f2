//! One connection: requests one way, replies the other, and what is done to them.
//!
//! Replies need not be told apart: a client sends its next request when it has read all of the
//! last reply.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::accept::thaw;
use super::endpoint::Socket;
use super::http::{Ahead, Body, Head, find};
use super::rule::{Fault, Hits, Shared, State};

/// So long a request without its client is carried on, to be carried out.
const ORPHAN: Duration = Duration::from_secs(120);
const BUFFER: usize = 16 << 10;

struct Connection {
    client: Socket,
    engine: Socket,
    /// What the client has sent beyond the request that is being carried.
    ahead: Ahead,
    state: watch::Receiver<State>,
}

/// Who ended a reply.
enum Ended {
    /// The client, with its next request.
    ByRequest,
    /// Somebody, and the connection with it.
    Closed,
}

pub(super) async fn carry(mut client: Socket, shared: &Arc<Shared>) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let mut ahead = Ahead::default();
    thaw(&mut state).await;
    let Some(mut head) = ahead.head(&mut client).await? else { return Ok(()) };
    thaw(&mut state).await;
    let engine = shared.upstream.connect().await?;
    let mut connection = Connection { client, engine, ahead, state };
    loop {
        thaw(&mut connection.state).await;
        let fault = shared.decide(&head.method, &head.path);
        match fault {
            Some((Fault::Refuse, hits)) => {
                hits.add();
                connection.client.reset();
                return Ok(());
            }
            Some((Fault::Swallow, hits)) => {
                hits.add();
                return connection.swallow().await;
            }
            Some((Fault::Late(time), hits)) => {
                sleep(time).await;
                connection.forward(&head).await?;
                return connection.see_it_done(&hits).await;
            }
            Some((Fault::LoseReply, hits)) => {
                connection.forward(&head).await?;
                connection.reply_begins().await?;
                hits.add();
                connection.client.reset();
                return Ok(());
            }
            _ => {}
        }
        connection.forward(&head).await?;
        if head.body == Body::Raw {
            connection.client_to_engine_so_far().await?;
            copy_bidirectional(&mut connection.client, &mut connection.engine).await?;
            return Ok(());
        }
        match connection.reply(fault).await? {
            Ended::Closed => return Ok(()),
            Ended::ByRequest => {}
        }
        let Some(next) = connection.ahead.head(&mut connection.client).await? else {
            return Ok(());
        };
        head = next;
    }
}

impl Connection {
    /// Sends a request on, with its body.
    async fn forward(&mut self, head: &Head) -> io::Result<()> {
        self.engine.write_all(&head.bytes).await?;
        match head.body {
            Body::Bytes(mut left) => {
                while left > 0 {
                    if self.ahead.0.is_empty() && !self.ahead.more(&mut self.client).await? {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.ahead.0.len());
                    self.engine.write_all(&self.ahead.0[..here]).await?;
                    self.ahead.0.drain(..here);
                    left -= here as u64;
                }
            }
            Body::Chunks => loop {
                let (chunk, last) = self.ahead.chunk(&mut self.client).await?;
                self.engine.write_all(&chunk).await?;
                if last {
                    break;
                }
            },
            Body::Raw => {}
        }
        self.engine.flush().await
    }

    async fn client_to_engine_so_far(&mut self) -> io::Result<()> {
        let so_far = std::mem::take(&mut self.ahead.0);
        self.engine.write_all(&so_far).await
    }

    /// Reads and says nothing, until the client gives up.
    async fn swallow(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        while self.client.read(&mut buffer).await? > 0 {}
        Ok(())
    }

    /// Waits until the engine begins to answer, which it does when it has done what was asked.
    async fn reply_begins(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = Vec::with_capacity(BUFFER);
        let begun = timeout(ORPHAN, self.engine.read_buf(&mut reply)).await;
        begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(reply)
    }

    /// Carries the reply of a request whose client may have gone: the engine must not notice.
    async fn see_it_done(&mut self, hits: &Hits) -> io::Result<()> {
        let begun = self.reply_begins().await?;
        hits.add();
        self.client.write_all(&begun).await?;
        match self.reply(None).await? {
            Ended::Closed | Ended::ByRequest => Ok(()),
        }
    }

    /// Carries a reply until the client's next request, or the end.
    async fn reply(&mut self, fault: Option<(Fault, Hits)>) -> io::Result<Ended> {
        let mut spoiler = Spoiler::new(fault);
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = tokio::select! {
                more = self.ahead.more(&mut self.client) => {
                    return Ok(if more? { Ended::ByRequest } else { Ended::Closed });
                }
                read = self.engine.read(&mut buffer) => read?,
            };
            thaw(&mut self.state).await;
            if read == 0 || !spoiler.pass(&buffer[..read], &mut self.client).await? {
                return Ok(Ended::Closed);
            }
        }
    }
}

/// Does to one reply what is to be done to it.
struct Spoiler {
    fault: Option<(Fault, Hits)>,
    begun: bool,
    passed: usize,
    /// The head of the reply, and then its chunks, as far as they have come.
    whole: Ahead,
    head_passed: bool,
}

impl Spoiler {
    fn new(fault: Option<(Fault, Hits)>) -> Self {
        Self { fault, begun: false, passed: 0, whole: Ahead::default(), head_passed: false }
    }

    /// Passes bytes on; `false` if the connection is to close.
    async fn pass(&mut self, bytes: &[u8], client: &mut Socket) -> io::Result<bool> {
        let Some((fault, hits)) = &self.fault else {
            client.write_all(bytes).await?;
            return Ok(true);
        };
        let (fault, first) = (*fault, !std::mem::replace(&mut self.begun, true));
        if first {
            hits.add();
        }
        match fault {
            Fault::HoldReply(time) => {
                if first {
                    sleep(time).await;
                }
                client.write_all(bytes).await?;
            }
            Fault::CutReply(limit) => {
                let rest = bytes.len().min(limit - self.passed);
                client.write_all(&bytes[..rest]).await?;
                client.flush().await?;
                self.passed += rest;
                return Ok(self.passed < limit);
            }
            Fault::SliceReply(size) => {
                for piece in bytes.chunks(size.max(1)) {
                    client.write_all(piece).await?;
                    client.flush().await?;
                    tokio::task::yield_now().await;
                }
            }
            Fault::RepeatChunks => self.chunks(2, bytes, client).await?,
            Fault::LoseChunks => self.chunks(0, bytes, client).await?,
            // Those are about requests, and were done.
            Fault::Refuse | Fault::Swallow | Fault::Late(_) | Fault::LoseReply => {
                client.write_all(bytes).await?;
            }
        }
        Ok(true)
    }

    /// Passes the head once, and each chunk so many times; the last one once, unless all are lost.
    async fn chunks(&mut self, times: usize, bytes: &[u8], client: &mut Socket) -> io::Result<()> {
        self.whole.0.extend_from_slice(bytes);
        if !self.head_passed {
            let Some(end) = find(&self.whole.0, b"\r\n\r\n") else { return Ok(()) };
            let head: Vec<_> = self.whole.0.drain(..end + 4).collect();
            client.write_all(&head).await?;
            self.head_passed = true;
        }
        while let Some((chunk, last)) = self.whole.take_chunk()? {
            for _ in 0..if last { times.min(1) } else { times } {
                client.write_all(&chunk).await?;
            }
        }
        client.flush().await
    }
}
