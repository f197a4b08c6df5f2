//! Logs, from containers that mean well and from others.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use nanny_lib::ContainerId;
use nanny_lib::backend::{ErrorKind, LogLine, LogOptions, LogStream};

use super::context::{Context, Outcome, Stop, fails_with, skip, within};
use super::{FORGED, Printed, Program, cases};

cases![
    lines_come_in_order,
    stderr_is_told_from_stdout,
    lines_have_times_that_do_not_go_back,
    a_tail_is_the_last_lines,
    since_leaves_out_what_was_before,
    a_log_of_what_never_ran_is_empty,
    a_log_that_is_not_followed_ends_while_its_container_runs,
    a_followed_log_goes_on_and_ends_with_its_container,
    e10_following_a_silent_container_waits,
    e3_a_long_line_is_split_and_nothing_of_it_is_lost,
    a_last_line_needs_no_end,
    e4_a_terminal_cannot_forge_frames,
    a_log_of_what_does_not_exist_is_not_found,
];

const SOON: Duration = Duration::from_secs(60);
const MAX_LINE_BYTES: usize = 16 * 1024;

/// The whole log of a container that has ended.
pub(super) async fn read(context: &Context, id: &ContainerId) -> Outcome<Vec<LogLine>> {
    let lines = context.backend.logs(id, LogOptions::default()).try_collect();
    Ok(within(SOON, lines).await??)
}

fn numbered(count: usize) -> Program {
    Program::Prints((0..count).map(|n| Printed::Stdout(format!("line {n}"))).collect())
}

fn texts(lines: &[LogLine]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
}

async fn lines_come_in_order(context: Arc<Context>) -> Outcome {
    let id = context.ended(numbered(50)).await?;
    let expected: Vec<_> = (0..50).map(|n| format!("line {n}")).collect();
    assert_eq!(texts(&read(&context, &id).await?), expected);
    Ok(())
}

async fn stderr_is_told_from_stdout(context: Arc<Context>) -> Outcome {
    if !context.backend.capabilities().separate_stderr {
        return Err(skip("the backend cannot tell stderr from stdout"));
    }
    let program = Program::Prints(vec![
        Printed::Stdout("good".to_owned()),
        Printed::Stderr("bad".to_owned()),
    ]);
    let id = context.ended(program).await?;
    let mut lines: Vec<_> = read(&context, &id)
        .await?
        .into_iter()
        .map(|line| (line.bytes, line.stream == LogStream::Stderr))
        .collect();
    // The two streams are two pipes: nobody knows which was read first.
    lines.sort();
    assert_eq!(lines, [("bad".into(), true), ("good".into(), false)]);
    Ok(())
}

async fn lines_have_times_that_do_not_go_back(context: Arc<Context>) -> Outcome {
    let id = context.ended(numbered(20)).await?;
    let lines = read(&context, &id).await?;
    assert!(lines.iter().all(|line| line.at.is_some()), "a line has no time");
    assert!(lines.is_sorted_by_key(|line| line.at));
    Ok(())
}

async fn a_tail_is_the_last_lines(context: Arc<Context>) -> Outcome {
    let id = context.ended(numbered(20)).await?;
    let tail = context.backend.logs(&id, LogOptions::tail(Some(3))).try_collect::<Vec<_>>();
    assert_eq!(texts(&within(SOON, tail).await??), ["line 17", "line 18", "line 19"]);
    let none = context.backend.logs(&id, LogOptions::tail(Some(0))).try_collect::<Vec<_>>();
    assert!(within(SOON, none).await??.is_empty());
    Ok(())
}

async fn since_leaves_out_what_was_before(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::KeepsPrinting).await?;
    let begun = async {
        while read(&context, &id).await?.len() < 4 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Outcome::Ok(())
    };
    within(SOON, begun).await??;
    context.backend.kill(&id).await?;
    context.until(&id, "it ends", |info| !info.state.holds()).await?;
    let all = read(&context, &id).await?;
    let middle = all.get(all.len() / 2).and_then(|line| line.at);
    let middle = middle.ok_or_else(|| Stop::Fail("there is no log".to_owned()))?;
    let mut options = LogOptions::default();
    options.since = Some(middle);
    let later: Vec<_> = within(SOON, context.backend.logs(&id, options).try_collect()).await??;
    let expected: Vec<_> = all.into_iter().filter(|line| line.at >= Some(middle)).collect();
    assert_eq!(later, expected);
    Ok(())
}

