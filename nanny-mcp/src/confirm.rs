//! Asking the user, not the model, whether other services may be stopped or passed over.
//!
//! In the older revisions the server asks in the midst of the call, by elicitation. Since 2026-07-28
//! it cannot: it answers the call with the question and a sealed note of whom it was about, and the
//! client calls again with the user's answer and the note.
//!
//! It is the client that asks its user. One that answers for them is not kept from it: what no
//! assistant may stop is `protected`, and a server whose clients are not trusted is read-only.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nanny_lib::ServiceName;
use rmcp::model::{
    BooleanSchema, ClientCapabilities, ElicitRequest, ElicitRequestParams, ElicitResult,
    ElicitationAction, ElicitationSchema, InputRequest, InputRequests, InputRequiredResult,
    InputResponses, ProtocolVersion, RequestStateCodec, SealOptions,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::quoted;

/// Seals what a question was about, with a key that ends with the process.
#[derive(Debug)]
pub(crate) struct Seal {
    codec: RequestStateCodec,
    lasts: Duration,
    answered: Mutex<Answered>,
}

/// What is sealed.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Which question it was.
    number: u64,
    price: Price,
}

/// Which questions were answered: an answer counts once.
#[derive(Debug, Default)]
struct Answered {
    /// How many were asked.
    asked: u64,
    /// Of the last [`REMEMBERED`] that were asked. Older ones are not valid any more.
    numbers: HashSet<u64>,
}

impl Answered {
    fn ask(&mut self) -> u64 {
        let number = self.asked;
        self.asked += 1;
        let oldest = self.asked.saturating_sub(REMEMBERED);
        self.numbers.retain(|number| *number >= oldest);
        number
    }

    /// Whether this is the first answer to a question that is remembered.
    fn take(&mut self, number: u64) -> bool {
        number >= self.asked.saturating_sub(REMEMBERED) && self.numbers.insert(number)
    }
}

/// What a question is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The service that is to be started.
    pub(crate) service: &'a str,
    /// At whose cost.
    pub(crate) price: &'a Price,
}

/// At whose cost a service would be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Price {
    /// Those that would be stopped for it.
    pub(crate) victims: Vec<ServiceName>,
    /// Others in its way, who stay: containers of other hands, and services that wait before it.
    pub(crate) passed_over: Vec<String>,
}

impl Price {
    /// Whether whoever agreed to this has agreed to `other`.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.victims.iter().all(|name| self.victims.contains(name))
            && other.passed_over.iter().all(|name| self.passed_over.contains(name))
    }

    /// What it means to start `service`: the beginning of a sentence.
    pub(crate) fn of(&self, service: &str) -> String {
        match (self.victims.as_slice(), self.passed_over.as_slice()) {
            ([], []) => format!("'{service}' would be started beside others that use the GPU"),
            ([], others) => format!(
                "'{service}' would be started although {} has the GPU or waits for it",
                quoted(others)
            ),
            (victims, []) => format!("To start '{service}', {} must be stopped", quoted(victims)),
            (victims, others) => format!(
                "To start '{service}', {} must be stopped, and {} stays beside it",
                quoted(victims),
                quoted(others)
            ),
        }
    }
}

/// What the user said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Stop them.
    Yes,
    /// Do not.
    No,
    /// Nothing, in the time there was, or the client could not ask.
    None,
}

/// How a client asks its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// It is asked for it in the midst of the call.
    Midway,
    /// The answer to the call is the question.
    NextCall,
}

impl Channel {
    /// How the client of this call asks its user, if it can.
    pub(crate) fn of(context: &RequestContext<RoleServer>) -> Option<Self> {
        if !has_forms(&context.client_capabilities()?) {
            return None;
        }
        let version = context.protocol_version()?;
        Some(if version >= ProtocolVersion::V_2026_07_28 { Self::NextCall } else { Self::Midway })
    }
}

/// A client that says that it can ask, and not how, has forms.
fn has_forms(capabilities: &ClientCapabilities) -> bool {
    let elicitation = capabilities.elicitation.as_ref();
    elicitation.is_some_and(|can| can.form.is_some() || can.url.is_none())
}

