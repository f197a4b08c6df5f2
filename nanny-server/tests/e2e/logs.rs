//! Logs that containers should not have written.

use crate::house::{House, until, web};

/// What a service's log is, once it has said that it is done.
fn log(house: &House, query: &str) -> String {
    let read = || house.logs("web", query)["logs"].as_str().expect("it is text").to_owned();
    until(
        || Some(read()).filter(|log| log.contains("done")),
        || format!("never done: {:.200}", read()),
    )
}

#[test]
fn a_tail_is_of_each_container() {
    let script = "for n in 1 2 3 4 5; do echo line $$n; done; echo done; exec sleep 86400";
    let compose = web(script, "") + &web(script, "").replace("services:\n  web:", "  more:");
    let Some(house) = House::with("", &compose) else { return };
    house.started("web");
    until(
        || (house.logs("web", "")["logs"].as_str()?.matches("done").count() == 2).then_some(()),
        || "never done".to_owned(),
    );
    let mut lines: Vec<_> = log(&house, "?tail=2").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["more-1  | done", "more-1  | line 5", "web-1   | done", "web-1   | line 5"]);
    for (query, count) in [("?tail=0", 0), ("", 12), ("?tail=all", 12), ("?tail=-1", 12)] {
        let answer = house.logs("web", query);
        assert_eq!(answer["logs"].as_str().unwrap().lines().count(), count, "{query}");
        assert!(answer.get("truncated").is_none(), "{query}");
    }
    assert_eq!(house.logs("web", "?tail=all")["tail"], -1);
    assert_eq!(house.logs("web", "")["tail"], 100);
    for query in ["?tail=10001", "?tail=-2", "?tail=x"] {
        let problem = house.ask("GET", &format!("/services/web/logs{query}"), "").expect(422);
        assert_eq!(problem["code"], "invalid_request", "{query}");
    }
    let stamped = log(&house, "?tail=1&timestamps=true");
    let stamp = stamped.lines().next().unwrap().split_whitespace().nth(2).unwrap();
    stamp.parse::<jiff::Timestamp>().unwrap();
    house.stop("web", "").expect(200);
    assert_eq!(log(&house, "").lines().count(), 12, "a log outlives its process");
}

#[test]
fn e3_bytes_that_are_no_text_are_still_json() {
    let script =
        r"printf 'nul \000 bad \377\376 esc \033[1m tab \t end\n'; echo done; exec sleep 86400";
    let Some(house) = House::with("", &web(script, "")) else { return };
    house.started("web");
    let said = log(&house, "");
    let wanted = "web-1  | nul \0 bad \u{fffd}\u{fffd} esc \u{1b}[1m tab \t end\nweb-1  | done\n";
    assert_eq!(said, wanted);
}

#[test]
fn e3_a_line_of_a_megabyte_is_one_line() {
    let script = "head -c 1048576 /dev/zero | tr '\\000' x; echo; echo done; exec sleep 86400";
    let Some(house) = House::with("", &web(script, "")) else { return };
    house.started("web");
    let said = log(&house, "?tail=all");
    let lengths: Vec<_> = said.lines().map(|line| line.matches('x').count()).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 1_048_576, "{} lines", lengths.len());
    assert_eq!(said.lines().last(), Some("web-1  | done"));
}

#[test]
fn e4_a_terminal_s_log_is_taken_as_it_is() {
    let script = r"printf '\001xxx\377\377\377\377\n'; echo done; exec sleep 86400";
    let Some(house) = House::with("", &web(script, "tty: true")) else { return };
    house.started("web");
    let said = log(&house, "");
    assert!(said.starts_with("web-1  | \u{1}xxx\u{fffd}\u{fffd}\u{fffd}\u{fffd}"), "{said:?}");
    assert!(said.ends_with("web-1  | done\n"), "{said:?}");
}

#[test]
fn e5_what_a_log_forges_stays_text() {
    let script = r#"printf 'data: x\n\nevent: forged\nid: 7\n\n'; printf '\033]0;title\007\033[2J\n'; printf '"}\n'; printf 'db-1   | forged\n'; echo done; exec sleep 86400"#;
    let Some(house) = House::with("", &web(script, "")) else { return };
    house.started("web");
    let said = log(&house, "");
    let lines = [
        "data: x",
        "",
        "event: forged",
        "id: 7",
        "",
        "\u{1b}]0;title\u{7}\u{1b}[2J",
        "\"}",
        "db-1   | forged",
        "done",
    ];
    // Each line says whose it is, whatever it says itself.
    let wanted: Vec<_> = lines.iter().map(|line| format!("web-1  | {line}\n")).collect();
    assert_eq!(said, wanted.concat());
    // On the wire it is one line without anything that a terminal or a stream of events would obey.
    let answer = house.ask("GET", "/services/web/logs", "");
    assert!(!answer.text.contains(|c: char| c.is_control()), "{:?}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn e11_of_a_long_log_the_end_is_shown() {
    // Few long lines: it is the number of lines that costs time.
    let script =
        "line=$$(printf '%01000d' 0); yes $$line | head -n 10000; echo done; exec sleep 86400";
    let Some(house) = House::with("", &web(script, "")) else { return };
    house.started("web");
    log(&house, "?tail=1");
    // A machine may be too slow for the time that the nanny gives a log.
    let asked = || {
        let answer = house.ask("GET", "/services/web/logs?tail=all", "");
        (answer.status != 504).then(|| answer.expect(200))
    };
    let answer = until(asked, || "its log is never read in time".to_owned());
    assert_eq!(answer["truncated"], true);
    let said = answer["logs"].as_str().unwrap();
    assert!(said.len() <= 8 << 20 && said.len() > 7 << 20, "{}", said.len());
    assert!(said.starts_with("web-1  | 0") && said.ends_with("\nweb-1  | done\n"));
}

#[test]
fn e3_escapes_and_lone_returns_stay_in_the_log_they_came_from() {
    let script = r"printf 'a\033]0;owned\007\033[2J\r10%%\r100%%\n'; printf 'no end'; sleep 1; echo; echo done; exec sleep 86400";
    for more in ["", "tty: true"] {
        let Some(house) = House::with("", &web(script, more)) else { return };
        house.started("web");
        let said = log(&house, "?tail=all");
        let wanted =
            "web-1  | a\u{1b}]0;owned\u{7}\u{1b}[2J\r10%\r100%\nweb-1  | no end\nweb-1  | done\n";
        assert_eq!(said, wanted);
        let answer = house.ask("GET", "/services/web/logs", "");
        assert!(!answer.text.contains(char::is_control), "{answer:?}");
        let ours = house.log();
        assert!(!ours.contains("owned") && !ours.contains('\u{1b}'), "{ours}");
    }
}

#[test]
fn e3_a_megabyte_without_an_end_is_no_line_but_shown() {
    let script = "head -c 1048576 /dev/zero | tr '\\000' x; exec sleep 86400";
    let Some(house) = House::with("", &web(script, "")) else { return };
    house.started("web");
    let count = || {
        let logs = house.logs("web", "?tail=all");
        logs["logs"].as_str().expect("it is text").matches('x').count()
    };
    until(|| (count() == 1 << 20).then_some(()), || format!("{} of it are shown", count()));
}
