//! What the daemon asked the client, so that an answer never counts for another question.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::message::Message;

/// Questions that may still be answered. Daemons number theirs from the start again in each
/// session, so those of a later one are shown to the client under ids that no earlier one had.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<VecDeque<Question>>);

#[derive(Debug, PartialEq)]
struct Question {
    /// The serial of the session that it was asked in.
    session: u64,
    id: Value,
    /// What the client knows it by.
    shown: Value,
}

impl Questions {
    /// Takes note of what was said in a session, and gives it as the client is to read it.
    pub(super) fn show(&self, session: u64, text: String, body: &Value) -> String {
        let Some(method) = body["method"].as_str() else { return text };
        if let Some(id) = body.get("id") {
            let shown = shown(session, id);
            let question = Question { session, id: id.clone(), shown: shown.clone() };
            let mut open = self.open();
            // A stream that is taken up again may repeat it.
            open.retain(|known| *known != question);
            if open.len() == MOST_QUESTIONS {
                open.pop_front();
            }
            open.push_back(question);
            return with(text, body, id, &shown, &["id"]);
        }
        match (method, &body["params"]["requestId"]) {
            ("notifications/cancelled", id) if !id.is_null() => {
                with(text, body, id, &shown(session, id), &["params", "requestId"])
            }
            _ => text,
        }
    }

    /// An answer as the daemon is to read it; nothing if what it answers was not asked in this
    /// session.
    pub(super) fn answered(&self, session: u64, answer: &Message) -> Option<String> {
        let id = &answer.body["id"];
        let mut open = self.open();
        let at = open.iter().position(|question| question.shown == *id)?;
        let question = open.remove(at)?;
        let text = answer.text.clone();
        (question.session == session).then(|| with(text, &answer.body, id, &question.id, &["id"]))
    }

    fn open(&self) -> MutexGuard<'_, VecDeque<Question>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first session's are the daemon's own.
fn shown(session: u64, id: &Value) -> Value {
    if session == 0 { id.clone() } else { json!(format!("nanny-bridge-{session}-{id}")) }
}

/// The message with another id at `path`; as it was written if it is the same.
fn with(text: String, body: &Value, id: &Value, other: &Value, path: &[&str]) -> String {
    if id == other {
        return text;
    }
    let mut body = body.clone();
    let place = path.iter().fold(&mut body, |place, key| &mut place[*key]);
    *place = other.clone();
    body.to_string()
}

/// The oldest are forgotten first, and answers to them dropped.
const MOST_QUESTIONS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(questions: &Questions, session: u64, id: &Value) -> Value {
        let body = json!({"id": id, "method": "elicitation/create"});
        let shown = questions.show(session, body.to_string(), &body);
        serde_json::from_str::<Value>(&shown).unwrap()["id"].clone()
    }

    fn answer(questions: &Questions, session: u64, id: &Value) -> Option<Value> {
        let text = json!({"id": id, "result": {}}).to_string();
        let answered = questions.answered(session, &Message::parse(text.as_bytes()).unwrap());
        answered.map(|text| serde_json::from_str::<Value>(&text).unwrap()["id"].clone())
    }

    #[test]
    fn an_answer_counts_once_and_for_its_own_session_only() {
        let questions = Questions::default();
        let zero = json!(0);
        assert_eq!(answer(&questions, 0, &zero), None);
        assert_eq!(ask(&questions, 0, &zero), zero);
        let renewed = ask(&questions, 1, &zero);
        assert_ne!(renewed, zero);
        assert_ne!(renewed, ask(&questions, 1, &json!("0")));
        assert_eq!(answer(&questions, 1, &zero), None);
        assert_eq!(answer(&questions, 1, &renewed), Some(zero));
        assert_eq!(answer(&questions, 1, &renewed), None);
    }

    #[test]
    fn what_is_repeated_is_one_question_and_the_oldest_are_forgotten() {
        let questions = Questions::default();
        for id in (0..=MOST_QUESTIONS).map(|id| json!(id)) {
            ask(&questions, 0, &id);
            ask(&questions, 0, &id);
        }
        assert_eq!(questions.open().len(), MOST_QUESTIONS);
        assert_eq!(answer(&questions, 0, &json!(0)), None);
        assert_eq!(answer(&questions, 0, &json!(1)), Some(json!(1)));
    }

    #[test]
    fn a_question_that_is_taken_back_is_named_as_it_was_shown() {
        let questions = Questions::default();
        let shown = ask(&questions, 1, &json!(0));
        let body = json!({"method": "notifications/cancelled", "params": {"requestId": 0}});
        let told = questions.show(1, body.to_string(), &body);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["params"]["requestId"], shown);
        assert_eq!(questions.show(0, body.to_string(), &body), body.to_string());
    }
}
