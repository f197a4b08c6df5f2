//! Lines of a log, as they are written to its files and read from them.
//!
//! A line of a file is `TIME STREAM PART TEXT`: when it came, `stdout` or `stderr`, `F` if the text
//! is all of a line or the end of it and `P` if more of it follows, and the bytes themselves.

use bytes::Bytes;
use jiff::Timestamp;
use nanny_lib::backend::{LogLine, LogStream};

/// No line is longer: more of it is another one.
pub(crate) const LINE_BYTES: usize = 16 * 1024;
/// What stands before the text takes up less.
const HEAD_BYTES: usize = 64;
/// A line of a file that is longer is damaged.
pub(crate) const RECORD_BYTES: usize = LINE_BYTES + HEAD_BYTES;

/// Cuts what a process writes to one stream into lines.
#[derive(Debug)]
pub(crate) struct Cutter {
    stream: LogStream,
    begun: Vec<u8>,
}

impl Cutter {
    pub(crate) fn new(stream: LogStream) -> Self {
        Self { stream, begun: Vec::new() }
    }

    /// Takes in `bytes`, and appends what is whole to `file`; answers how many lines that were.
    pub(crate) fn cut(&mut self, mut bytes: &[u8], at: Timestamp, file: &mut Vec<u8>) -> u64 {
        let mut lines = 0;
        while !bytes.is_empty() {
            let room = LINE_BYTES - self.begun.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let taken = end.unwrap_or_else(|| bytes.len().min(room));
            self.begun.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken + usize::from(end.is_some())..];
            if end.is_some() || self.begun.len() == LINE_BYTES && !bytes.is_empty() {
                lines += self.end(end.is_some(), at, file);
            }
        }
        lines
    }

    /// The stream has ended, and with it the last line.
    pub(crate) fn finish(&mut self, at: Timestamp, file: &mut Vec<u8>) -> u64 {
        if self.begun.is_empty() { 0 } else { self.end(true, at, file) }
    }

    fn end(&mut self, is_whole: bool, at: Timestamp, file: &mut Vec<u8>) -> u64 {
        write(file, at, self.stream, is_whole, &self.begun);
        self.begun.clear();
        1
    }
}

/// Appends one line to `file`.
pub(crate) fn write(
    file: &mut Vec<u8>,
    at: Timestamp,
    stream: LogStream,
    is_whole: bool,
    text: &[u8],
) {
    let stream = if stream == LogStream::Stderr { "stderr" } else { "stdout" };
    let part = if is_whole { 'F' } else { 'P' };
    file.extend_from_slice(format!("{at:.9} {stream} {part} ").as_bytes());
    file.extend_from_slice(text);
    file.push(b'\n');
}

/// Reads one line of a file, without its end; `None` if it is damaged.
pub(crate) fn read(record: &[u8]) -> Option<LogLine> {
    let mut fields = record.splitn(4, |byte| *byte == b' ');
    let at = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = match fields.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    let part = fields.next()?;
    let text = fields.next()?;
    let is_sound = matches!(part, b"F" | b"P") && text.len() <= LINE_BYTES;
    is_sound.then(|| LogLine::new(Some(at), stream, Bytes::copy_from_slice(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(usize, Vec<u8>)> {
        let mut cutter = Cutter::new(LogStream::Stderr);
        let mut file = Vec::new();
        let mut lines = 0;
        for chunk in chunks {
            lines += cutter.cut(chunk, Timestamp::UNIX_EPOCH, &mut file);
        }
        lines += cutter.finish(Timestamp::UNIX_EPOCH, &mut file);
        let records: Vec<_> = file.split(|byte| *byte == b'\n').collect();
        assert_eq!(records.len() as u64, lines + 1);
        let lines = records[..records.len() - 1].iter().map(|record| {
            assert!(record.len() <= RECORD_BYTES);
            let line = read(record).unwrap();
            assert_eq!(line.stream, LogStream::Stderr);
            (line.bytes.len(), line.bytes.to_vec())
        });
        lines.collect()
    }

    fn lengths(chunks: &[&[u8]]) -> Vec<usize> {
        cut(chunks).into_iter().map(|(length, _)| length).collect()
    }

    #[test]
    fn lines_are_cut_wherever_the_bytes_were() {
        let whole = [(2, b"ab".to_vec()), (0, Vec::new()), (2, b"\xff ".to_vec())];
        assert_eq!(cut(&[b"ab\n\n\xff "]), whole);
        assert_eq!(cut(&[b"a", b"b", b"\n", b"\n\xff", b" "]), whole);
    }

    #[test]
    fn a_long_line_is_split_and_one_that_just_fits_is_not() {
        let long = vec![b'x'; LINE_BYTES];
        assert_eq!(lengths(&[&long, b"\n"]), [LINE_BYTES]);
        assert_eq!(lengths(&[&long]), [LINE_BYTES]);
        assert_eq!(lengths(&[&long, b"x"]), [LINE_BYTES, 1]);
        assert_eq!(lengths(&[&[&long[..], &long, b"\n\n"].concat()]), [LINE_BYTES, LINE_BYTES, 0]);
    }

    #[test]
    fn what_is_damaged_is_no_line() {
        for record in ["", "x", "1970-01-01T00:00:00Z stdout F", "1970-01-01T00:00:00Z tty F x"] {
            assert_eq!(read(record.as_bytes()), None, "{record}");
        }
    }
}