impl Seal {
    /// A seal with a key of its own.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers: then nothing of what is sealed could be trusted.
    pub(crate) fn new() -> Self {
        let mut key = [0; 2 * RequestStateCodec::MIN_KEY_LENGTH];
        getrandom::fill(&mut key).expect("the system has random numbers");
        let codec = RequestStateCodec::try_new(key).expect("the key is long enough");
        Self { codec, lasts: ANSWER_LIMIT, answered: Mutex::default() }
    }

    /// The question, as the answer to a call.
    pub(crate) fn question(
        &self,
        question: Question<'_>,
    ) -> Result<InputRequiredResult, ErrorData> {
        let note = Note { number: self.answered().ask(), price: question.price.clone() };
        let context = context(question.service);
        let options = SealOptions::new().associated_data(&context).ttl(self.lasts);
        let note = self.codec.seal_json_with(&note, &options);
        let note = note.map_err(|_| ErrorData::internal_error("internal error", None))?;
        let ask = InputRequest::Elicitation(ElicitRequest::new(form(question)?));
        let requests = InputRequests::from([(KEY.to_owned(), ask)]);
        Ok(InputRequiredResult::new(Some(requests), Some(note)))
    }

    /// What a question about a start of `service` was about, by the note that came back with `said`.
    ///
    /// # Errors
    ///
    /// The note is not ours, is about something else, is too old, or its question was answered before.
    pub(crate) fn open(&self, service: &str, note: &str, said: Answer) -> Result<Price, ErrorData> {
        let opened = self.codec.open_json_with::<Note>(note, &context(service));
        let Note { number, price } = opened.map_err(|error| {
            tracing::debug!(%error, "a request state was refused");
            no_more()
        })?;
        if said == Answer::None || self.answered().take(number) {
            return Ok(price);
        }
        tracing::debug!(number, "a question was answered again");
        Err(no_more())
    }

    fn answered(&self) -> MutexGuard<'_, Answered> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_more() -> ErrorData {
    let message = "the requestState is not valid here, or no more; call again without it";
    ErrorData::invalid_params(message, None)
}

/// The user's answer among those that came with a call.
///
/// # Errors
///
/// It cannot be read.
pub(crate) fn answer(responses: Option<&InputResponses>) -> Result<Answer, ErrorData> {
    let Some(response) = responses.and_then(|responses| responses.get(KEY)) else {
        return Ok(Answer::None);
    };
    let result = serde_json::from_value(response.clone()).map_err(|_| {
        ErrorData::invalid_params(format!("the input response '{KEY}' cannot be read"), None)
    })?;
    Ok(read(&result))
}

/// Asks in the midst of a call, until it is cancelled.
pub(crate) async fn ask(
    question: Question<'_>,
    context: &RequestContext<RoleServer>,
) -> Result<Answer, ErrorData> {
    let asked = context.peer.create_elicitation_with_timeout(form(question)?, Some(ANSWER_LIMIT));
    let answered = tokio::select! {
        answered = asked => answered,
        () = context.ct.cancelled() => return Ok(Answer::None),
    };
    Ok(match answered {
        Ok(result) => read(&result),
        Err(error) => {
            tracing::debug!(%error, "a client did not ask its user");
            Answer::None
        }
    })
}

/// What a note is for: one for something else does not open.
fn context(service: &str) -> Vec<u8> {
    format!("tools/call\0start_service\0{service}").into_bytes()
}

fn form(question: Question<'_>) -> Result<ElicitRequestParams, ErrorData> {
    let Question { service, price } = question;
    let (title, description, lost) = match price.victims.as_slice() {
        [] => {
            let title = format!("Start '{service}'");
            (title, format!("Whether '{service}' may be started all the same"), "Start it?")
        }
        victims => {
            let victims = quoted(victims);
            let title = format!("Stop {victims}");
            let lost = "What is being done there is lost. Stop it?";
            (title, format!("Whether {victims} may be stopped"), lost)
        }
    };
    let confirm = |schema: BooleanSchema| schema.title(title).description(description);
    let schema = ElicitationSchema::builder().required_bool_property(FIELD, confirm).build();
    let requested_schema = schema.map_err(|error| ErrorData::internal_error(error, None))?;
    Ok(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("{}. {lost}", price.of(service)),
        requested_schema,
    })
}

fn read(result: &ElicitResult) -> Answer {
    let said = result.content.as_ref().and_then(|content| content.get(FIELD));
    let accepted = result.action == ElicitationAction::Accept && said == Some(&Value::Bool(true));
    if accepted { Answer::Yes } else { Answer::No }
}

