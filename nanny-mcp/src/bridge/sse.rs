//! Server-sent events out of bytes that come in pieces.

use std::time::Duration;

/// One event, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its lines of data, joined by spaces: JSON has no line breaks but between its tokens.
    pub(super) data: String,
    /// By which a stream that broke is taken up again.
    pub(super) id: Option<String>,
    /// How long to wait before that.
    pub(super) retry: Option<Duration>,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a message was too long")]
    TooLong,
    #[error("a message was no text")]
    NoText,
}

/// Takes the ends of lines that the standard knows: LF, CR LF and CR.
#[derive(Debug)]
pub(super) struct Decoder {
    event: Event,
    line: Vec<u8>,
    /// The last byte was a CR, which ended a line; an LF would belong to it.
    after_return: bool,
    at_the_start: bool,
    limit: usize,
}

impl Decoder {
    pub(super) fn new(limit: usize) -> Self {
        let event = Event::default();
        Self { event, line: Vec::new(), after_return: false, at_the_start: true, limit }
    }

    /// Takes what came, and gives the events that end in it.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, Unreadable> {
        let mut events = Vec::new();
        if let [first, rest @ ..] = bytes
            && std::mem::take(&mut self.after_return)
            && *first == b'\n'
        {
            bytes = rest;
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.grow(&bytes[..end])?;
            events.extend(self.line()?);
            let is_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            match bytes {
                [b'\n', rest @ ..] if is_return => bytes = rest,
                [] => self.after_return = is_return,
                _ => {}
            }
        }
        self.grow(bytes)?;
        Ok(events)
    }

    fn grow(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        if self.event.data.len() + self.line.len() + bytes.len() > self.limit {
            return Err(Unreadable::TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the line that has ended; an empty one ends an event.
    fn line(&mut self) -> Result<Option<Event>, Unreadable> {
        let line = String::from_utf8(std::mem::take(&mut self.line));
        let line = line.map_err(|_| Unreadable::NoText)?;
        let start = std::mem::take(&mut self.at_the_start);
        let line = if start { line.trim_start_matches('\u{feff}') } else { &line };
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok((event != Event::default()).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push(' ');
                }
                self.event.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry = value.parse().ok().map(Duration::from_millis),
            // Comments, the event's name, which says nothing in MCP, and what is to come.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8]) -> Result<Vec<Event>, Unreadable> {
        Decoder::new(1024).feed(text)
    }

    fn data(text: &str) -> Event {
        Event { data: text.to_owned(), ..Event::default() }
    }

    #[test]
    fn events_have_data_an_id_and_a_pause() {
        let text = b"\xef\xbb\xbfid: 7\nretry: 3000\ndata:\n\n: alive\n\n\
                     event: message\ndata: {\ndata:}\nnew: thing\ndata\n\n";
        let first = Event {
            id: Some("7".to_owned()),
            retry: Some(Duration::from_secs(3)),
            ..Event::default()
        };
        assert_eq!(all(text), Ok(vec![first, data("{ } ")]));
    }

    #[test]
    fn an_event_that_is_not_ended_is_none() {
        assert_eq!(all(b"data: {}\n"), Ok(Vec::new()));
    }

    #[test]
    fn every_end_of_a_line_is_known() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("data: 1{end}{end}data: 2{end}{end}");
            assert_eq!(all(text.as_bytes()), Ok(vec![data("1"), data("2")]), "{end:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        assert_eq!(all(&[b'a'; 2000]), Err(Unreadable::TooLong));
        let mut decoder = Decoder::new(1024);
        let endless = (0..2000).find_map(|_| decoder.feed(b"data: x\n").err());
        assert_eq!(endless, Some(Unreadable::TooLong));
        assert_eq!(all(b"data: \xff\n\n"), Err(Unreadable::NoText));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_what_pieces_events_come(
            lines in vec(prop_oneof![
                Just("data: {\"a\": 1}"), Just("data:ä"), Just("id: 1"), Just(""), Just(": x"),
            ], 0..12),
            ends in vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 12),
            cuts in vec(0_usize..120, 0..12),
        ) {
            let text: String = lines.iter().zip(&ends).flat_map(|(line, end)| [*line, *end]).collect();
            let mut decoder = Decoder::new(1024);
            let mut events = Vec::new();
            for piece in crate::bridge::pieces(text.as_bytes(), &cuts) {
                events.extend(decoder.feed(piece).unwrap());
            }
            prop_assert_eq!(Ok(events), all(text.as_bytes()));
        }
    }
}
