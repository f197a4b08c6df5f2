//! What services print.

use jiff::Timestamp;

use crate::house::until;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

pub(crate) fn a_log_has_both_streams_and_a_tail_and_outlives_its_process(kind: &'static dyn Kind) {
    let script = "for n in 1 2 3 4; do echo out $n; sleep 0.5; echo err $n >&2; sleep 0.5; done; \
                  printf 'bad \\377 tab \\t\\n'; exec sleep 86400";
    let stage = Stage::with(kind, &[("web", Program::new(script))]);
    let before = Timestamp::now();
    stage.started("web");
    let prefix = kind.prefix("web");
    let read = |query: &str| {
        let answer = stage.logs("web", query);
        answer["logs"].as_str().expect("it is text").to_owned()
    };
    let all = until(
        || Some(read("?tail=all")).filter(|all| all.lines().count() == 9),
        || format!("it says {:?}", read("?tail=all")),
    );
    // The two streams are two pipes: each has an order, and whoever reads them gives them one.
    let said = |stream: &str| -> Vec<_> {
        let lines = all.lines().map(|line| line.strip_prefix(&prefix).expect("whose"));
        lines.filter(|line| line.starts_with("err") == (stream == "err")).collect()
    };
    assert_eq!(said("out"), ["out 1", "out 2", "out 3", "out 4", "bad \u{fffd} tab \t"]);
    assert_eq!(said("err"), ["err 1", "err 2", "err 3", "err 4"]);
    for (query, count) in [("?tail=0", 0), ("?tail=1", 1), ("?tail=3", 3), ("?tail=-1", 9)] {
        let last: String = all.split_inclusive('\n').skip(9 - count).collect();
        assert_eq!(read(query), last, "{query}");
    }
    let stamped = read("?timestamps=true");
    let times = |stream: &str| -> Vec<Timestamp> {
        let lines = stamped.lines().map(|line| {
            line.strip_prefix(&prefix).expect("whose").split_once(' ').expect("a time")
        });
        let lines = lines.filter(|(_, text)| said(stream).contains(text));
        lines.map(|(time, _)| time.parse().expect("a time")).collect()
    };
    let second = before.as_second();
    let is_now =
        |time: &Timestamp| (second..=Timestamp::now().as_second()).contains(&time.as_second());
    for (stream, count) in [("out", 5), ("err", 4)] {
        let times = times(stream);
        assert_eq!(times.len(), count, "{stamped}");
        assert!(times.is_sorted() && times.iter().all(is_now), "{before} {times:?}");
    }

    stage.stop("web", "").expect(200);
    stage.says("web", &all);
    // The next run goes on where the last one ended.
    stage.started("web");
    until(
        || (read("?tail=all").lines().count() == 18).then_some(()),
        || format!("it says {}", read("?tail=all")),
    );
}
