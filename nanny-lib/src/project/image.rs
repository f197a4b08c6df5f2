//! Images, and how to come by them.

use serde::Serialize;

use crate::backend::BuildSpec;

/// An image that must be there before a container is made from it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageWanted {
    /// What it is called.
    pub reference: String,
    /// Of which platform it must be; `None` is the engine's.
    pub platform: Option<String>,
    /// When it is fetched.
    pub pull: PullPolicy,
    /// How it is built, if it can be.
    pub build: Option<BuildSpec>,
}

impl ImageWanted {
    /// An image that is fetched if it is missing.
    #[must_use]
    pub fn new(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), platform: None, pull: PullPolicy::Missing, build: None }
    }
}

/// When an image is fetched. Ordered: of two wishes for one image, the greater one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[non_exhaustive]
pub enum PullPolicy {
    /// Never: it must be there, or be built.
    Never,
    /// If it is not there.
    #[default]
    Missing,
    /// Before each start that makes or compares a container.
    Always,
    /// It is built before each start that makes or compares a container.
    Build,
}

/// Whether an image of the platform `actual` runs where `wanted` is asked for; both are
/// `os/architecture[/variant]`.
#[must_use]
pub fn fits(wanted: &str, actual: &str) -> bool {
    let parts = |platform: &str| {
        let mut parts = platform.split('/').map(str::to_ascii_lowercase);
        let (os, architecture) = (parts.next(), parts.next());
        let architecture = architecture.map(|name| match name.as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            _ => name,
        });
        let variant = parts.next().filter(|variant| !variant.is_empty());
        // The eighth is the only variant of it that there is.
        let variant = variant.filter(|v| !(architecture.as_deref() == Some("arm64") && v == "v8"));
        (os, architecture, variant)
    };
    let (wanted, actual) = (parts(wanted), parts(actual));
    let variants_fit = wanted.2.is_none() || actual.2.is_none() || wanted.2 == actual.2;
    wanted.0 == actual.0 && (wanted.1.is_none() || wanted.1 == actual.1) && variants_fit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_fit_by_whatever_name() {
        assert!(fits("linux/amd64", "linux/amd64"));
        assert!(fits("linux/x86_64", "linux/amd64"));
        assert!(fits("linux/arm64", "linux/arm64/v8"));
        assert!(fits("linux", "linux/amd64"));
        assert!(!fits("linux/arm64", "linux/amd64"));
        assert!(!fits("linux/arm/v6", "linux/arm/v7"));
        assert!(!fits("windows/amd64", "linux/amd64"));
    }

    #[test]
    fn of_two_wishes_the_greater_counts() {
        assert!(PullPolicy::Build > PullPolicy::Always);
        assert!(PullPolicy::Always > PullPolicy::Missing);
        assert!(PullPolicy::Missing > PullPolicy::Never);
    }
}
