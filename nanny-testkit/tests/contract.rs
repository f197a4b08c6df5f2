//! The contract, its tests and `docs/backends.md` say the same.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nanny_testkit::conformance::{self, Clause, Proof};

/// Where the traits are, and which of the traits there make up the contract.
const SOURCES: [(&str, &[&str]); 2] =
    [("mod.rs", &["ContainerBackend"]), ("resources.rs", &["Images", "Networks", "Volumes"])];
/// From here to its end, the page is made from the table.
const MARK: &str =
    "<!-- From here on: NANNY_WRITE_DOCS=1 cargo test -p nanny-testkit --test contract -->\n";

#[test]
fn the_table_has_every_sentence_of_the_traits_and_no_other() {
    let mut said = Vec::new();
    for (file, traits) in SOURCES {
        let text = fs::read_to_string(beside("nanny-lib/src/backend").join(file))
            .expect("the traits are there");
        said.extend(sentences(&text, traits));
    }
    let known = conformance::contract().iter();
    let known: Vec<_> = known.map(|c| (c.place.to_owned(), c.says.to_owned())).collect();
    for sentence in &said {
        assert!(known.contains(sentence), "not in the table: {sentence:?}");
    }
    for sentence in &known {
        assert!(said.contains(sentence), "no trait says so: {sentence:?}");
    }
    assert_eq!(said, known, "the order is another");
}

#[test]
fn every_test_proves_a_sentence_and_every_proof_is_a_test() {
    let proofs = conformance::contract().iter().flat_map(|clause| match clause.proof {
        Proof::Tests(tests) => tests,
        _ => &[],
    });
    let proofs: BTreeSet<String> = proofs.map(|name| (*name).to_owned()).collect();
    let tests: BTreeSet<String> = conformance::names().into_iter().collect();
    assert_eq!(proofs, tests);
}

#[test]
fn the_page_about_backends_has_the_table() {
    let path = beside("docs/backends.md");
    let page = fs::read_to_string(&path).expect("there is a page");
    let (text, written) = page.split_once(MARK).expect("the page has its mark");
    let table = table(conformance::contract());
    if env::var("NANNY_WRITE_DOCS").is_ok_and(|write| write == "1") {
        fs::write(&path, format!("{text}{MARK}{table}")).expect("the page can be written");
    } else {
        assert!(written == table, "docs/backends.md is out of date; it says itself how to mend it");
    }
}

fn beside(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn table(contract: &[Clause]) -> String {
    let mut page = String::new();
    let mut place = "";
    for clause in contract {
        // Writing to a string cannot fail, here and below.
        if clause.place != place {
            place = clause.place;
            let _ = write!(page, "\n### `{place}`\n\n| sentence | proof |\n|---|---|\n");
        }
        let proof = match clause.proof {
            Proof::Tests(tests) => {
                let tests: Vec<_> = tests.iter().map(|name| format!("`{name}`")).collect();
                tests.join("<br>")
            }
            Proof::Elsewhere(why) => format!("*{why}*"),
            _ => String::new(),
        };
        let _ = writeln!(page, "| {} | {proof} |", clause.says);
    }
    page
}

/// The sentences in the documentation of `traits` and their methods, each with its place.
fn sentences(source: &str, traits: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut documentation, mut within) = (Vec::new(), None);
    for line in source.lines() {
        if let Some(text) = line.trim_start().strip_prefix("///") {
            documentation.push(text.trim());
            continue;
        }
        if line.trim_start().starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("pub trait ") {
            within = traits.iter().find(|name| rest.starts_with(&format!("{name}:"))).copied();
        } else if line == "}" {
            within = None;
        }
        let method = line.strip_prefix("    ").and_then(|line| {
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split('(').next()
        });
        let place = match (within, method) {
            (Some(name), Some(method)) => Some(format!("{name}::{method}")),
            (Some(name), None) if line.starts_with("pub trait ") => Some(name.to_owned()),
            _ => None,
        };
        if let Some(place) = place {
            let all = documentation.split(|line| line.is_empty()).map(|lines| lines.join(" "));
            for paragraph in all.filter(|text| !text.starts_with('#')) {
                found.extend(split(&plain(&paragraph)).map(|says| (place.clone(), says)));
            }
        }
        documentation.clear();
    }
    found
}

/// A paragraph without its title and the targets of its links.
fn plain(paragraph: &str) -> String {
    let titled = paragraph.strip_prefix('*').and_then(|rest| rest.split_once("* "));
    let mut rest = titled.map_or(paragraph, |(_, rest)| rest);
    let mut text = String::new();
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, after) = link.split_once("`]").expect("a link has an end");
        let _ = write!(text, "{before}`{name}`");
        rest = match after.strip_prefix('(') {
            Some(target) => target.split_once(')').expect("a target has an end").1,
            None => after,
        };
    }
    text + rest
}

fn split(paragraph: &str) -> impl Iterator<Item = String> {
    let mut sentences = vec![String::new()];
    let begins = |word: &str| word.starts_with(|c: char| c.is_uppercase() || c == '`');
    for word in paragraph.split_whitespace() {
        let last = sentences.last_mut().expect("there is always one");
        if last.ends_with('.') && begins(word) {
            sentences.push(word.to_owned());
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    sentences.into_iter().filter(|sentence| !sentence.is_empty())
}
