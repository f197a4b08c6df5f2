//! What the services of the demo do: enough to see that they do it.

use std::str::FromStr;

use axum::http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{picture, voice};

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trade {
    /// Paints.
    Image,
    /// Talks.
    Chat,
    /// Makes itself heard.
    Speech,
    /// Finds.
    Search,
    /// Says hello, as the first service that one writes.
    Hello,
}

/// What comes of a request.
pub(super) enum Done {
    Json(Value),
    /// Of this type.
    File(&'static str, Vec<u8>),
    /// This was missing.
    Nothing(&'static str),
}

impl FromStr for Trade {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|trade| trade.name() == text);
        known.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl Trade {
    const ALL: [Self; 5] = [Self::Image, Self::Chat, Self::Speech, Self::Search, Self::Hello];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Chat => "chat",
            Self::Speech => "speech",
            Self::Search => "search",
            Self::Hello => "hello",
        }
    }

    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Image => "demo-diffusion-1",
            Self::Chat => "demo-chat-7b",
            Self::Speech => "demo-voice-1",
            Self::Search => "demo-embeddings-8",
            Self::Hello => "demo-hello",
        }
    }

    pub(super) fn load_seconds(self) -> &'static str {
        match self {
            Self::Image | Self::Chat => "1.5",
            Self::Speech | Self::Search => "0.6",
            Self::Hello => "0",
        }
    }

    pub(super) fn answers(self, method: &Method, path: &str) -> bool {
        let path_of = match self {
            Self::Image => "/v1/images/generations",
            Self::Chat => "/v1/chat/completions",
            Self::Speech => "/v1/audio/speech",
            Self::Search => "/v1/embeddings",
            Self::Hello => "/hello",
        };
        let reads = method == Method::GET || method == Method::HEAD;
        match self {
            _ if path == path_of => method == Method::POST || (self == Self::Hello && reads),
            Self::Image => reads && path.starts_with(PICTURES),
            Self::Search => reads && path == "/v1/search",
            Self::Chat | Self::Speech | Self::Hello => false,
        }
    }

    /// Does what was asked for, at one of the paths that it answers.
    pub(super) fn work(
        self,
        path: &str,
        query: &[(String, String)],
        body: &Value,
        model: &str,
    ) -> Done {
        match self {
            Self::Image => match path.strip_prefix(PICTURES) {
                Some(name) => Done::File("image/svg+xml", picture::paint(name).into_bytes()),
                None => image(body),
            },
            Self::Chat => chat(body, model),
            Self::Speech => match text(body, "input") {
                Some(input) => Done::File("audio/wav", voice::say(input)),
                None => Done::Nothing("an input is needed: {\"input\": \"Good morning\"}"),
            },
            Self::Search if path == "/v1/search" => {
                match query.iter().find(|(name, words)| name == "q" && !words.is_empty()) {
                    Some((_, words)) => Done::Json(json!({"query": words, "results": find(words)})),
                    None => Done::Nothing("say what to look for: /v1/search?q=gpu+memory"),
                }
            }
            Self::Search => match text(body, "input") {
                Some(input) => Done::Json(json!({
                    "object": "list",
                    "model": model,
                    "data": [{"object": "embedding", "index": 0, "embedding": embed(input)}],
                })),
                None => Done::Nothing("an input is needed: {\"input\": \"a sentence\"}"),
            },
            Self::Hello => Done::Json(json!({"message": "Hello!"})),
        }
    }
}

fn text<'a>(body: &'a Value, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty())
}

fn image(body: &Value) -> Done {
    let Some(prompt) = text(body, "prompt") else {
        return Done::Nothing("a prompt is needed: {\"prompt\": \"a lighthouse at dawn\"}");
    };
    let name: String = hash(prompt)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    Done::Json(json!({
        "created": Timestamp::now().as_second(),
        "data": [{"url": format!("{PICTURES}{name}.svg")}],
    }))
}

fn chat(body: &Value, model: &str) -> Done {
    let last = body.get("messages").and_then(Value::as_array).and_then(|all| all.last());
    let Some(content) = last.and_then(|message| text(message, "content")) else {
        let example =
            "messages are needed: {\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}";
        return Done::Nothing(example);
    };
    let said: String = content.chars().take(200).collect();
    let openings = [
        "I have thought about it, on a GPU that is all mine",
        "I am made of a few lines of Rust",
        "My weights would fit on a postage stamp",
        "There is no model behind me",
    ];
    let opening = openings[usize::from(hash(content)[0]) % openings.len()];
    let reply = format!("{opening}, so this is my answer to all things. You said: {said}");
    let count = |text: &str| text.split_whitespace().count();
    let (asked, answered) = (count(content), count(&reply));
    Done::Json(json!({
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": Timestamp::now().as_second(),
        "model": model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": reply},
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        },
    }))
}

