//! The canonical model as YAML, in which every text means the same to every reader of YAML.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The model, given as JSON: the name first, then the services, then the rest.
pub(super) fn of_json(json: &str) -> String {
    let mut yaml = String::new();
    let Ok(Value::Object(mut model)) = serde_json::from_str(json) else { return yaml };
    for key in ["name", "services"] {
        if let Some(value) = model.remove(key) {
            entry(&mut yaml, key, &value, 0);
        }
    }
    mapping(&mut yaml, &model, 0);
    yaml
}

fn mapping(yaml: &mut String, fields: &Map<String, Value>, indent: usize) {
    for (key, value) in fields {
        entry(yaml, key, value, indent);
    }
}

fn entry(yaml: &mut String, key: &str, value: &Value, indent: usize) {
    // Writing to a string cannot fail, here and below.
    let _ = write!(yaml, "{:indent$}{}:", "", text(key));
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            yaml.push('\n');
            mapping(yaml, fields, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            yaml.push('\n');
            sequence(yaml, items, indent + 2);
        }
        Value::Null => yaml.push('\n'),
        value => {
            let _ = writeln!(yaml, " {}", scalar(value));
        }
    }
}

fn sequence(yaml: &mut String, items: &[Value], indent: usize) {
    for item in items {
        match item {
            Value::Object(fields) if !fields.is_empty() => {
                let start = yaml.len();
                mapping(yaml, fields, indent + 2);
                // The dash stands where the first key is indented.
                yaml.replace_range(start + indent..start + indent + 1, "-");
            }
            Value::Array(items) if !items.is_empty() => {
                let _ = writeln!(yaml, "{:indent$}-", "");
                sequence(yaml, items, indent + 2);
            }
            item => {
                let _ = writeln!(yaml, "{:indent$}- {}", "", scalar(item));
            }
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(value) => text(value),
        // `null`, `true`, `12`, `[]` and `{}` are YAML as they are.
        value => value.to_string(),
    }
}

/// A text, in quotes unless nobody could take it for anything else.
fn text(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
    let is_word = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if begins && !is_word && text.chars().all(is_plain) {
        return text.to_owned();
    }
    // A text in JSON is one in YAML, too.
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_laid_out_for_people() {
        let json = r#"{"name":"chat","networks":{"default":{"ipam":{}}},"services":{"a":{
            "command":null,"image":"i:1","ports":[{"mode":"host","target":80}],
            "environment":{"A":"0755","B":"on","C":"a\nb"},"x":[["c"],[]]}}}"#;
        assert_eq!(
            of_json(json),
            "name: chat\nservices:\n  a:\n    command:\n    environment:\n      A: \"0755\"\n      \
             B: \"on\"\n      C: \"a\\nb\"\n    image: \"i:1\"\n    ports:\n      - mode: host\n        \
             target: 80\n    x:\n      -\n        - c\n      - []\nnetworks:\n  default:\n    ipam: {}\n"
        );
    }

    #[test]
    fn texts_that_could_be_something_else_are_quoted() {
        for plain in ["image", "/a/b-c.d", "_x", "v1.10"] {
            assert_eq!(text(plain), plain);
        }
        for other in
            ["", "1.10", "0x1", "-a", "~", "Yes", "NULL", "a: b", "a #b", "2024-01-01", ".inf"]
        {
            assert_eq!(text(other), format!("\"{other}\""));
        }
    }
}
