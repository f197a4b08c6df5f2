//! Command lines, split into words as Compose splits them.
//!
//! Not quite as a shell does, so no general library serves: also within double quotes a backslash
//! always goes, and the line ends at an unquoted `;`, `&`, `|`, `<` or `>`. Such a container has always run with what comes
//! before it, so we do the same, and warn.

/// The words of a command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) words: Vec<String>,
    /// The character at which the rest of the line was dropped.
    pub(super) cut_at: Option<char>,
}

/// Splits a command line; the error says what is not closed or not allowed.
pub(super) fn split(line: &str) -> Result<Words, &'static str> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut begun = false;
    let mut inside = Inside::Nothing;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        if c == '\\' && inside != Inside::SingleQuotes {
            let Some(escaped) = characters.next() else {
                return Err("ends with a backslash");
            };
            word.push(escaped);
            begun = true;
            continue;
        }
        match (c, inside) {
            (' ' | '\t' | '\r' | '\n', Inside::Nothing) => {
                if begun {
                    words.push(std::mem::take(&mut word));
                    begun = false;
                }
                continue;
            }
            (' ' | '\t' | '\r' | '\n', _) => {
                word.push(c);
                continue;
            }
            ('"', Inside::Nothing) => inside = Inside::DoubleQuotes,
            ('\'', Inside::Nothing) => inside = Inside::SingleQuotes,
            ('"', Inside::DoubleQuotes) | ('\'', Inside::SingleQuotes) => {
                inside = Inside::Nothing;
                begun = true;
            }
            ('"' | '\'', Inside::Backquotes) => {}
            ('`', Inside::Nothing | Inside::Backquotes) => {
                inside =
                    if inside == Inside::Nothing { Inside::Backquotes } else { Inside::Nothing };
                word.push(c);
                begun = true;
            }
            ('(', Inside::Nothing) if word.ends_with('$') => {
                inside = Inside::Substitution;
                word.push(c);
            }
            (')', Inside::Substitution) => {
                inside = Inside::Nothing;
                word.push(c);
                begun = true;
            }
            ('(' | ')', Inside::Nothing) | ('(', Inside::Substitution) => {
                return Err("has a parenthesis outside quotes");
            }
            (';' | '&' | '|' | '<' | '>', Inside::Nothing) => {
                // `2>` belongs to the redirection, not to the command.
                let is_number = c == '>' && word.starts_with(|c: char| c.is_ascii_digit());
                if begun && !is_number {
                    words.push(word);
                }
                return Ok(Words { words, cut_at: Some(c) });
            }
            _ => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    match inside {
        Inside::Nothing => Ok(Words { words, cut_at: None }),
        Inside::SingleQuotes | Inside::DoubleQuotes => Err("has a quote that is not closed"),
        Inside::Backquotes | Inside::Substitution => Err("has a substitution that is not closed"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    SingleQuotes,
    DoubleQuotes,
    Backquotes,
    Substitution,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).expect("the line is sound").words
    }

    #[test]
    fn quotes_and_spaces_are_understood() {
        assert_eq!(words("  a  'b c'\t\"d e\"f '' \n"), ["a", "b c", "d ef", ""]);
        assert_eq!(words(r#"a\ b "c\"d" 'e\f'"#), ["a b", "c\"d", r"e\f"]);
        assert!(words("").is_empty());
    }

    #[test]
    fn a_folded_shell_command_works() {
        let line = "bash -c \"pip install x && \npython -m app --port 80\"\n";
        assert_eq!(words(line), ["bash", "-c", "pip install x && \npython -m app --port 80"]);
    }

    #[test]
    fn escapes_are_composes() {
        assert_eq!(words(r"a\tb\nc \d"), ["atbnc", "d"]);
        assert_eq!(words(r#""\$x""#), ["$x"]);
    }

    #[test]
    fn the_line_ends_at_a_control_operator() {
        let cut = split("sleep 5; echo hi").expect("the line is sound");
        assert_eq!(cut, Words { words: vec!["sleep".into(), "5".into()], cut_at: Some(';') });
        assert_eq!(words("serve 2>/dev/null"), ["serve"]);
        assert_eq!(words("serve x>/dev/null"), ["serve", "x"]);
        assert_eq!(words("echo 'a; b' \"c | d\""), ["echo", "a; b", "c | d"]);
    }

    #[test]
    fn substitutions_stay_in_one_word() {
        assert_eq!(words("echo $(date +%s)x `a b`"), ["echo", "$(date +%s)x", "`a b`"]);
    }

    #[test]
    fn what_is_not_closed_is_an_error() {
        for line in ["'a", "\"a", "`a", "$(a", "a\\", "a (b)", "a)"] {
            assert!(split(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn splitting_never_panics(line in "[a-c '\"\\\\`$();&|<>\n0-2]{0,40}") {
            let _ = split(&line);
        }
    }
}
