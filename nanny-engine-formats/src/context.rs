//! Build contexts: which files of a directory a builder gets to see, and how they are packed.
//!
//! Reading and packing block. Links are sent as links: none is followed, so nothing outside the directory goes
//! along.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use globset::{GlobBuilder, GlobMatcher};
use nanny_lib::backend::{BackendError, BuildSpec, ErrorKind};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

/// No context has more files and directories.
const MAX_ENTRIES: usize = 200_000;
/// No more of them are looked at.
const MAX_SEEN: usize = 10 * MAX_ENTRIES;
/// No context is bigger.
const MAX_BYTES: u64 = 4 << 30;
/// No recipe and no list of what to leave out is longer.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// So much is sent at once.
const PIECE_BYTES: usize = 64 << 10;

/// A context, ready to be packed.
#[derive(Debug)]
pub struct Context {
    root: PathBuf,
    /// Beneath the root, in order.
    entries: Vec<(PathBuf, Metadata)>,
    /// What the recipe is called within the archive.
    dockerfile: String,
    /// The recipe's text, if it is no file of the context.
    recipe: Option<Vec<u8>>,
}

/// Why a context cannot be sent.
#[derive(Debug)]
pub struct Fault {
    message: String,
    source: Option<io::Error>,
}

impl Context {
    /// Looks through the directory of `spec`, on a thread of its own.
    ///
    /// # Errors
    ///
    /// If it is not there, cannot be read, or is too big.
    pub async fn gather(spec: BuildSpec) -> Result<Self, Fault> {
        let gathered = spawn_blocking(move || Self::gather_here(&spec)).await;
        gathered.unwrap_or_else(|error| Err(Fault::broken(error)))
    }

    fn gather_here(spec: &BuildSpec) -> Result<Self, Fault> {
        let shown = spec.context.display();
        let root = spec.context.canonicalize();
        let root = root.map_err(Fault::of(format!("the build context {shown} cannot be read")))?;
        if !root.is_dir() {
            return Err(Fault::new(format!("the build context {shown} is no directory")));
        }
        let (dockerfile, recipe) = recipe(&root, spec)?;
        let excluded = Excluded::read(&root, &dockerfile)?;
        let entries = Vec::new();
        let mut gathering = Gathering { root: &root, excluded, entries, bytes: 0, seen: 0 };
        gathering.directory(Path::new(""))?;
        let mut entries = gathering.entries;
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Self { entries, dockerfile, recipe, root })
    }

    /// What the recipe is called within the archive.
    #[must_use]
    pub fn dockerfile(&self) -> &str {
        &self.dockerfile
    }

    /// Sends the context as a tar archive, piece by piece, until it is sent or nobody wants it.
    pub(crate) fn pack(self, pieces: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Fault> {
        let packed = self.write(Pieces(pieces.clone()));
        if let Err(fault) = &packed {
            // Half an archive must not pass for a whole one. Perhaps nobody listens any more.
            let _ = pieces.blocking_send(Err(io::Error::other(fault.message.clone())));
        }
        packed
    }

    fn write(&self, to: impl Write) -> Result<(), Fault> {
        let mut archive = tar::Builder::new(BufWriter::with_capacity(PIECE_BYTES, to));
        for (path, metadata) in &self.entries {
            let failed =
                Fault::of(format!("{} of the build context cannot be sent", path.display()));
            self.append(&mut archive, path, metadata).map_err(failed)?;
        }
        let end = || Fault::of("the build context cannot be sent".to_owned());
        if let Some(recipe) = &self.recipe {
            let mut header = header(0o644, recipe.len() as u64);
            let appended = archive.append_data(&mut header, &self.dockerfile, recipe.as_slice());
            appended.map_err(end())?;
        }
        archive.into_inner().and_then(|mut to| to.flush()).map_err(end())
    }

    fn append(
        &self,
        archive: &mut tar::Builder<impl Write>,
        path: &Path,
        metadata: &Metadata,
    ) -> io::Result<()> {
        let whole = self.root.join(path);
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        let mut header = header(metadata.mode() & 0o7777, size);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
        if metadata.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            return archive.append_link(&mut header, path, fs::read_link(whole)?);
        }
        if metadata.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            return archive.append_data(&mut header, path, io::empty());
        }
        // What has become a link since is not followed either, and a pipe is not waited for.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(whole)?;
        archive.append_data(&mut header, path, Exactly { file, left: size })
    }
}

