//! Bytes of a log to lines. Pure, and bounded whatever the bytes are.
//!
//! Without a terminal the engine sends frames: eight bytes of header (which stream, how long) and
//! a message. Each message begins with the time that we asked for; a line of more than 16 KiB is
//! several messages. With a terminal there are no frames: messages follow each other, and the
//! container may write bytes that look like a header.

use bytes::{Buf as _, Bytes};
use jiff::Timestamp;
use nanny_lib::backend::{LogLine, LogStream};

/// Turns chunks of a log into lines, in bounded memory whatever the bytes are.
///
/// Feed it a chunk, take lines until there are none, feed the next; at the end, take what is left.
#[derive(Debug)]
pub struct Decoder {
    input: Bytes,
    frame: Frame,
    stdout: Line,
    stderr: Line,
    /// What the engine says about a failure of its own.
    complaint: Vec<u8>,
}

/// Why a log cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Broken {
    /// What comes is no log.
    NotFramed,
    /// The engine's own words.
    Complaint(String),
}

/// Where in the frames the input is.
#[derive(Debug)]
enum Frame {
    /// There are none: a terminal.
    None,
    Header {
        bytes: [u8; HEADER_BYTES],
        len: usize,
    },
    Body {
        of: Part,
        left: u32,
    },
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Stdout,
    Stderr,
    Complaint,
}

/// A line as far as it has come.
#[derive(Debug)]
struct Line {
    stream: LogStream,
    /// The beginning of a message, in which a time is looked for.
    prefix: Option<Vec<u8>>,
    at: Option<Timestamp>,
    bytes: Vec<u8>,
    /// The line's first part has gone out already.
    continued: bool,
}

const HEADER_BYTES: usize = 8;
const MAX_LINE_BYTES: usize = 16 * 1024;
/// `2026-11-23T08:33:06.123456789+00:00` has 35.
const MAX_TIME_BYTES: usize = 35;

impl Decoder {
    /// For the log of a container with a terminal.
    pub fn for_terminal() -> Self {
        Self::new(Frame::None, LogStream::Terminal)
    }

    /// For the log of a container without one.
    pub fn for_frames() -> Self {
        let header = Frame::Header { bytes: [0; HEADER_BYTES], len: 0 };
        Self::new(header, LogStream::Stdout)
    }

    fn new(frame: Frame, stdout: LogStream) -> Self {
        Self {
            input: Bytes::new(),
            frame,
            stdout: Line::new(stdout),
            stderr: Line::new(LogStream::Stderr),
            complaint: Vec::new(),
        }
    }

    /// Takes the next chunk; the one before must have been read to its end.
    pub fn feed(&mut self, chunk: Bytes) {
        debug_assert!(self.input.is_empty(), "a chunk was left unread");
        self.input = chunk;
    }

    /// The next line of what was fed; `None` wants more.
    pub fn next_line(&mut self) -> Option<Result<LogLine, Broken>> {
        while !self.input.is_empty() {
            match &mut self.frame {
                Frame::None => {
                    let line = self.stdout.take(&mut self.input, usize::MAX);
                    if line.is_some() {
                        return line.map(Ok);
                    }
                }
                Frame::Broken => self.input.clear(),
                Frame::Header { bytes, len } => {
                    bytes[*len] = self.input.get_u8();
                    *len += 1;
                    if *len == HEADER_BYTES {
                        let header = *bytes;
                        if let Err(broken) = self.begin_frame(header) {
                            return Some(Err(broken));
                        }
                    }
                }
                Frame::Body { of, left } => {
                    let (of, before) = (*of, self.input.len());
                    let limit = usize::try_from(*left).unwrap_or(usize::MAX);
                    let line = match of {
                        Part::Stdout => self.stdout.take(&mut self.input, limit),
                        Part::Stderr => self.stderr.take(&mut self.input, limit),
                        Part::Complaint => {
                            let chunk = self.input.split_to(limit.min(self.input.len()));
                            let room = MAX_LINE_BYTES - self.complaint.len();
                            self.complaint.extend_from_slice(&chunk[..chunk.len().min(room)]);
                            None
                        }
                    };
                    let taken = u32::try_from(before - self.input.len()).unwrap_or(u32::MAX);
                    *left = left.saturating_sub(taken);
                    if *left == 0
                        && let Err(broken) = self.end_frame(of)
                    {
                        return Some(Err(broken));
                    }
                    if line.is_some() {
                        return line.map(Ok);
                    }
                }
            }
        }
        None
    }

    /// What is left when the log has ended; call it until it says `None`.
    pub fn finish(&mut self) -> Option<LogLine> {
        self.stdout.finish().or_else(|| self.stderr.finish())
    }