/// The passages that share a word with `query`, those that share most first.
fn find(query: &str) -> Vec<Value> {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        words.filter(|word| word.len() > 2).map(str::to_lowercase).collect()
    };
    let wanted = words(query);
    let mut found: Vec<(usize, &str)> = PASSAGES
        .into_iter()
        .map(|passage| {
            (words(passage).iter().filter(|word| wanted.contains(word)).count(), passage)
        })
        .filter(|(shared, _)| *shared > 0)
        .collect();
    found.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    found.into_iter().map(|(score, text)| json!({"score": score, "text": text})).collect()
}

/// A point on the unit sphere, always the same for the same text.
fn embed(input: &str) -> Vec<f64> {
    let numbers: Vec<f64> =
        hash(input)[..8].iter().map(|byte| f64::from(*byte) / 127.5 - 1.0).collect();
    let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt().max(1e-9);
    numbers.into_iter().map(|number| (number / length * 1e4).round() / 1e4).collect()
}

pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

const PICTURES: &str = "/images/";
const PASSAGES: [&str; 6] = [
    "Two models that each fit into the memory of a GPU often do not fit together.",
    "A model gives the memory of its GPU back when its last process has ended.",
    "A service is a directory with a service.yaml in it.",
    "A service that runs is not always ready: a model may take minutes to load.",
    "Whoever asks for a GPU that another service holds is told who that is.",
    "A forced start stops the service that holds the GPU, and waits until it is gone.",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn done(trade: Trade, path: &str, body: &Value) -> Value {
        assert!(trade.answers(&Method::POST, path), "{path}");
        match trade.work(path, &[], body, "model") {
            Done::Json(answer) => answer,
            Done::File(kind, content) => json!({"kind": kind, "bytes": content.len()}),
            Done::Nothing(missing) => json!({"missing": missing}),
        }
    }

    #[test]
    fn every_trade_is_called_by_its_name_and_no_other() {
        for trade in Trade::ALL {
            assert_eq!(trade.name().parse(), Ok(trade));
        }
        assert!("painter".parse::<Trade>().unwrap_err().contains("image, chat"));
    }

    #[test]
    fn a_prompt_is_always_painted_alike_and_another_differently() {
        let paint = |prompt: &str| {
            done(Trade::Image, "/v1/images/generations", &json!({"prompt": prompt}))["data"].clone()
        };
        let dawn = paint("a lighthouse at dawn");
        assert_eq!(dawn, paint("a lighthouse at dawn"));
        assert_ne!(dawn, paint("a lighthouse at dusk"));
        let url = dawn[0]["url"].as_str().unwrap();
        assert!(Trade::Image.answers(&Method::GET, url), "{url}");
        let Done::File(kind, svg) = Trade::Image.work(url, &[], &Value::Null, "model") else {
            panic!("no picture")
        };
        assert_eq!(kind, "image/svg+xml");
        assert!(svg.starts_with(b"<svg "));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (trade, path) in [
            (Trade::Image, "/v1/images/generations"),
            (Trade::Chat, "/v1/chat/completions"),
            (Trade::Speech, "/v1/audio/speech"),
            (Trade::Search, "/v1/embeddings"),
        ] {
            for body in [Value::Null, json!({}), json!({"prompt": 1, "messages": [], "input": " "})]
            {
                let said = done(trade, path, &body);
                assert!(
                    said["missing"].as_str().is_some_and(|said| said.contains("needed")),
                    "{said}"
                );
            }
        }
    }

    #[test]
    fn a_chat_answers_the_last_message() {
        let body = json!({"messages": [{"content": "one"}, {"role": "user", "content": "two"}]});
        let said = done(Trade::Chat, "/v1/chat/completions", &body);
        let reply = said["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(reply.ends_with("You said: two"), "{reply}");
    }

    #[test]
    fn the_best_passage_comes_first() {
        let found = find("memory of a GPU: do models fit?");
        assert!(found[0]["text"].as_str().unwrap().starts_with("Two models"), "{found:?}");
        assert!(find("zebra").is_empty());
    }

    #[test]
    fn an_embedding_has_length_one() {
        let length: f64 = embed("some text").iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-2, "{length}");
    }
}
