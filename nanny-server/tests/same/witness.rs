//! A witness who asks the kernel what runs, and neither an engine nor the nanny: every program of
//! these tests carries the name of its project in its environment, wherever it runs.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::house::{pause, until};

/// The variable that says whose a process is: `PROJECT`, or `PART.PROJECT` for further parts.
pub(crate) const MARK: &str = "NANNY_TEST_SAME";

/// A process: no other one ever has both the same number and the same beginning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    /// In ticks since the machine was started.
    began: u64,
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// What it carries.
    pub(crate) mark: String,
}

impl Run {
    /// The process with this number, if it carries a mark. A zombie carries none.
    fn of(pid: u32) -> Option<Self> {
        let variables = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = variables.split(|byte| *byte == 0);
        let mark = variables.find_map(|variable| {
            variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
        })?;
        let mark = String::from_utf8(mark).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may hold anything; the fields after it are numbers.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let began = fields.nth(17)?.parse().ok()?;
        Some(Self { began, pid, parent, mark })
    }

    /// Whether it is still there.
    fn lives(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| (now.began, &now.mark) == (self.began, &self.mark))
    }

    /// Its project.
    fn project(&self) -> &str {
        self.mark.rsplit_once('.').map_or(&self.mark, |(_, project)| project)
    }
}

/// All processes whose project `picks`, the oldest first.
pub(crate) fn processes(picks: impl Fn(&str) -> bool) -> Vec<Run> {
    let all = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> =
        numbers.filter_map(Run::of).filter(|run| picks(run.project())).collect();
    found.sort();
    found
}

/// The first process of those that carry this mark.
pub(crate) fn run(mark: &str) -> Option<Run> {
    let project = mark.rsplit_once('.').map_or(mark, |(_, project)| project);
    processes(|found| found == project).into_iter().find(|run| run.mark == mark)
}

/// The projects that are up, of those that end in `suffix`.
pub(crate) fn up(suffix: &str) -> BTreeSet<String> {
    let found = processes(|project| project.ends_with(suffix));
    found.iter().map(|run| run.project().to_owned()).collect()
}

/// Two processes of different projects that were there at one moment, if there are any.
fn two_at_once(exclusive: impl Fn(&str) -> bool) -> Option<[Run; 2]> {
    let found = processes(exclusive);
    let first = found.first()?;
    let other = found.iter().find(|run| run.project() != first.project())?;
    // They were not read at one moment. Whoever is there before and after the other is.
    [(first, other), (other, first)].into_iter().find_map(|(one, two)| {
        let both = one.lives() && two.lives() && one.lives();
        both.then(|| [one.clone(), two.clone()])
    })
}

/// Does something, and looks all the while. Of the projects that `exclusive` picks, no two may be
/// up at once.
#[track_caller]
pub(crate) fn never_two<T>(exclusive: impl Fn(&str) -> bool + Sync, act: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let (answer, two) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut two = None;
            loop {
                let is_last = over.load(Ordering::Relaxed);
                two = two.or_else(|| two_at_once(&exclusive));
                if is_last {
                    return two;
                }
                pause();
            }
        });
        let end = EndOfWatch(&over);
        let answer = act();
        drop(end);
        (answer, watch.join().expect("it only looks"))
    });
    assert_eq!(two, None, "two at once");
    answer
}

/// A watch ends also if what it watches panics.
struct EndOfWatch<'a>(&'a AtomicBool);

impl Drop for EndOfWatch<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Who sees nothing proves nothing.
pub(crate) fn two_that_run_at_once_are_seen_and_two_of_one_project_are_not() {
    let tag = format!("-witnessed{}", std::process::id());
    let picks = |project: &str| project.ends_with(&tag);
    let begin = |mark: &str| {
        let child = Command::new("sleep").arg("60").env(MARK, format!("{mark}{tag}")).spawn();
        let child = Child(child.expect("there is a sleep"));
        until(|| run(&format!("{mark}{tag}")), || format!("'{mark}' is not seen"));
        child
    };
    let first = begin("a");
    let part = begin("db.a");
    assert_eq!((up(&tag), two_at_once(picks)), ([format!("a{tag}")].into(), None));
    let other = begin("b");
    assert!(two_at_once(picks).is_some());
    drop(other);
    assert_eq!(two_at_once(picks), None);
    drop((first, part));
    assert_eq!(up(&tag), BTreeSet::new());
}

/// Ends with its value.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