    fn begin_frame(&mut self, header: [u8; HEADER_BYTES]) -> Result<(), Broken> {
        let [kind, 0, 0, 0, length @ ..] = header else {
            return Err(self.break_off());
        };
        let of = match kind {
            // Zero is standard input, echoed: nothing that a log has, but no error either.
            0 | 1 => Part::Stdout,
            2 => Part::Stderr,
            3 => Part::Complaint,
            _ => return Err(self.break_off()),
        };
        match of {
            Part::Stdout => self.stdout.begin_message(),
            Part::Stderr => self.stderr.begin_message(),
            Part::Complaint => {}
        }
        self.frame = Frame::Body { of, left: u32::from_be_bytes(length) };
        if u32::from_be_bytes(length) == 0 { self.end_frame(of) } else { Ok(()) }
    }

    fn end_frame(&mut self, of: Part) -> Result<(), Broken> {
        if of == Part::Complaint {
            self.frame = Frame::Broken;
            let text = String::from_utf8_lossy(&self.complaint);
            return Err(Broken::Complaint(text.trim().to_owned()));
        }
        self.frame = Frame::Header { bytes: [0; HEADER_BYTES], len: 0 };
        Ok(())
    }

    fn break_off(&mut self) -> Broken {
        self.frame = Frame::Broken;
        Broken::NotFramed
    }
}

impl Line {
    fn new(stream: LogStream) -> Self {
        Self { stream, prefix: Some(Vec::new()), at: None, bytes: Vec::new(), continued: false }
    }

    /// A message begins, which has its time in front; the line may have begun before.
    fn begin_message(&mut self) {
        self.settle_prefix();
        self.prefix = Some(Vec::new());
    }

    /// Takes up to `limit` bytes, and stops at the end of a line.
    fn take(&mut self, input: &mut Bytes, limit: usize) -> Option<LogLine> {
        let mut limit = limit.min(input.len());
        while limit > 0 {
            // What was held back as a time may turn out to belong to the line: leave room for it.
            if self.prefix.is_some() && self.bytes.len() + MAX_TIME_BYTES >= MAX_LINE_BYTES {
                return Some(self.split());
            }
            if let Some(prefix) = &mut self.prefix {
                let byte = input.get_u8();
                limit -= 1;
                prefix.push(byte);
                if byte != b' ' && byte != b'\n' && prefix.len() <= MAX_TIME_BYTES {
                    continue;
                }
                self.settle_prefix();
                if byte == b'\n' && self.bytes.last() == Some(&b'\n') {
                    self.bytes.pop();
                    if let Some(line) = self.end() {
                        return Some(line);
                    }
                }
                continue;
            }
            let room = MAX_LINE_BYTES.saturating_sub(self.bytes.len()).min(limit);
            match input[..room].iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    self.bytes.extend_from_slice(&input[..end]);
                    input.advance(end + 1);
                    limit -= end + 1;
                    if let Some(line) = self.end() {
                        return Some(line);
                    }
                }
                None => {
                    self.bytes.extend_from_slice(&input[..room]);
                    input.advance(room);
                    limit -= room;
                    if self.bytes.len() >= MAX_LINE_BYTES {
                        return Some(self.split());
                    }
                }
            }
        }
        None
    }

    /// The line is complete; `None` if all of it had gone out before.
    fn end(&mut self) -> Option<LogLine> {
        if self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
        }
        let rest_of_split = self.continued && self.bytes.is_empty();
        let line = self.emit();
        self.continued = false;
        // Only a terminal's next line has its time without a frame's beginning to say so.
        self.next_may_have_time();
        (!rest_of_split).then_some(line)
    }

    /// The line is too long: this much of it goes out.
    fn split(&mut self) -> LogLine {
        let line = self.emit();
        self.continued = true;
        // The engine splits at the same length, and says the time again.
        self.next_may_have_time();
        line
    }

    fn emit(&mut self) -> LogLine {
        LogLine::new(self.at, self.stream, std::mem::take(&mut self.bytes))
    }

    fn next_may_have_time(&mut self) {
        if self.stream == LogStream::Terminal {
            self.prefix = Some(Vec::new());
        }
    }

    /// What was held back as a time is one, or the line's first bytes.
    fn settle_prefix(&mut self) {
        let Some(prefix) = self.prefix.take() else {
            return;
        };
        let time = prefix.strip_suffix(b" ").and_then(parse_time);
        match time {
            Some(at) => self.at = Some(at),
            None => self.bytes.extend_from_slice(&prefix),
        }
    }

    fn finish(&mut self) -> Option<LogLine> {
        self.settle_prefix();
        if self.bytes.is_empty() {
            return None;
        }
        self.continued = true;
        Some(self.emit())
    }
}

fn parse_time(bytes: &[u8]) -> Option<Timestamp> {
    // A cheap look first: most lines of a container without times begin otherwise.
    if bytes.len() < 20 || bytes[10] != b'T' || !bytes[0].is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
