//! Every input that was ever worth keeping, through its target again; and some that are made of
//! them, always the same. `NANNY_MUTANTS` says how many of each.

use std::fs;
use std::path::Path;

/// How many mutants of each input there are if nobody says.
const MUTANTS: usize = 20;

fn replay(target: fn(&[u8]), name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&folder).expect("each target has a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    let corpus: Vec<_> = paths.iter().map(|path| fs::read(path).expect("it is a file")).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    for (path, data) in paths.iter().zip(&corpus) {
        let held = std::panic::catch_unwind(|| target(data));
        assert!(held.is_ok(), "{} breaks a promise: see above", path.display());
    }
    let mutants = std::env::var("NANNY_MUTANTS").ok().and_then(|mutants| mutants.parse().ok());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for (path, data) in paths.iter().zip(&corpus) {
        for _ in 0..mutants.unwrap_or(MUTANTS) {
            let mutant = dice.mutant(data, &corpus);
            let held = std::panic::catch_unwind(|| target(&mutant));
            let of = path.display();
            assert!(held.is_ok(), "a mutant of {of} breaks a promise:\n{}", mutant.escape_ascii());
        }
    }
}

/// What means something in one of the languages, or is a border of something.
const WORDS: [&[u8]; 32] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\r",
    b"\t",
    b" ",
    b": ",
    b"- ",
    b"'",
    b"\"",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"${",
    b"}",
    b"$S",
    b":-",
    b":?",
    b"#",
    b"=",
    b"[",
    b"{",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"2026-11-23T08:33:06.123456789Z ",
    b"\x01\0\0\0\0\0\0\x05",
    b"99999999999999999999",
    b"---\n",
    b"\\u0000",
    b"localhost:8080",
    b"%00",
];

/// xorshift64: the same numbers every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap_or(0)
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(40) + 1)
    }

    fn mutant(&mut self, data: &[u8], corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut mutant = data.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(mutant.len() + 1);
            match self.below(5) {
                0 => {
                    let word = WORDS[self.below(WORDS.len())];
                    mutant.splice(at..at, word.iter().copied());
                }
                1 => drop(mutant.drain(self.range(mutant.len()))),
                2 => {
                    let twice = mutant[self.range(mutant.len())].to_vec();
                    mutant.splice(at..at, twice);
                }
                3 => {
                    let other = &corpus[self.below(corpus.len())];
                    let part = other[self.range(other.len())].to_vec();
                    mutant.splice(at..at, part);
                }
                _ if at < mutant.len() => mutant[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        mutant
    }
}

#[test]
fn h1_manifests_that_were_found_by_fuzzing_do_no_harm() {
    replay(nanny_fuzz::manifest, "manifest");
}

#[test]
fn h1_yaml_that_was_found_by_fuzzing_does_no_harm() {
    replay(nanny_fuzz::yaml, "yaml");
}

#[test]
fn h13_variables_that_were_found_by_fuzzing_do_no_harm() {
    replay(nanny_fuzz::variables, "variables");
}

#[test]
fn h2_compose_files_that_were_found_by_fuzzing_do_no_harm() {
    replay(nanny_fuzz::compose, "compose");
}

#[test]
fn h2_projects_of_several_files_do_no_harm() {
    replay(nanny_fuzz::project, "project");
}

#[test]
fn e3_logs_that_were_found_by_fuzzing_do_no_harm() {
    replay(nanny_fuzz::log, "log");
}

#[test]
fn g2_heads_that_were_found_by_fuzzing_do_no_harm() {
    replay(nanny_fuzz::guard, "guard");
}

#[test]
fn g11_requests_that_were_found_by_fuzzing_do_no_harm() {
    replay(nanny_fuzz::request, "request");
}
