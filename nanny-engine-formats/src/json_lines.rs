//! Streams of JSON documents, one a line, however they are cut into chunks.

use bytes::BytesMut;
use serde::de::DeserializeOwned;

/// Chunks to documents.
#[derive(Debug)]
pub struct JsonLines {
    rest: BytesMut,
    max_line_bytes: usize,
    too_long: bool,
}

impl JsonLines {
    /// A line longer than this is not kept.
    #[must_use]
    pub fn new(max_line_bytes: usize) -> Self {
        Self { rest: BytesMut::new(), max_line_bytes, too_long: false }
    }

    /// What ended in `chunk`; a line that is no such document is an error of its own.
    pub fn feed<T: DeserializeOwned>(&mut self, chunk: &[u8]) -> Vec<serde_json::Result<T>> {
        let mut documents = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.too_long |= self.rest.len() + piece.len() > self.max_line_bytes;
            if self.too_long {
                self.rest.clear();
            } else {
                self.rest.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                documents.push(serde_json::from_slice(self.rest.trim_ascii()));
                self.rest.clear();
                self.too_long = false;
            }
        }
        documents
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_however_the_chunks_are_cut() {
        let said = b"1\r\n\nno json\n22\n";
        for size in 1..said.len() {
            let mut lines = JsonLines::new(100);
            let documents: Vec<_> =
                said.chunks(size).flat_map(|chunk| lines.feed::<u32>(chunk)).collect();
            let numbers: Vec<_> = documents.into_iter().map(Result::ok).collect();
            assert_eq!(numbers, [Some(1), None, None, Some(22)], "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut lines = JsonLines::new(100);
        for _ in 0..10 {
            assert!(lines.feed::<u32>(&[b'1'; 60]).is_empty());
        }
        assert!(lines.rest.len() <= 100);
        assert!(lines.feed::<u32>(b"\n")[0].is_err());
        assert_eq!(lines.feed::<u32>(b"3\n").remove(0).unwrap(), 3);
    }
}
