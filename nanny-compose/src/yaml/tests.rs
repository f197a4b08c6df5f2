use proptest::prelude::*;

use super::*;

fn tree(text: &str) -> Node {
    parse(text, &Limits::default()).expect("the text is sound")
}

fn fault(text: &str) -> String {
    parse(text, &Limits::default()).expect_err("the text is unsound").to_string()
}

fn text_at(tree: &Node, path: &str) -> Option<String> {
    tree.at(path)?.to_text()
}

#[test]
fn positions_count_lines_and_characters_from_one() {
    let tree = tree("a:\n  ä: [1, two]\n");
    let two = tree.at("a.ä[1]").expect("it is there");
    assert_eq!((two.line, two.column), (2, 10));
    let key = &tree.entry_at("a.ä").expect("it is there").key;
    assert_eq!((key.line, key.column), (2, 3));
}

#[test]
fn a_key_with_dots_is_found() {
    let tree = tree("env:\n  a.b: 1\n  a: {b: 2}\nlist: [{x: 3}]\n");
    assert_eq!(text_at(&tree, "env.a.b").as_deref(), Some("1"));
    assert_eq!(text_at(&tree, "list[0].x").as_deref(), Some("3"));
    assert_eq!(tree.entry_at("list").expect("it is there").key.line, 4);
    assert!(tree.at("list[1]").is_none());
    assert!(tree.at("nothing").is_none());
}

#[test]
fn quoted_scalars_are_strings_and_plain_ones_are_resolved() {
    let tree = tree("q: '5'\np: 5\nv: 1.10\nt: !!str 7\nb: |\n  8\n");
    assert_eq!(tree.at("q").and_then(Node::as_str), Some("5"));
    assert_eq!(tree.at("p").map(Node::kind), Some("a number"));
    assert_eq!(tree.at("v").and_then(|node| node.text.clone()).as_deref(), Some("1.10"));
    assert_eq!(tree.at("t").and_then(Node::as_str), Some("7"));
    assert_eq!(tree.at("b").and_then(Node::as_str), Some("8\n"));
}

#[test]
fn a_block_scalar_at_the_end_gets_no_line_feed_it_does_not_have() {
    assert_eq!(tree("b: |\n  8").at("b").and_then(Node::as_str), Some("8"));
}

#[test]
fn merge_keys_fill_in_what_is_missing() {
    let tree = tree(
        "base: &base {a: 1, b: 1}\nmore: &more {b: 2, c: 2}\n\
         one: &one\n  <<: *base\n  b: 9\ntwo:\n  <<: [*more, *one]\n  d: 4\n",
    );
    assert_eq!(text_at(&tree, "one.a").as_deref(), Some("1"));
    assert_eq!(text_at(&tree, "one.b").as_deref(), Some("9"));
    assert_eq!(text_at(&tree, "two.b").as_deref(), Some("2"));
    assert_eq!(text_at(&tree, "two.a").as_deref(), Some("1"));
    assert_eq!(text_at(&tree, "two.d").as_deref(), Some("4"));
}

#[test]
fn a_quoted_merge_key_is_an_ordinary_key() {
    assert_eq!(text_at(&tree("\"<<\": 5\n"), "<<").as_deref(), Some("5"));
}

#[test]
fn a_merge_key_must_name_mappings() {
    assert!(fault("a: {<<: 5}\n").contains("'<<' must name a mapping"));
    assert!(fault("b: &b {}\na:\n  <<: *b\n  <<: *b\n").contains("already set at 3:3"));
}

#[test]
fn a_duplicate_key_names_both_places() {
    assert_eq!(
        fault("services:\n  web:\n    image: a\n    image: b\n"),
        "4:5: services.web: 'image' is already set at 3:5; keep one of the two"
    );
}

#[test]
fn byte_order_mark_and_crlf_are_fine() {
    let tree = tree("\u{feff}a: 1\r\nb:\r\n  - x\r\n");
    assert_eq!(text_at(&tree, "a").as_deref(), Some("1"));
    assert_eq!(text_at(&tree, "b[0]").as_deref(), Some("x"));
}

#[test]
fn nothing_at_all_is_null() {
    assert!(tree("").is_null());
    assert!(tree("# only a comment\n").is_null());
}

#[test]
fn one_document_per_file() {
    assert!(fault("a: 1\n---\nb: 2\n").starts_with("3:1: a second document"));
}

#[test]
fn syntax_errors_say_where() {
    assert!(fault("a: [1, 2\nb: 3\n").starts_with("2:"), "{}", fault("a: [1, 2\nb: 3\n"));
    assert!(fault("a: 'open\n").contains(':'));
}

#[test]
fn unknown_and_recursive_aliases_are_faults() {
    assert!(fault("a: *nobody\n").contains("nobody") || fault("a: *nobody\n").contains("anchor"));
    assert!(fault("a: &a [*a]\n").contains("stands inside what it names"));
}

#[test]
fn own_tags_are_kept() {
    assert_eq!(
        tree("a: !reset null\n").at("a").and_then(|n| n.tag.clone()).as_deref(),
        Some("!reset")
    );
}

#[test]
fn h2_a_bomb_of_aliases_is_refused_early() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 {
        let names = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    assert!(bomb.len() < 500);
    assert!(fault(&bomb).contains("copy more than"));
}

#[test]
fn a_big_scalar_named_often_is_refused() {
    let aliases = "*big,".repeat(1000);
    let text = format!("big: &big {}\nall: [{aliases}]\n", "x".repeat(100_000));
    assert!(fault(&text).contains("copy more than"));
}

#[test]
fn aliases_count_towards_the_depth() {
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..80 {
        text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(fault(&text).contains("levels deep"));
}

#[test]
fn h2_a_hundred_thousand_brackets_are_refused() {
    assert!(fault(&"[".repeat(100_000)).contains("64 levels deep"));
    assert!(fault(&"- ".repeat(100_000)).contains("levels deep"));
}

#[test]
fn a_text_over_the_limit_is_refused() {
    let error = parse("abcdef", &Limits::with_max_bytes(5)).expect_err("it is too long");
    assert!(error.message.contains("the limit is 5"));
}

#[test]
fn debug_shows_no_value_that_came_from_a_variable() {
    let mut node = tree("x");
    node.value = Value::String("hunter2".to_owned());
    node.secret = true;
    assert!(!format!("{node:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn parse_never_panics(text in any::<String>()) {
        let _ = parse(&text, &Limits::default());
    }

    #[test]
    fn parse_never_panics_on_yaml_like_text(text in "[-a-c0-9:\\[\\]{},&*<!|>'\" \n#%~]{0,80}") {
        let _ = parse(&text, &Limits::default());
    }

    #[test]
    fn a_quoted_string_survives(text in "[^\"\\\\\\x00-\\x1f\\x7f-\\x9f\u{feff}\u{2028}\u{2029}\u{fffe}\u{ffff}]{0,40}") {
        let node = tree(&format!("key: \"{text}\"\n"));
        prop_assert_eq!(node.at("key").and_then(Node::as_str), Some(text.as_str()));
    }
}