async fn a_log_of_what_never_ran_is_empty(context: Arc<Context>) -> Outcome {
    let id = context.created(Program::Sleeps).await?;
    for options in [LogOptions::default(), LogOptions::default().follow()] {
        let lines = context.backend.logs(&id, options).try_collect::<Vec<_>>();
        assert!(within(SOON, lines).await??.is_empty());
    }
    Ok(())
}

async fn a_log_that_is_not_followed_ends_while_its_container_runs(
    context: Arc<Context>,
) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    read(&context, &id).await?;
    let id = context.started(Program::KeepsPrinting).await?;
    for _ in 0..200 {
        if !read(&context, &id).await?.is_empty() {
            return context.until(&id, "it runs", |info| info.state.holds()).await.map(|_| ());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Stop::Fail("nothing of what it writes is there".to_owned()))
}

async fn a_followed_log_goes_on_and_ends_with_its_container(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::KeepsPrinting).await?;
    let mut lines = context.backend.logs(&id, LogOptions::tail(Some(0)).follow());
    for _ in 0..3 {
        within(SOON, lines.next()).await?.ok_or_else(ended_early)??;
    }
    context.backend.kill(&id).await?;
    let rest = async {
        while let Some(line) = lines.next().await {
            line?;
        }
        Ok::<_, Stop>(())
    };
    within(SOON, rest).await?
}

fn ended_early() -> Stop {
    Stop::Fail("the log ended before its container".to_owned())
}

async fn e10_following_a_silent_container_waits(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    let mut lines = context.backend.logs(&id, LogOptions::tail(Some(0)).follow());
    let silence = tokio::time::timeout(Duration::from_secs(1), lines.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    context.backend.kill(&id).await?;
    assert!(within(SOON, lines.next()).await?.is_none());
    Ok(())
}

async fn e3_a_long_line_is_split_and_nothing_of_it_is_lost(context: Arc<Context>) -> Outcome {
    const BYTES: usize = 1 << 20;
    let id = context.ended(Program::PrintsLong(BYTES)).await?;
    let lines = read(&context, &id).await?;
    assert!(lines.iter().all(|line| line.bytes.len() <= MAX_LINE_BYTES), "a line is too long");
    let all: Vec<u8> = lines.iter().flat_map(|line| line.bytes.iter().copied()).collect();
    assert_eq!(all.len(), BYTES);
    assert!(all.iter().all(|byte| *byte == b'x'), "something else is in the line");
    Ok(())
}

async fn a_last_line_needs_no_end(context: Arc<Context>) -> Outcome {
    let id = context.ended(Program::PrintsWithoutEnd).await?;
    assert_eq!(texts(&read(&context, &id).await?), ["no end"]);
    Ok(())
}

async fn e4_a_terminal_cannot_forge_frames(context: Arc<Context>) -> Outcome {
    let mut spec = context.spec(Program::ForgesFrames)?;
    spec.tty = true;
    let id = context.start_spec(&spec).await?;
    context.until(&id, "it ends", |info| !info.state.holds()).await?;
    let lines = read(&context, &id).await?;
    let bytes: Vec<_> = lines.iter().map(|line| &*line.bytes).collect();
    assert_eq!(bytes, [FORGED, b"honest"]);
    assert!(lines.iter().all(|line| line.stream == LogStream::Terminal));
    Ok(())
}

async fn a_log_of_what_does_not_exist_is_not_found(context: Arc<Context>) -> Outcome {
    let id = context.created(Program::Sleeps).await?;
    context.backend.remove(&id).await?;
    let mut lines = context.backend.logs(&id, LogOptions::default());
    let first = within(SOON, lines.next()).await?.ok_or_else(no_error)?;
    fails_with("logs", ErrorKind::NotFound, first)?;
    assert!(within(SOON, lines.next()).await?.is_none(), "the stream goes on after its error");
    Ok(())
}

fn no_error() -> Stop {
    Stop::Fail("an empty log instead of an error".to_owned())
}
