use proptest::prelude::*;

use super::*;

const TIME: &str = "2026-11-23T08:33:06.123456789Z";

fn frame(kind: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[kind, 0, 0, 0], &length[..], message].concat()
}

/// Feeds `chunks` and answers everything that came out, and the most that was ever held back.
fn decode(
    mut decoder: Decoder,
    chunks: impl IntoIterator<Item = Vec<u8>>,
) -> (Vec<Result<LogLine, Broken>>, usize) {
    let mut out = Vec::new();
    let mut held = 0;
    for chunk in chunks {
        decoder.feed(Bytes::from(chunk));
        while let Some(line) = decoder.next_line() {
            out.push(line);
        }
        let lines = [&decoder.stdout, &decoder.stderr];
        let in_lines =
            lines.map(|line| line.bytes.capacity() + line.prefix.as_ref().map_or(0, Vec::capacity));
        held = held.max(in_lines.iter().sum::<usize>() + decoder.complaint.capacity());
    }
    while let Some(line) = decoder.finish() {
        out.push(Ok(line));
    }
    (out, held)
}

fn texts(decoder: Decoder, bytes: &[u8]) -> Vec<(LogStream, String)> {
    let (out, _) = decode(decoder, [bytes.to_vec()]);
    out.into_iter()
        .map(|line| line.unwrap())
        .map(|line| (line.stream, String::from_utf8(line.bytes.to_vec()).unwrap()))
        .collect()
}

#[test]
fn frames_become_lines_with_their_times() {
    let log = [
        frame(1, format!("{TIME} one\n").as_bytes()),
        frame(2, format!("{TIME} two\r\n").as_bytes()),
        frame(1, format!("{TIME} \n").as_bytes()),
        frame(1, format!("{TIME} no end").as_bytes()),
    ];
    let (out, _) = decode(Decoder::for_frames(), [log.concat()]);
    let out: Vec<_> = out.into_iter().map(Result::unwrap).collect();
    assert!(out.iter().all(|line| line.at == Some(TIME.parse().unwrap())));
    let texts: Vec<_> = out.iter().map(|line| (line.stream, &*line.bytes)).collect();
    assert_eq!(
        texts,
        [
            (LogStream::Stdout, &b"one"[..]),
            (LogStream::Stderr, b"two"),
            (LogStream::Stdout, b""),
            (LogStream::Stdout, b"no end"),
        ]
    );
}

#[test]
fn a_container_cannot_forge_its_times() {
    let log = frame(1, format!("{TIME} 1999-01-01T00:00:00.000000000Z mine\n").as_bytes());
    let (out, _) = decode(Decoder::for_frames(), [log]);
    let line = out[0].as_ref().unwrap();
    assert_eq!(line.at, Some(TIME.parse().unwrap()));
    assert_eq!(line.bytes, "1999-01-01T00:00:00.000000000Z mine");
}

#[test]
fn a_long_line_is_split_and_its_later_times_are_not_text() {
    let part = "x".repeat(MAX_LINE_BYTES);
    let messages = [format!("{TIME} {part}"), format!("{TIME} {part}"), format!("{TIME} end\n")];
    let log: Vec<_> = messages.iter().flat_map(|message| frame(1, message.as_bytes())).collect();
    let lengths: Vec<_> =
        texts(Decoder::for_frames(), &log).iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 3]);

    let log = messages.concat();
    let lengths: Vec<_> =
        texts(Decoder::for_terminal(), log.as_bytes()).iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 3]);
}

#[test]
fn a_line_of_exactly_the_limit_is_one_line() {
    let log = frame(1, format!("{TIME} {}\nnext\n", "x".repeat(MAX_LINE_BYTES)).as_bytes());
    let lengths: Vec<_> =
        texts(Decoder::for_frames(), &log).iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, 4]);
}

#[test]
fn e4_a_terminal_may_write_what_looks_like_a_frame() {
    let forged = [b"\x01\0\0\0\xff\xff\xff\xff".as_slice(), b"ha\r\n"].concat();
    let log = [TIME.as_bytes(), b" ", &forged, TIME.as_bytes(), b" next\r\n"].concat();
    let (out, _) = decode(Decoder::for_terminal(), [log]);
    let lines: Vec<_> = out.into_iter().map(|line| line.unwrap().bytes).collect();
    assert_eq!(lines, [&forged[..forged.len() - 2], b"next"]);
}

#[test]
fn a_header_may_claim_what_it_likes() {
    let log = [b"\x01\0\0\0\xff\xff\xff\xff".as_slice(), &vec![b'x'; 1 << 20]].concat();
    let (out, held) = decode(Decoder::for_frames(), log.chunks(8192).map(<[u8]>::to_vec));
    assert_eq!(out.len(), 64);
    assert!(held < 64 << 10, "{held} bytes were held");
}

#[test]
fn what_is_no_log_is_an_error_and_then_the_end() {
    let log = [frame(1, b"fine\n"), b"HTTP/1.1 500".to_vec(), frame(1, b"more\n")].concat();
    let (out, _) = decode(Decoder::for_frames(), [log]);
    assert_eq!(out.len(), 2);
    assert_eq!(out[1], Err(Broken::NotFramed));
}

#[test]
fn the_engines_own_complaint_is_an_error() {
    let log = [frame(1, b"fine\n"), frame(3, b"error from daemon in stream: EOF\n")].concat();
    let (out, _) = decode(Decoder::for_frames(), [log]);
    assert_eq!(out[1], Err(Broken::Complaint("error from daemon in stream: EOF".to_owned())));
}

/// Bytes that get somewhere: frames, times, line ends, long runs, and noise between them.
fn log_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        (0_u8..5, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(k, m)| frame(k, &m)),
        (1_u8..3, "[a-z \r\n]{0,80}").prop_map(|(k, m)| frame(k, format!("{TIME} {m}").as_bytes())),
        (1_u8..3, 16_000_usize..17_000).prop_map(|(k, n)| frame(k, &vec![b'x'; n])),
        Just(format!("{TIME} line\r\n").into_bytes()),
        (1_u8..3, any::<u32>()).prop_map(|(k, n)| [&[k, 0, 0, 0], &n.to_be_bytes()[..]].concat()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn chunks_do_not_matter_and_memory_is_bounded(
        bytes in log_bytes(),
        cuts in prop::collection::vec(1_usize..5000, 1..20),
        terminal in any::<bool>(),
    ) {
        let decoder = || if terminal { Decoder::for_terminal() } else { Decoder::for_frames() };
        let (whole, _) = decode(decoder(), [bytes.clone()]);
        let mut chunks = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break }
            let (chunk, more) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk.to_vec());
            rest = more;
        }
        let (parts, held) = decode(decoder(), chunks);
        prop_assert_eq!(&whole, &parts);
        prop_assert!(held <= 96 << 10, "{} bytes were held", held);
        for line in whole.iter().flatten() {
            prop_assert!(line.bytes.len() <= MAX_LINE_BYTES);
        }
    }
}
