//! Lines out of bytes that come in pieces, none longer than a limit.

/// A line without its end, or what is left to say of one that was too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// Ends of lines are LF and CR LF.
#[derive(Debug)]
pub(super) struct Lines {
    begun: Vec<u8>,
    too_long: bool,
    limit: usize,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self { begun: Vec::new(), too_long: false, limit }
    }

    /// Takes what came, and gives the lines that end in it.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.grow(&bytes[..end]);
            lines.extend(self.end());
            bytes = &bytes[end + 1..];
        }
        self.grow(bytes);
        lines
    }

    /// What was begun and not ended, if it is anything.
    pub(super) fn end(&mut self) -> Option<Line> {
        let mut line = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.too_long) {
            return Some(Line::TooLong);
        }
        line.pop_if(|last| *last == b'\r');
        Some(Line::Whole(line))
    }

    fn grow(&mut self, bytes: &[u8]) {
        // One more for the CR that may be part of the end.
        if self.too_long || self.begun.len() + bytes.len() > self.limit + 1 {
            self.too_long = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &mut Lines, chunks: &[&[u8]]) -> Vec<Line> {
        let mut all: Vec<_> = chunks.iter().flat_map(|chunk| lines.feed(chunk)).collect();
        all.extend(lines.end());
        all
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_owned())
    }

    #[test]
    fn lines_end_with_or_without_a_return() {
        let lines = all(&mut Lines::new(9), &[b"one\r", b"\ntw", b"o\n\nrest"]);
        assert_eq!(lines, [whole("one"), whole("two"), whole(""), whole("rest")]);
    }

    #[test]
    fn a_line_that_is_too_long_costs_no_memory_and_not_the_next_one() {
        let mut lines = Lines::new(4);
        for _ in 0..100 {
            assert!(lines.feed(b"0123456789").is_empty());
            assert!(lines.begun.len() <= 5);
        }
        assert_eq!(lines.feed(b"\nnext\n"), [Line::TooLong, whole("next")]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_what_pieces_lines_come(
            text in "[ab\r\n]{0,40}",
            cuts in vec(0_usize..40, 0..8),
        ) {
            let mut lines = Lines::new(6);
            let at_once = all(&mut lines, &[text.as_bytes()]);
            prop_assert_eq!(all(&mut lines, &crate::bridge::pieces(text.as_bytes(), &cuts)), at_once);
        }
    }
}
