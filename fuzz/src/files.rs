//! Files that people write: manifests, Compose files, and files of variables.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use nanny_compose::yaml::{self, Limits, Node, Value};
use nanny_compose::{Files, Request, dotenv, hash, interpolate};
use nanny_lib::manifest::Problem;
use nanny_lib::project::from_compose;

/// A `service.yaml`: whatever it says, every problem lies inside it.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let problems = match nanny_lib::fuzzing::manifest(text) {
        Ok((manifest, hints)) => {
            assert!(manifest.name.as_str().len() <= 128);
            hints
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            problems
        }
    };
    for Problem { line, column, message, .. } in problems {
        assert!(is_inside(text, line, column), "{line}:{column}: {message}");
    }
}

/// YAML: everything that is read has its place in the text, and little grows out of little.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = Limits::default();
    match yaml::parse(text, &limits) {
        Ok(tree) => {
            // A scalar is no level of its own.
            let bytes = inspect(&tree, text, limits.max_depth + 1);
            assert!(bytes <= text.len() + limits.max_expansion, "{bytes} bytes of tree");
        }
        Err(error) => assert!(is_inside(text, error.line, error.column), "{error}"),
    }
}

/// Checks a tree against its text; the bytes of all scalars.
fn inspect(node: &Node, text: &str, depth: usize) -> usize {
    assert!(depth > 0, "nested too deep");
    assert!(is_inside(text, node.line, node.column), "{node:?}");
    match &node.value {
        Value::Sequence(items) => items.iter().map(|item| inspect(item, text, depth - 1)).sum(),
        Value::Mapping(mapping) => {
            let entry = |entry: &yaml::Entry| {
                assert!(is_inside(text, entry.key.line, entry.key.column), "{:?}", entry.key);
                entry.key.text.len() + inspect(&entry.value, text, depth - 1)
            };
            mapping.iter().map(entry).sum()
        }
        Value::String(text) => text.len(),
        _ => 0,
    }
}

/// Interpolation and files of variables: what holds no variable stays as it is, and no error shows
/// what a variable holds.
pub fn variables(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains(SECRET) {
        return;
    }
    match interpolate::interpolate(text, &secrets) {
        Ok(done) => {
            assert_eq!(done.has_values, done.text.contains(SECRET));
            assert!(!format!("{done:?}").contains(SECRET));
            if !text.contains('$') {
                assert_eq!(done.text, text);
            }
        }
        Err(error) => assert!(!format!("{error} {error:?}").contains(SECRET), "{error}"),
    }
    let escaped = interpolate::interpolate(&text.replace('$', "$$"), &secrets);
    assert_eq!(escaped.expect("there is no variable in it").text, text);
    for read in [dotenv::parse(text, &secrets), dotenv::parse_raw(text, &secrets)] {
        match read {
            Ok(read) => assert!(!format!("{read:?}").contains(SECRET)),
            Err(error) => {
                assert!(is_inside(text, error.line, 1), "{error}");
                assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
            }
        }
    }
}

/// A Compose file, with `.env` and `one.env` after lines of `=====`: every problem lies inside its
/// file, none shows what a variable holds, and what is loaded can be hashed and handed on.
pub fn compose(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains(SECRET) {
        return;
    }
    let mut parts = text.split("=====\n");
    let mut stage = Stage(BTreeMap::new());
    for name in ["/srv/app/compose.yaml", "/srv/app/.env", "/srv/app/one.env"] {
        stage.0.extend(parts.next().map(|text| (PathBuf::from(name), text)));
    }
    let mut request = Request::new("/srv/app/compose.yaml");
    request.home = Some("/home/ann".into());
    let problems = match nanny_compose::load(&request, &secrets, &stage) {
        Ok(loaded) => {
            let services = loaded.project.services.values();
            let hashes: Vec<_> = services.map(hash::service).collect();
            assert!(hashes.iter().all(|hash| hash.len() == 64));
            let manifest = nanny_lib::fuzzing::manifest("name: web").expect("it is one").0;
            let parts = from_compose(&loaded.project, &manifest).map(|project| project.parts);
            for part in parts.unwrap_or_default().values() {
                assert!(!format!("{:?}", part.spec.environment).contains(SECRET));
            }
            loaded.warnings
        }
        Err(refused) => {
            assert!(!refused.problems.is_empty(), "refused without a reason");
            [refused.problems, refused.warnings].concat()
        }
    };
    check_places(&problems, &stage);
}

/// A project of several files, each after a line `===== PATH`: `extends`, `include`, merging. Those
/// with `compose` in their name are laid over each other. Promises as for [`compose`], and the
/// canonical model is YAML.
pub fn project(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains(SECRET) {
        return;
    }
    let mut stage = Stage(BTreeMap::new());
    for part in text.split("===== ").skip(1).take(8) {
        let (path, text) = part.split_once('\n').unwrap_or((part, ""));
        stage.0.insert(Path::new("/srv/app").join(path), text);
    }
    let names = stage.0.keys().filter(|path| path.to_string_lossy().contains("compose"));
    let mut request = Request::of_files(names.cloned().collect());
    request.home = Some("/home/ann".into());
    match nanny_compose::load(&request, &secrets, &stage) {
        Ok(loaded) => {
            check_places(&loaded.warnings, &stage);
            let json = loaded.project.to_json();
            let tree = yaml::parse(json, &Limits::default());
            // YAML has no place for a few characters that JSON has.
            let is_odd = |c: char| c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c);
            assert!(tree.is_ok() || json.contains(is_odd), "{json}");
        }
        Err(refused) => {
            assert!(!refused.problems.is_empty(), "refused without a reason");
            check_places(&[refused.problems, refused.warnings].concat(), &stage);
        }
    }
}

/// Problems lie inside their files, and show nothing that a variable holds.
fn check_places(problems: &[nanny_compose::Problem], stage: &Stage<'_>) {
    for problem in problems {
        assert!(!format!("{problem} {problem:?}").contains(SECRET), "{problem}");
        let whole = problem.line == 0;
        let text = stage.0.get(&problem.file).copied().unwrap_or_default();
        assert!(whole || is_inside(text, problem.line, problem.column), "{problem}");
    }
}

/// What every variable holds whose name begins with an `S`.
const SECRET: &str = "hunter2";

fn secrets(name: &str) -> Option<String> {
    name.starts_with('S').then(|| SECRET.to_owned())
}

/// Files in memory.
struct Stage<'a>(BTreeMap<PathBuf, &'a str>);

impl Files for Stage<'_> {
    fn read(&self, path: &Path, _limit: u64) -> io::Result<Vec<u8>> {
        let text = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(text.as_bytes().to_vec())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }
}

/// Whether a place lies in a text, or right behind the end of one of its lines.
fn is_inside(text: &str, line: usize, column: usize) -> bool {
    let text = text.replace("\r\n", "\n");
    // What ends the last line begins another one.
    let mut lines = text.split(['\n', '\r']);
    line >= 1
        && column >= 1
        && lines.nth(line - 1).is_some_and(|line| column <= line.chars().count() + 1)
}
