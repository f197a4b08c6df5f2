//! Doors for the crate `nanny-fuzz`, and no part of the API.

use axum::http::Uri;
use axum::http::request::Parts;

use crate::edge::EdgeConfig;
use crate::error::ApiError;
use crate::guard::decide;
use crate::wire::{query, request};

/// Whether the guard lets a request over TCP pass.
#[must_use]
pub fn guard_admits(parts: &Parts, edge: &EdgeConfig) -> bool {
    decide(parts, edge).is_ok()
}

/// Reads `body` as each kind of body there is, and says what a client is told of what is wrong.
#[must_use]
pub fn read_body(body: &[u8]) -> Vec<String> {
    let read = [
        request::start_options(body).map(|_| ()),
        request::stop_options(body).map(|_| ()),
        request::nothing(body),
    ];
    told(read)
}

/// Reads the query of `uri` in each way there is, and says what a client is told of what is wrong.
#[must_use]
pub fn read_query(uri: &Uri) -> Vec<String> {
    let read = [
        query::Filter::parse(uri).map(|_| ()),
        query::LogQuery::parse(uri).map(|_| ()),
        query::plan_options(uri).map(|_| ()),
    ];
    told(read)
}

fn told(read: impl IntoIterator<Item = Result<(), ApiError>>) -> Vec<String> {
    let errors = read.into_iter().filter_map(Result::err);
    errors.map(|error| error.problem().detail).collect()
}
