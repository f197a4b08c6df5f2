//! A container's log, from its files, as a stream of lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{LogLine, LogOptions, Result};

use crate::backend::LOOK;
use crate::error::{from_io, timed_out};
use crate::home::Home;
use crate::lines::{self, RECORD_BYTES};
use crate::logfiles;
use crate::record::Phase;
use crate::store::Store;

/// Between two looks at the end of a log that is followed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const CHUNK_BYTES: usize = 64 * 1024;

pub(crate) fn logs(
    store: Arc<Store>,
    id: ContainerId,
    options: LogOptions,
) -> BoxStream<'static, Result<LogLine>> {
    let reader = Reader { store, id, options, place: None, lines: VecDeque::new(), is_done: false };
    stream::unfold(reader, |mut reader| async move {
        let line = reader.next().await?;
        Some((line, reader))
    })
    .boxed()
}

struct Reader {
    store: Arc<Store>,
    id: ContainerId,
    options: LogOptions,
    /// Where it reads; `None` before it begins.
    place: Option<Place>,
    lines: VecDeque<LogLine>,
    is_done: bool,
}

/// A place in the files of a log.
struct Place {
    home: Home,
    number: u64,
    file: Option<File>,
    /// The beginning of a line of the file.
    begun: Vec<u8>,
    /// What there is of it is damaged.
    is_damaged: bool,
}

/// What reading on has come to.
enum Progress {
    Lines(Vec<LogLine>),
    /// There is nothing more as yet.
    Nothing,
    /// There never will be.
    End,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<LogLine>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            if self.is_done {
                return None;
            }
            match self.read().await {
                Ok(Progress::Lines(lines)) => {
                    let since = self.options.since;
                    self.lines.extend(
                        lines.into_iter().filter(|line| since.is_none() || line.at >= since),
                    );
                }
                Ok(Progress::Nothing) if self.options.follow => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(Progress::Nothing | Progress::End) => self.is_done = true,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Progress> {
        let (store, id, tail) = (Arc::clone(&self.store), self.id.clone(), self.options.tail);
        let place = self.place.take();
        let read = tokio::task::spawn_blocking(move || {
            let mut place = match place {
                Some(place) => place,
                None => Place::find(&store, &id, tail)?,
            };
            // Before the reading: what is written before the end is read, then.
            let is_over = place.is_over(&store);
            let failed = |error| from_io("logs", id.as_str(), "its log", &error);
            let progress = match place.read().map_err(failed)? {
                Progress::Nothing if is_over => Progress::End,
                progress => progress,
            };
            Ok((place, progress))
        });
        let lost = |error| from_io("logs", self.id.as_str(), "its log", &io::Error::other(error));
        let late = |_| timed_out("logs", self.id.as_str(), "the file system does not answer");
        let read = tokio::time::timeout(LOOK, read).await.map_err(late)?;
        let (place, progress) = read.map_err(lost)??;
        self.place = Some(place);
        Ok(progress)
    }
}

impl Place {
    /// The beginning of the log, or of its last `tail` lines.
    fn find(store: &Store, id: &ContainerId, tail: Option<u32>) -> Result<Self> {
        let home = store.home("logs", id)?;
        store.look("logs", &home)?;
        let failed = |error| from_io("logs", id.as_str(), "its log", &error);
        let files = logfiles::files(&home.path);
        let (number, start) = match tail {
            None => files.first().map(|(number, _)| (*number, 0)),
            Some(lines) => {
                let mut left = u64::from(lines);
                let mut found = None;
                for (number, path) in files.iter().rev() {
                    let Some(file) = open(path).map_err(failed)? else { break };
                    let start = start_of_last(&file, &mut left).map_err(failed)?;
                    found = Some((*number, start));
                    if left == 0 {
                        break;
                    }
                }
                found
            }
        }
        .unwrap_or((0, 0));
        let path = files.into_iter().find(|(other, _)| *other == number).map(|(_, path)| path);
        let mut file = match path {
            Some(path) => open(&path).map_err(failed)?,
            None => None,
        };
        if let Some(file) = &mut file {
            io::Seek::seek(file, io::SeekFrom::Start(start)).map_err(failed)?;
        }
        Ok(Self { home, number, file, begun: Vec::new(), is_damaged: false })
    }

    /// Whether nothing will be written any more.
    fn is_over(&self, store: &Store) -> bool {
        match store.look("logs", &self.home) {
            Ok(sight) => match sight.record.phase {
                Phase::Created | Phase::Ended => true,
                // Nobody keeps the log of what has lost its shim.
                Phase::Starting | Phase::Running | Phase::Stopping => false,
            },
            Err(_) => true,
        }
    }

    fn read(&mut self) -> io::Result<Progress> {
        loop {
            // Before the reading: what is in this file is all there, once the next one is.
            let next = logfiles::files(&self.home.path)
                .into_iter()
                .find(|(number, _)| *number > self.number);
            let mut bytes = vec![0; CHUNK_BYTES];
            let read = match &mut self.file {
                Some(file) => file.read(&mut bytes)?,
                None => 0,
            };
            if read > 0 {
                return Ok(Progress::Lines(self.cut(&bytes[..read])));
            }
            let Some((number, path)) = next else { return Ok(Progress::Nothing) };
            (self.number, self.file) = (number, open(&path)?);
            self.begun.clear();
            self.is_damaged = false;
        }
    }

    fn cut(&mut self, bytes: &[u8]) -> Vec<LogLine> {
        let mut found = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            if self.begun.len() + piece.len() > RECORD_BYTES {
                self.is_damaged = true;
            } else {
                self.begun.extend_from_slice(piece);
            }
            if pieces.peek().is_some() {
                if !self.is_damaged {
                    found.extend(lines::read(&self.begun));
                }
                self.begun.clear();
                self.is_damaged = false;
            }
        }
        found
    }
}

/// A file that may have been thrown away by now.
fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last `left` lines of `file` begin; takes those that there are off `left`.
fn start_of_last(file: &File, left: &mut u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if *left == 0 || length == 0 {
        return Ok(length);
    }
    let mut bytes = vec![0; CHUNK_BYTES];
    let mut end = length;
    while end > 0 {
        let size = end.min(CHUNK_BYTES as u64);
        let start = end - size;
        let chunk = &mut bytes[..usize::try_from(size).map_err(io::Error::other)?];
        file.read_exact_at(chunk, start)?;
        let ends = chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        for (at, _) in ends {
            let line = start + at as u64 + 1;
            if line < length {
                *left -= 1;
                if *left == 0 {
                    return Ok(line);
                }
            }
        }
        end = start;
    }
    *left -= 1;
    Ok(0)
}