/// For how long an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// How many questions may be open at once; whoever asks more often than that is asked anew.
const REMEMBERED: u64 = 1024;
const KEY: &str = "confirm_evict";
const FIELD: &str = "confirm";

#[cfg(test)]
mod tests {
    use rmcp::model::{ElicitationCapability, FormElicitationCapability, UrlElicitationCapability};
    use serde_json::json;

    use super::*;

    fn price() -> Price {
        Price { victims: vec![ServiceName::new("a").unwrap()], passed_over: Vec::new() }
    }

    fn note(seal: &Seal) -> String {
        let question = Question { service: "b", price: &price() };
        seal.question(question).unwrap().request_state.unwrap()
    }

    #[test]
    fn a_note_is_read_back_by_the_one_who_sealed_it_and_for_the_same_service() {
        let (ours, other) = (Seal::new(), Seal::new());
        let note = note(&ours);
        assert_eq!(ours.open("b", &note, Answer::Yes).unwrap(), price());
        assert!(ours.open("c", &note, Answer::None).is_err());
        assert!(other.open("b", &note, Answer::None).is_err());
    }

    #[test]
    fn a_note_that_was_changed_is_refused() {
        let seal = Seal::new();
        let note = note(&seal);
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let opened = seal.open("b", &changed, Answer::None);
            // The last digit of a part has bits that mean nothing.
            assert!(opened.is_err() || opened.is_ok_and(|opened| opened == price()), "{at}");
        }
    }

    #[tokio::test]
    async fn a_note_does_not_last() {
        let seal = Seal { lasts: Duration::ZERO, ..Seal::new() };
        let note = note(&seal);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let error = seal.open("b", &note, Answer::Yes).unwrap_err();
        assert_eq!(error.code, rmcp::model::ErrorCode::INVALID_PARAMS);
    }

    #[test]
    fn a_question_is_answered_once() {
        for said in [Answer::Yes, Answer::No] {
            let seal = Seal::new();
            let (first, second) = (note(&seal), note(&seal));
            seal.open("b", &first, Answer::None).unwrap();
            seal.open("b", &first, said).unwrap();
            for again in [Answer::Yes, Answer::No] {
                seal.open("b", &first, again).unwrap_err();
            }
            seal.open("b", &second, said).unwrap();
        }
    }

    #[test]
    fn a_question_before_very_many_others_is_asked_anew() {
        let seal = Seal::new();
        let (first, second) = (note(&seal), note(&seal));
        for _ in 1..REMEMBERED {
            note(&seal);
        }
        seal.open("b", &first, Answer::Yes).unwrap_err();
        seal.open("b", &second, Answer::Yes).unwrap();
        seal.open("b", &second, Answer::Yes).unwrap_err();
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        for (response, expected) in [
            (json!({"action": "accept", "content": {"confirm": true}}), Answer::Yes),
            (json!({"action": "accept", "content": {"confirm": false}}), Answer::No),
            (json!({"action": "accept", "content": {"confirm": "true"}}), Answer::No),
            (json!({"action": "accept"}), Answer::No),
            (json!({"action": "decline", "content": {"confirm": true}}), Answer::No),
            (json!({"action": "cancel"}), Answer::No),
        ] {
            let responses = InputResponses::from([(KEY.to_owned(), response)]);
            assert_eq!(answer(Some(&responses)).unwrap(), expected, "{responses:?}");
        }
        assert_eq!(answer(None).unwrap(), Answer::None);
        assert_eq!(answer(Some(&InputResponses::new())).unwrap(), Answer::None);
        let garbage = InputResponses::from([(KEY.to_owned(), json!(7))]);
        assert!(answer(Some(&garbage)).is_err());
    }

    #[test]
    fn a_client_that_only_opens_pages_cannot_ask() {
        let can = |elicitation| {
            let mut capabilities = ClientCapabilities::default();
            capabilities.elicitation = elicitation;
            has_forms(&capabilities)
        };
        let new = ElicitationCapability::new;
        assert!(!can(None));
        assert!(can(Some(new())));
        assert!(can(Some(new().with_form(FormElicitationCapability::default()))));
        assert!(!can(Some(new().with_url(UrlElicitationCapability::default()))));
    }
}
