//! Log lines of several containers as one text, laid out as `docker compose logs --no-color` does.

use std::collections::VecDeque;

use jiff::Timestamp;
use nanny_lib::backend::LogLine;

/// The newest part of a log, within a limit on its size.
#[derive(Debug)]
pub(crate) struct Transcript {
    prefixes: Vec<String>,
    timestamps: Timestamps,
    lines: VecDeque<String>,
    bytes: usize,
    limit: usize,
    truncated: bool,
}

/// Whether each line says when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timestamps {
    /// It does.
    Shown,
    /// It does not.
    Hidden,
}

impl Transcript {
    /// An empty transcript of containers called `names`, which keeps at most `limit` bytes.
    pub(crate) fn new(names: &[String], timestamps: Timestamps, limit: usize) -> Self {
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let prefixes = names.iter().map(|name| format!("{name:<width$}  | ")).collect();
        Self { prefixes, timestamps, lines: VecDeque::new(), bytes: 0, limit, truncated: false }
    }

    /// Adds the next line of the container at `index`, and lets the oldest go if it gets too much.
    pub(crate) fn push(&mut self, index: usize, line: &LogLine) {
        let mut text = self.prefixes[index].clone();
        if let (Timestamps::Shown, Some(at)) = (self.timestamps, line.at) {
            text.push_str(&format!("{at:.9} "));
        }
        let written = String::from_utf8_lossy(&line.bytes);
        // Of a line that is too long, its end is kept.
        let room = self.limit.saturating_sub(text.len() + 1);
        let start = written.ceil_char_boundary(written.len().saturating_sub(room));
        self.truncated |= start > 0;
        text.push_str(&written[start..]);
        text.push('\n');
        self.bytes += text.len();
        self.lines.push_back(text);
        while self.bytes > self.limit
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
            self.truncated = true;
        }
    }

    /// The text, and whether its beginning was cut off.
    pub(crate) fn finish(self) -> (String, bool) {
        let mut text = String::with_capacity(self.bytes);
        text.extend(self.lines);
        (text, self.truncated)
    }
}

/// Which of several logs goes on: the one whose next line is the oldest, the first of equals.
///
/// `heads` has the time of each log's next line, `None` for a log that has ended. A line without a
/// time of its own (the inner `None`) goes at once: it belongs to the line before it.
pub(crate) fn next_head(
    heads: impl IntoIterator<Item = Option<Option<Timestamp>>>,
) -> Option<usize> {
    let waiting = heads.into_iter().enumerate().filter_map(|(index, head)| Some((head?, index)));
    waiting.min().map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use nanny_lib::backend::LogStream;

    use super::*;

    fn line(second: i64, text: &[u8]) -> LogLine {
        let at = Timestamp::from_second(second).unwrap();
        LogLine::new(Some(at), LogStream::Stdout, text.to_vec())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn lines_look_as_compose_writes_them() {
        // What `docker compose logs --no-color` (2.40.3) printed for these two containers.
        let mut log =
            Transcript::new(&names(&["longer-name-1", "web-1"]), Timestamps::Hidden, 1 << 20);
        log.push(0, &line(1, b"hi"));
        log.push(1, &line(2, b"hello"));
        log.push(0, &line(3, b""));
        let text = "longer-name-1  | hi\nweb-1          | hello\nlonger-name-1  | \n";
        assert_eq!(log.finish(), (text.to_owned(), false));
    }

    #[test]
    fn timestamps_have_nine_digits_when_asked_for() {
        let mut log = Transcript::new(&names(&["web-1"]), Timestamps::Shown, 1 << 20);
        log.push(0, &line(1_795_426_766, b"hi"));
        log.push(0, &LogLine::new(None, LogStream::Stdout, b"no time".to_vec()));
        let text = "web-1  | 2026-11-23T09:39:26.000000000Z hi\nweb-1  | no time\n";
        assert_eq!(log.finish().0, text);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut log = Transcript::new(&names(&["web-1"]), Timestamps::Hidden, 1 << 20);
        log.push(0, &line(1, b"a\xff\xfeb"));
        assert_eq!(log.finish().0, "web-1  | a\u{fffd}\u{fffd}b\n");
    }

    #[test]
    fn the_newest_lines_are_kept() {
        let mut log = Transcript::new(&names(&["a"]), Timestamps::Hidden, 16);
        for text in [b"one", b"two", b"six"] {
            log.push(0, &line(1, text));
        }
        assert_eq!(log.finish(), ("a  | two\na  | six\n"[9..].to_owned(), true));
    }

    #[test]
    fn of_a_line_that_is_too_long_the_end_is_kept() {
        let mut log = Transcript::new(&names(&["a"]), Timestamps::Hidden, 12);
        log.push(0, &line(1, b"one"));
        log.push(0, &line(2, "éééé\u{e9}two".as_bytes()));
        assert_eq!(log.finish(), ("a  | étwo\n".to_owned(), true));
    }

    #[test]
    fn the_oldest_line_goes_first_and_the_first_log_wins_a_tie() {
        let at = |second| Some(Some(Timestamp::from_second(second).unwrap()));
        assert_eq!(next_head([at(3), at(2), at(2)]), Some(1));
        assert_eq!(next_head([None, at(9)]), Some(1));
        assert_eq!(next_head([at(1), Some(None)]), Some(1));
        assert_eq!(next_head([None, None]), None);
    }
}
