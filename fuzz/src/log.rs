//! What containers write.

use bytes::Bytes;
use nanny_engine_formats::Decoder;
use nanny_lib::backend::{LogLine, LogStream};

/// A log as an engine sends it: the first byte says whether from a terminal, the second how the
/// rest is cut into chunks. The cuts do not matter, no line is too long, and of a sound log nothing
/// is lost and nothing made up.
pub fn log(data: &[u8]) {
    let [kind, cut, bytes @ ..] = data else { return };
    let terminal = kind % 2 == 1;
    let (lines, sound) = decode_log(terminal, [bytes]);
    let in_chunks = decode_log(terminal, bytes.chunks(usize::from(*cut) + 1));
    assert_eq!((&lines, sound), (&in_chunks.0, in_chunks.1), "the cuts matter");
    for line in &lines {
        assert!(line.bytes.len() <= MAX_LINE_BYTES, "{} bytes in a line", line.bytes.len());
    }
    if terminal {
        let written: usize = lines.iter().map(|line| line.bytes.len()).sum();
        let longest_loss = lines.len() + 1;
        assert!(written <= bytes.len());
        // A time, a space, and the end of the line.
        assert!(
            bytes.len() <= written + longest_loss * (35 + 1 + 2),
            "{written} of {}",
            bytes.len()
        );
    } else if sound {
        for (kind, stream) in [(1, LogStream::Stdout), (2, LogStream::Stderr)] {
            let of = |line: &&LogLine| line.stream == stream;
            let written = lines.iter().filter(of).flat_map(|line| line.bytes.iter().copied());
            let written: Vec<u8> = written.filter(is_text).collect();
            assert_eq!(written, simply(bytes, kind), "{stream:?}");
        }
    }
}

/// Decodes a log that comes in `chunks`: its lines, and whether it was one to the end.
fn decode_log<'a>(
    terminal: bool,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<LogLine>, bool) {
    let mut decoder = if terminal { Decoder::for_terminal() } else { Decoder::for_frames() };
    let mut lines = Vec::new();
    let mut sound = true;
    for chunk in chunks {
        decoder.feed(Bytes::copy_from_slice(chunk));
        while let Some(line) = decoder.next_line() {
            match line {
                Ok(line) => lines.push(line),
                Err(_) => sound = false,
            }
        }
    }
    while let Some(line) = decoder.finish() {
        lines.push(line);
    }
    (lines, sound)
}

const MAX_LINE_BYTES: usize = 16 * 1024;

/// What one stream of a framed log says, without times and line ends, decoded all at once.
fn simply(mut bytes: &[u8], wanted: u8) -> Vec<u8> {
    let mut said = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let message = &rest[..length.min(rest.len())];
        bytes = &rest[message.len()..];
        // What was typed is shown with the output.
        if header[0].max(1) == wanted {
            said.extend(without_time(message).iter().copied().filter(is_text));
        }
    }
    said
}

fn without_time(message: &[u8]) -> &[u8] {
    let Some(end) = message.iter().take(35).position(|byte| *byte == b' ') else { return message };
    let text = std::str::from_utf8(&message[..end]).unwrap_or_default();
    let is_time = text.len() >= 19 && text.as_bytes()[10] == b'T' && {
        text.as_bytes()[0].is_ascii_digit() && text.parse::<jiff::Timestamp>().is_ok()
    };
    if is_time { &message[end + 1..] } else { message }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "filters hand out references")]
fn is_text(byte: &u8) -> bool {
    !matches!(byte, b'\n' | b'\r')
}
