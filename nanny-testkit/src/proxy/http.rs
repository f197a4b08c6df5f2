//! As much HTTP/1.1 as it takes to tell one request from the next, and one chunk from the next.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The head of a request, as it came.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
    pub(super) method: String,
    /// Without query and version of the API.
    pub(super) path: String,
    pub(super) body: Body,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Bytes(u64),
    Chunks,
    /// Whatever comes: the connection is no longer HTTP.
    Raw,
}

const MAX_HEAD: usize = 64 << 10;
const MAX_CHUNK: usize = 16 << 20;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Bytes from a peer, read ahead of where we are.
#[derive(Debug, Default)]
pub(super) struct Ahead(pub(super) Vec<u8>);

impl Ahead {
    /// Reads more; `false` at the end.
    pub(super) async fn more(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        Ok(from.read_buf(&mut self.0).await? > 0)
    }

    /// The next head, or `None` if the peer has no more to say.
    pub(super) async fn head(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = find(&self.0, HEAD_END) {
                let bytes: Vec<_> = self.0.drain(..end + HEAD_END.len()).collect();
                return parse(bytes).map(Some);
            }
            if self.0.len() > MAX_HEAD {
                return Err(invalid("a head is too long"));
            }
            if !self.more(from).await? {
                return Ok(None);
            }
        }
    }

    /// The next chunk with its frame, and whether it is the last.
    pub(super) async fn chunk(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<(Vec<u8>, bool)> {
        loop {
            if let Some(chunk) = self.take_chunk()? {
                return Ok(chunk);
            }
            if !self.more(from).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The first chunk, if all of it is here. Trailers are not known.
    pub(super) fn take_chunk(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let Some(line) = find(&self.0, b"\r\n") else { return Ok(None) };
        let size = String::from_utf8_lossy(&self.0[..line]);
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| invalid("no size of a chunk"))?;
        if size > MAX_CHUNK {
            return Err(invalid("a chunk is too long"));
        }
        let whole = line + 2 + size + 2;
        if self.0.len() < whole {
            return Ok(None);
        }
        Ok(Some((self.0.drain(..whole).collect(), size == 0)))
    }
}

fn parse(bytes: Vec<u8>) -> io::Result<Head> {
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(invalid("no request line"));
    };
    let mut body = Body::Bytes(0);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_ascii_lowercase());
        match name.as_str() {
            "content-length" => {
                body = Body::Bytes(value.parse().map_err(|_| invalid("no length"))?);
            }
            "transfer-encoding" => body = Body::Chunks,
            "upgrade" => {
                body = Body::Raw;
                break;
            }
            _ => {}
        }
    }
    let (method, path) = (method.to_owned(), path_of(target).to_owned());
    Ok(Head { method, path, body, bytes })
}

/// The path of a request's target, without the version in front.
fn path_of(target: &str) -> &str {
    let path = target.split('?').next().unwrap_or_default();
    let rest = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    match rest {
        Some((version, _)) if version.starts_with(|c: char| c.is_ascii_digit()) => {
            &path["/v".len() + version.len()..]
        }
        _ => path,
    }
}

/// Where `part` begins.
pub(super) fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_queries_are_no_part_of_a_path() {
        assert_eq!(path_of("/v1.41/containers/json?all=1"), "/containers/json");
        assert_eq!(path_of("/volumes/create"), "/volumes/create");
        assert_eq!(path_of("/v"), "/v");
    }

    #[test]
    fn chunks_come_apart_whole() {
        let mut ahead = Ahead(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n".to_vec());
        assert_eq!(ahead.take_chunk().unwrap(), Some((b"3\r\nabc\r\n".to_vec(), false)));
        assert_eq!(ahead.take_chunk().unwrap(), Some((b"2;x=y\r\nde\r\n".to_vec(), false)));
        assert_eq!(ahead.take_chunk().unwrap(), None);
        ahead.0.extend(b"\r\n");
        assert_eq!(ahead.take_chunk().unwrap(), Some((b"0\r\n\r\n".to_vec(), true)));
        assert!(Ahead(b"no\r\n".to_vec()).take_chunk().is_err());
    }

    #[test]
    fn a_head_says_how_long_the_body_is() {
        let body = |headers: &str| {
            parse(format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n").into_bytes()).unwrap().body
        };
        assert_eq!(body("host: x"), Body::Bytes(0));
        assert_eq!(body("Content-Length: 12"), Body::Bytes(12));
        assert_eq!(body("transfer-encoding: chunked"), Body::Chunks);
        assert_eq!(body("upgrade: tcp\r\ncontent-length: 3"), Body::Raw);
        assert!(parse(b"nonsense\r\n\r\n".to_vec()).is_err());
    }
}
