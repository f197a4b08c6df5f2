//! One project, created by both.

use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::{fs, io};

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::alike::{Comparison, compare, requests};
use crate::newer::{NewerEngine, settled};
use crate::theirs::{Made, compose, compose_at, docker};
use crate::{foreign, ours, theirs};

/// What all comparisons come to.
static TOTAL: Mutex<Total> = Mutex::new(Total { projects: 0, containers: 0, fields: 0, passed: 0 });

struct Total {
    projects: usize,
    containers: usize,
    fields: usize,
    /// Passed over: Compose or the engine rejects them.
    passed: usize,
}

/// Compares a project of ours, which Compose and the engine must take.
pub(crate) fn of_own(project: &Path) -> Result<(), Failed> {
    let Some(site) = Site::new()? else { return Ok(()) };
    copy(project, &site.directory())?;
    let dotenv = site.directory().join(".env");
    let mut variables = fs::read_to_string(&dotenv).unwrap_or_default();
    // Names and addresses that another run at the same time does not use.
    variables.push_str(&format!("SITE={}\nNET={}\n", site.name, std::process::id() % 250));
    fs::write(dotenv, variables)?;
    let outside = Outside::new(&site.name);
    let made = site.theirs().map_err(|error| format!("Compose rejects it: {error}"))?;
    let compared = site.compare_with_ours(&made);
    drop(outside);
    compared
}

/// Compares what both ask of an engine that says it is newer than the one that is here.
pub(crate) fn of_newer(project: &Path) -> Result<(), Failed> {
    let Some(site) = Site::new()? else { return Ok(()) };
    copy(project, &site.directory())?;
    let sockets = tempfile::tempdir()?;
    let engine = NewerEngine::start(sockets.path().join("docker.sock"))?;
    let host = engine.host();
    // It creates nothing, and says so.
    let refusal = compose_at(Some(&host), &site.directory(), &["create"]);
    let theirs: Vec<_> = engine.take().iter().map(settled).collect();
    compose(&site.directory(), &["down", "-v"])?;
    let refused = ours::create(site.services.path(), Some(&host));
    let ours: Vec<_> = engine.take().iter().map(settled).collect();
    let ([theirs], [ours]) = (&theirs[..], &ours[..]) else {
        return Err(format!("theirs: {refusal:?}, ours: {refused:?}").into());
    };
    let differences = requests(theirs, ours);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n").into()) }
}

/// Compares a project of others, unless it cannot be created at all.
pub(crate) fn of_others(file: &Path) -> Result<(), Failed> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let made = foreign::adopt(file, &site.directory(), &site.name).and_then(|()| site.theirs());
    match made {
        Ok(made) => site.compare_with_ours(&made),
        Err(error) => {
            say(&format!("passed over: {}: {}", file.display(), error.trim()));
            TOTAL.lock().expect("nobody panics with it").passed += 1;
            Ok(())
        }
    }
}

/// Says how much was compared.
pub(crate) fn report() {
    let total = TOTAL.lock().expect("nobody panics with it");
    say(&format!(
        "compared: {} projects, {} containers, {} fields; passed over: {}",
        total.projects, total.containers, total.fields, total.passed
    ));
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A directory of services with one service in it, whose name nobody else uses.
struct Site {
    services: TempDir,
    name: String,
}

impl Site {
    fn new() -> Result<Option<Self>, Failed> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        if let Some(missing) = theirs::missing() {
            let is_set = |name| std::env::var(name).is_ok_and(|v| v == "true" || v == "1");
            if is_set("CI") || is_set("NANNY_TEST_DOCKER") {
                return Err(missing.into());
            }
            say(&format!("NOT TESTED: {missing} (see scripts/engines)"));
            return Ok(None);
        }
        let services = tempfile::Builder::new().prefix("nanny-exact-").tempdir()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let site = Self { services, name: format!("exact{}-{number}", std::process::id()) };
        fs::create_dir(site.directory())?;
        let manifest = format!("name: {}\nrestart_policy: keep\n", site.name);
        fs::write(site.directory().join("service.yaml"), manifest)?;
        Ok(Some(site))
    }

    fn directory(&self) -> std::path::PathBuf {
        self.services.path().join(&self.name)
    }

    /// The project's name, which its file may choose.
    fn project(&self) -> String {
        let named = compose(&self.directory(), &["config", "--format", "json"]).ok();
        let named = named.and_then(|text| {
            let start = text.find('{')?;
            let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter();
            values
                .next()?
                .ok()
                .and_then(|v: serde_json::Value| v["name"].as_str().map(str::to_owned))
        });
        named.unwrap_or_else(|| self.name.clone())
    }

    /// Lets Compose create the project, and takes it down again.
    fn theirs(&self) -> Result<Made, String> {
        let created = compose(&self.directory(), &["create"]);
        let made = Made::of(&self.project());
        let down = compose(&self.directory(), &["down", "-v", "-t", "0"]);
        created.and(down).map(|_| made)
    }

    fn compare_with_ours(&self, theirs: &Made) -> Result<(), Failed> {
        ours::create(self.services.path(), None)
            .map_err(|error| format!("we fail at it: {error}"))?;
        let project = self.project();
        let comparison = compare(theirs, &Made::of(&project));
        let again = compose(&self.directory(), &["create"])?;
        let down = compose(&self.directory(), &["down", "-v", "-t", "0"])?;
        self.count(&comparison);
        if !comparison.differences.is_empty() {
            return Err(comparison.differences.join("\n").into());
        }
        let remade = ["Recreate", "Creating"].into_iter().find(|word| again.contains(word));
        if let Some(word) = remade {
            return Err(format!("Compose says '{word}' about what we made: {again}").into());
        }
        if !Made::of(&project).is_empty() {
            return Err(format!("`down` leaves something: {down}").into());
        }
        Ok(())
    }

    fn count(&self, comparison: &Comparison) {
        let mut total = TOTAL.lock().expect("nobody panics with it");
        total.projects += 1;
        total.containers += comparison.containers;
        total.fields += comparison.fields;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What a failure left.
        let _ = compose(&self.directory(), &["down", "-v", "-t", "0", "--remove-orphans"]);
    }
}

/// What a project finds there already: a network, a volume and a container called `NAME-outside`.
struct Outside(String);

impl Outside {
    fn new(site: &str) -> Self {
        let name = format!("{site}-outside");
        docker(&["network", "create", &name]);
        docker(&["volume", "create", &name]);
        docker(&["create", "--name", &name, theirs::IMAGE]);
        Self(name)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        docker(&["rm", "-f", "-v", &self.0]);
        docker(&["network", "rm", &self.0]);
        docker(&["volume", "rm", &self.0]);
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (path, target) = (entry?.path(), to);
        let target = target.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            fs::create_dir_all(&target)?;
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
