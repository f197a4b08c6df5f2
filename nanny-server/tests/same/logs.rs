//! What services print.

use jiff::Timestamp;

use crate::house::until;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

pub(crate) fn a_log_has_both_streams_and_a_tail_and_outlives_its_process(kind: &'static dyn Kind) {
    // The two streams are two pipes: lines of one moment may come in any order.
    let script = "for n in 1 2 3 4; do echo out $n; sleep 0.5; echo err $n >&2; sleep 0.5; done; \
                  printf 'bad \\377 tab \\t\\n'; exec sleep 86400";
    let stage = Stage::with(kind, &[("web", Program::new(script))]);
    let before = Timestamp::now();
    stage.started("web");
    let mut lines: Vec<_> =
        (1..=4).flat_map(|n| [format!("out {n}"), format!("err {n}")]).collect();
    lines.push("bad \u{fffd} tab \t".to_owned());
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    stage.says_lines("web", &lines);

    let prefix = kind.prefix("web");
    let read = |query: &str| {
        let answer = stage.logs("web", query);
        answer["logs"].as_str().expect("it is text").to_owned()
    };
    assert_eq!(read("?tail=1"), format!("{prefix}{}\n", lines[8]));
    for (query, count) in [("?tail=0", 0), ("?tail=3", 3), ("?tail=all", 9), ("?tail=-1", 9)] {
        assert_eq!(read(query).lines().count(), count, "{query}");
    }
    let stamped = read("?timestamps=true");
    let times: Vec<Timestamp> = stamped
        .lines()
        .map(|line| {
            let (time, text) =
                line.strip_prefix(&prefix).expect("whose").split_once(' ').expect("a time");
            assert!(lines.contains(&text), "{line}");
            time.parse().expect("a time")
        })
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let second = before.as_second();
    let is_now =
        |time: &Timestamp| (second..=Timestamp::now().as_second()).contains(&time.as_second());
    assert!(times.iter().all(is_now), "{before} {times:?}");

    stage.stop("web", "").expect(200);
    stage.says_lines("web", &lines);
    // The next run goes on where the last one ended.
    stage.started("web");
    until(
        || (read("?tail=all").lines().count() == 18).then_some(()),
        || format!("it says {}", read("?tail=all")),
    );
}