/// In a build, everything is root's, whoever's it is outside.
fn header(mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

impl Fault {
    /// Whether all that is wrong is that nobody takes the context any more.
    pub(crate) fn is_hang_up(&self) -> bool {
        self.source.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn new(message: String) -> Self {
        Self { message, source: None }
    }

    pub(crate) fn broken(error: tokio::task::JoinError) -> Self {
        Self { message: "packing was cut short".to_owned(), source: Some(io::Error::other(error)) }
    }

    fn of(message: String) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { message: format!("{message}: {error}"), source: Some(error) }
    }

    /// The same as the error of a build of the image `name`.
    #[must_use]
    pub fn on(self, name: &str) -> BackendError {
        let error = BackendError::new(ErrorKind::Invalid, "build", self.message).on(name);
        match self.source {
            Some(source) => error.caused_by(source),
            None => error,
        }
    }
}

/// The recipe's name within the archive, and its text if it is no file of the context.
fn recipe(root: &Path, spec: &BuildSpec) -> Result<(String, Option<Vec<u8>>), Fault> {
    if let Some(text) = &spec.dockerfile_inline {
        let text = text.clone().into_bytes();
        return Ok((beside(&text), Some(text)));
    }
    let path = root.join(&spec.dockerfile);
    let failed = || Fault::of(format!("the Dockerfile {} cannot be read", path.display()));
    let real = path.canonicalize().map_err(failed())?;
    if let Some(name) = real.strip_prefix(root).ok().and_then(Path::to_str) {
        return Ok((name.to_owned(), None));
    }
    let text = read_text(&real).map_err(failed())?;
    Ok((beside(&text), Some(text)))
}

/// A name for a recipe that comes from elsewhere: no file of the context has it by chance, and it is
/// the same for the same text, so that what is built from it stays the same.
fn beside(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(8).fold(".dockerfile.".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

struct Gathering<'a> {
    root: &'a Path,
    excluded: Excluded,
    entries: Vec<(PathBuf, Metadata)>,
    bytes: u64,
    /// Files and directories that were looked at, also those that are left out.
    seen: usize,
}

impl Gathering<'_> {
    /// Everything beneath `path`, which is relative to the root.
    fn directory(&mut self, path: &Path) -> Result<(), Fault> {
        // On a stack of our own: a tree may be deeper than a thread's.
        let mut open = vec![path.to_owned()];
        while let Some(directory) = open.pop() {
            let shown = directory.display();
            let failed = || Fault::of(format!("{shown} of the build context cannot be read"));
            for found in fs::read_dir(self.root.join(&directory)).map_err(failed())? {
                let found = found.map_err(failed())?;
                let path = directory.join(found.file_name());
                let metadata = found.metadata().map_err(failed())?;
                self.seen += 1;
                let excluded = self.excluded.holds(&path);
                if metadata.is_dir() && !(excluded && self.excluded.is_final()) {
                    open.push(path.clone());
                }
                if self.seen > MAX_SEEN {
                    return Err(self.too_big());
                }
                if !excluded || self.excluded.is_needed(&path) {
                    self.add(path, metadata)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, metadata: Metadata) -> Result<(), Fault> {
        // No builder has a use for pipes, sockets and devices.
        if !(metadata.is_dir() || metadata.is_file() || metadata.is_symlink()) {
            return Ok(());
        }
        if metadata.is_file() {
            self.bytes += metadata.len();
        }
        self.entries.push((path, metadata));
        if self.bytes > MAX_BYTES || self.entries.len() > MAX_ENTRIES {
            return Err(self.too_big());
        }
        Ok(())
    }

    fn too_big(&self) -> Fault {
        Fault::new(format!(
            "the build context {} has more than {} GiB or {MAX_ENTRIES} files: name in its \
             .dockerignore what the build does not need",
            self.root.display(),
            MAX_BYTES >> 30
        ))
    }
}

/// What a `.dockerignore` leaves out.
#[derive(Debug, Default)]
struct Excluded {
    patterns: Vec<Pattern>,
    /// Sent all the same, for the builder reads them itself.
    needed: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct Pattern {
    matcher: GlobMatcher,
    /// It takes back what others leave out.
    keeps: bool,
}

impl Excluded {
    /// The recipe's own list comes before the context's.
    fn read(root: &Path, dockerfile: &str) -> Result<Self, Fault> {
        for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
            let failed = Fault::of(format!("{name} of the build context cannot be read"));
            match read_text(&root.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
                Ok(text) => {
                    let mut excluded = Self::parse(&String::from_utf8_lossy(&text), &name)?;
                    excluded.needed = BTreeSet::from([PathBuf::from(dockerfile), name.into()]);
                    return Ok(excluded);
                }
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str, name: &str) -> Result<Self, Fault> {
        let mut patterns = Vec::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (line, keeps) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            let Some(pattern) = cleaned(line) else { continue };
            let mut glob = GlobBuilder::new(&pattern);
            let glob = glob.literal_separator(true).backslash_escape(true).build();
            let glob = glob.map_err(|error| {
                Fault::new(format!("{name} of the build context has no pattern {line:?}: {error}"))
            })?;
            patterns.push(Pattern { matcher: glob.compile_matcher(), keeps });
        }
        Ok(Self { patterns, needed: BTreeSet::new() })
    }

    /// Whether `path` is left out: the last pattern that fits it, or a directory it is in, decides.
    fn holds(&self, path: &Path) -> bool {
        let fits = |pattern: &&Pattern| {
            path.ancestors().any(|part| part != Path::new("") && pattern.matcher.is_match(part))
        };
        self.patterns.iter().rfind(fits).is_some_and(|pattern| !pattern.keeps)
    }

    /// Whether nothing in a directory that is left out can be wanted after all.
    fn is_final(&self) -> bool {
        self.needed.iter().all(|path| path.components().count() == 1)
            && !self.patterns.iter().any(|pattern| pattern.keeps)
    }

    fn is_needed(&self, path: &Path) -> bool {
        self.needed.contains(path)
    }
}

/// A pattern as a path beneath the root, without what does nothing; `None` if nothing is left.
fn cleaned(line: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in line.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    // Braces are characters like all others here.
    let pattern = parts.join("/").replace('{', "\\{").replace('}', "\\}");
    (!pattern.is_empty()).then_some(pattern)
}

/// So many bytes of a file, whatever becomes of it meanwhile.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// Sends what is written to it.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A directory with these files.
    fn directory(files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn gather(directory: &TempDir, change: impl FnOnce(&mut BuildSpec)) -> Result<Context, Fault> {
        let mut spec = BuildSpec::new("test:1", directory.path());
        change(&mut spec);
        Context::gather_here(&spec)
    }

    /// What is in the archive: text, or where a link leads, by path.
    fn packed(context: &Context) -> BTreeMap<String, String> {
        let mut bytes = Vec::new();
        context.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (0, 0));
            let mut text = String::new();
            match entry.link_name().unwrap() {
                Some(link) => text = format!("-> {}", link.display()),
                None => drop(entry.read_to_string(&mut text).unwrap()),
            }
            (path.trim_end_matches('/').to_owned(), text)
        });
        entries.collect()
    }

    fn names(context: &Context) -> Vec<String> {
        packed(context).into_keys().collect()
    }

    #[test]
    fn links_are_sent_as_links_and_not_followed() {
        let outside = directory(&[("secret", "hunter2")]);
        let inside = directory(&[("Dockerfile", "FROM x"), ("sub/a", "b")]);
        symlink(outside.path(), inside.path().join("out")).unwrap();
        symlink(outside.path().join("secret"), inside.path().join("sub/file")).unwrap();
        let packed = packed(&gather(&inside, |_| {}).unwrap());
        assert_eq!(
            packed.keys().collect::<Vec<_>>(),
            ["Dockerfile", "out", "sub", "sub/a", "sub/file"]
        );
        assert_eq!(packed["out"], format!("-> {}", outside.path().display()));
        assert!(!packed.values().any(|text| text.contains("hunter2")));
    }

    #[test]
    fn what_became_a_link_since_is_not_followed_either() {
        let outside = directory(&[("secret", "hunter2")]);
        let inside = directory(&[("Dockerfile", "FROM x"), ("file", "longer than the secret")]);
        let context = gather(&inside, |_| {}).unwrap();
        let file = inside.path().join("file");
        fs::remove_file(&file).unwrap();
        symlink(outside.path().join("secret"), file).unwrap();
        let fault = context.write(Vec::new()).unwrap_err();
        assert!(fault.message.starts_with("file of the build context"), "{}", fault.message);
    }

    #[test]
    fn what_the_list_names_is_left_out_as_docker_leaves_it_out() {
        let files = [
            ".dockerignore",
            "Dockerfile",
            "keep/one.txt",
            "keep/two.log",
            "models/big.bin",
            "models/deep/er.bin",
            "models/needed.txt",
            "top.log",
            "{odd}",
        ];
        let left = |list: &str| {
            let files: Vec<_> = files
                .iter()
                .map(|name| (*name, if *name == ".dockerignore" { list } else { "x" }))
                .collect();
            let all = names(&gather(&directory(&files), |_| {}).unwrap());
            all.into_iter().filter(|name| files.iter().any(|(file, _)| file == name)).collect()
        };
        let without = |missing: &[&str]| -> Vec<String> {
            let all = files.iter().filter(|name| !missing.contains(name));
            all.map(|name| (*name).to_owned()).collect()
        };
        type List = Vec<String>;
        let models = ["models/big.bin", "models/deep/er.bin", "models/needed.txt"];
        assert_eq!(left("# nothing\n\n"), without(&[]));
        assert_eq!(left("models"), without(&models));
        assert_eq!(left("/models/\n"), without(&models));
        assert_eq!(left("*.log"), without(&["top.log"]), "no pattern goes deeper by itself");
        assert_eq!(left("**/*.log"), without(&["keep/two.log", "top.log"]));
        assert_eq!(left("models/*\n!models/needed.txt"), without(&models[..2]));
        assert_eq!(left("!models/needed.txt\nmodels"), without(&models), "the last one counts");
        assert_eq!(left("*/deep"), without(&["models/deep/er.bin"]));
        assert_eq!(left("{odd}"), without(&["{odd}"]));
        assert_eq!(left("m?dels/[a-c]*"), without(&["models/big.bin"]));
        let only: List = left("*");
        assert_eq!(only, [".dockerignore", "Dockerfile"], "the builder reads these itself");
    }

    #[test]
    fn a_recipe_may_come_from_elsewhere() {
        let elsewhere = directory(&[("My.Dockerfile", "FROM elsewhere")]);
        let inside = directory(&[("sub/Dockerfile", "FROM x"), (".dockerignore", "sub")]);
        let context = gather(&inside, |spec| spec.dockerfile = "sub/Dockerfile".into()).unwrap();
        assert_eq!(context.dockerfile(), "sub/Dockerfile");
        assert_eq!(packed(&context)["sub/Dockerfile"], "FROM x");

        let path = elsewhere.path().join("My.Dockerfile");
        let outside = gather(&inside, |spec| spec.dockerfile = path.clone()).unwrap();
        assert_eq!(packed(&outside)[outside.dockerfile()], "FROM elsewhere");

        let inline = gather(&inside, |spec| spec.dockerfile_inline = Some("FROM inline".into()));
        let inline = inline.unwrap();
        assert_eq!(packed(&inline)[inline.dockerfile()], "FROM inline");
        let fault = gather(&inside, |_| {}).unwrap_err();
        assert!(fault.message.contains("Dockerfile"), "{}", fault.message);
    }

    #[test]
    fn a_recipe_has_a_list_of_its_own() {
        let inside = directory(&[
            ("gpu.Dockerfile", "FROM x"),
            ("gpu.Dockerfile.dockerignore", "a"),
            (".dockerignore", "b"),
            ("a", ""),
            ("b", ""),
        ]);
        let context = gather(&inside, |spec| spec.dockerfile = "gpu.Dockerfile".into()).unwrap();
        assert_eq!(
            names(&context),
            [".dockerignore", "b", "gpu.Dockerfile", "gpu.Dockerfile.dockerignore"]
        );
    }

    #[test]
    fn pipes_are_neither_sent_nor_waited_for() {
        let inside = directory(&[("Dockerfile", "FROM x")]);
        let pipe = inside.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(names(&gather(&inside, |_| {}).unwrap()), ["Dockerfile"]);
        let fault = gather(&inside, |spec| spec.dockerfile = "pipe".into()).map(|context| {
            // The recipe is a file of the context, and not among what is sent.
            names(&context)
        });
        assert_eq!(fault.unwrap(), ["Dockerfile"]);
    }

    #[test]
    fn a_context_that_is_too_big_is_refused_and_the_cure_is_named() {
        let inside = directory(&[("Dockerfile", "FROM x")]);
        let big = File::create(inside.path().join("weights")).unwrap();
        big.set_len(MAX_BYTES + 1).unwrap();
        let fault = gather(&inside, |_| {}).unwrap_err();
        assert!(fault.message.contains(".dockerignore"), "{}", fault.message);
        fs::write(inside.path().join(".dockerignore"), "weights").unwrap();
        gather(&inside, |_| {}).unwrap();
    }

    #[test]
    fn a_context_that_is_not_there_is_named() {
        let fault = Context::gather_here(&BuildSpec::new("x", "/no/such/directory")).unwrap_err();
        assert!(fault.message.contains("/no/such/directory"), "{}", fault.message);
    }
}
