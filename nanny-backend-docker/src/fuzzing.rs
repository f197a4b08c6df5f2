//! A door for the crate `nanny-fuzz`, and no part of the API.

use bytes::Bytes;
use nanny_lib::backend::LogLine;

use crate::decoder::Decoder;

/// Decodes a log that comes in `chunks`: its lines, and whether it was one to the end.
pub fn decode_log<'a>(
    terminal: bool,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<LogLine>, bool) {
    let mut decoder = if terminal { Decoder::for_terminal() } else { Decoder::for_frames() };
    let mut lines = Vec::new();
    let mut sound = true;
    for chunk in chunks {
        decoder.feed(Bytes::copy_from_slice(chunk));
        while let Some(line) = decoder.next() {
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
