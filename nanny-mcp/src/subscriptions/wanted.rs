//! What one client wants to be told of.

use std::collections::BTreeMap;

use nanny_lib::ServiceName;
use rmcp::ErrorData;
use rmcp::model::SubscriptionFilter;

use crate::resources::ResourceUri;

/// What one client wants to be told of. It is told by the very URIs that it gave.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// By the URI as given; `None` are others than ours, of which there is never anything to tell.
    uris: BTreeMap<String, Option<ResourceUri>>,
    /// When services come and go.
    pub(super) list: bool,
}

impl Wanted {
    /// What a session of the older revisions wants before it has subscribed to anything.
    pub(super) fn list() -> Self {
        Self { uris: BTreeMap::new(), list: true }
    }

    /// The part of a filter that is accepted: URIs of ours, so many at most. Whether there is such a
    /// service is seen when there is something to tell.
    pub(super) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
        let mut accepted = SubscriptionFilter::new();
        accepted.resources_list_changed = requested.resources_list_changed;
        accepted.resource_subscriptions = requested.resource_subscriptions.as_ref().map(|uris| {
            let ours = uris.iter().filter(|uri| ResourceUri::parse(uri).is_some());
            ours.take(MOST_URIS).cloned().collect()
        });
        accepted
    }

    /// What an accepted filter wants.
    pub(super) fn by(accepted: &SubscriptionFilter) -> Self {
        let uris = accepted.resource_subscriptions.iter().flatten();
        Self {
            uris: uris.map(|uri| (uri.clone(), ResourceUri::parse(uri))).collect(),
            list: accepted.resources_list_changed == Some(true),
        }
    }

    /// Adds a URI. One that is none of ours is taken and never told of, as long as it is one.
    pub(super) fn add(&mut self, uri: &str) -> Result<(), ErrorData> {
        let parsed = ResourceUri::parse(uri);
        if parsed.is_none() && !is_uri(uri) {
            return Err(ErrorData::invalid_params("this is no URI", None));
        }
        if !self.uris.contains_key(uri) && self.uris.len() >= MOST_URIS {
            let message = format!("a session can subscribe to {MOST_URIS} resources at most");
            return Err(ErrorData::invalid_params(message, None));
        }
        self.uris.insert(uri.to_owned(), parsed);
        Ok(())
    }

    /// Takes a URI away, if it is there.
    pub(super) fn remove(&mut self, uri: &str) {
        self.uris.remove(uri);
    }

    /// Whether `uri` is wanted, however it was written.
    pub(super) fn has(&self, uri: &ResourceUri) -> bool {
        self.given(uri).next().is_some()
    }

    /// The URIs that `uri` was given as.
    pub(super) fn given(&self, uri: &ResourceUri) -> impl Iterator<Item = &String> {
        self.uris
            .iter()
            .filter(move |(_, known)| known.as_ref() == Some(uri))
            .map(|(as_given, _)| as_given)
    }

    /// All that is wanted.
    pub(super) fn all(&self) -> impl Iterator<Item = &ResourceUri> {
        self.uris.values().flatten()
    }

    /// The services whose logs are wanted.
    pub(super) fn logs(&self) -> impl Iterator<Item = &ServiceName> {
        self.all().filter_map(|uri| match uri {
            ResourceUri::Logs(name) => Some(name),
            _ => None,
        })
    }
}

/// Whether `text` has a scheme and something after it, in characters that can be seen.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    text.len() <= LONGEST_URI
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char))
        && !rest.is_empty()
        && !rest.contains(|char: char| char.is_control() || char.is_whitespace())
}

const MOST_URIS: usize = 256;
const LONGEST_URI: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_keeps_what_is_ours_and_no_more_than_so_many() {
        let mut uris = vec!["service://status".to_owned(), "file:///etc/passwd".to_owned()];
        uris.extend((0..300).map(|n| format!("service://logs/s{n}")));
        let requested = SubscriptionFilter::builder()
            .tools_list_changed()
            .resources_list_changed()
            .resource_subscriptions(uris)
            .build();
        let accepted = Wanted::accepted(&requested);
        let uris = accepted.resource_subscriptions.unwrap();
        assert_eq!(uris.len(), 256);
        assert!(!uris.contains(&"file:///etc/passwd".to_owned()));
        assert_eq!(accepted.resources_list_changed, Some(true));
        assert_eq!(accepted.tools_list_changed, None);
    }

    #[test]
    fn a_session_takes_any_uri_and_no_more_than_so_many() {
        let mut wanted = Wanted::list();
        for uri in ["test://watched", "urn:x", "service://logs/a"] {
            wanted.add(uri).unwrap();
        }
        for no_uri in ["", "a", ":", "x:", "1x://a", "x://a b", "x://\n"] {
            assert!(wanted.add(no_uri).is_err(), "{no_uri:?}");
        }
        for n in 3..256 {
            wanted.add(&format!("service://logs/s{n}")).unwrap();
        }
        assert!(wanted.add("service://logs/one-more").is_err());
        wanted.add("service://logs/a").unwrap();
        wanted.remove("test://watched");
        wanted.add("service://logs/one-more").unwrap();
    }

    #[test]
    fn who_asked_under_two_names_is_told_by_both() {
        let mut wanted = Wanted::default();
        wanted.add("service://status").unwrap();
        wanted.add("SERVICE://status/").unwrap();
        assert_eq!(wanted.given(&ResourceUri::Overview).count(), 2);
        assert!(!wanted.has(&ResourceUri::Metrics));
    }
}
