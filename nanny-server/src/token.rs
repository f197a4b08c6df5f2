//! The token that requests must carry, and where it comes from.

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A bearer token, of which only a digest is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The token `text`; `None` if it is empty or cannot be written in a header.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let writable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        writable.then(|| Self(Sha256::digest(text).into()))
    }

    /// Whether `presented` is this token, in a time that says nothing about either.
    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.0.ct_eq(&presented).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a configured token cannot be used; never says what it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableToken(String);

/// The token from a file, or else from the environment.
pub(crate) fn configured(
    file: Option<&Path>,
    variable: Option<&str>,
) -> Result<Option<Token>, UnusableToken> {
    Ok(configured_text(file, variable)?.as_deref().and_then(Token::new))
}

/// The same, as it is written: for whoever presents it.
pub(crate) fn configured_text(
    file: Option<&Path>,
    variable: Option<&str>,
) -> Result<Option<String>, UnusableToken> {
    let (text, place) = match (file, variable) {
        (Some(path), _) => {
            let unusable = |why: String| {
                UnusableToken(format!("cannot use the token file {}: {why}", path.display()))
            };
            let text = read_token(path).map_err(|error| unusable(error.to_string()))?;
            (text, format!("the token file {}", path.display()))
        }
        (None, Some(text)) if !text.is_empty() => (text.to_owned(), "NANNY_TOKEN".to_owned()),
        (None, _) => return Ok(None),
    };
    let invalid = || UnusableToken(format!("{place} must hold one word of visible ASCII"));
    let text = text.trim().to_owned();
    if Token::new(&text).is_some() { Ok(Some(text)) } else { Err(invalid()) }
}

/// What the environment has.
pub(crate) fn variable() -> Option<String> {
    // What is no text becomes what no token may hold, and is refused as such.
    Some(env::var_os("NANNY_TOKEN")?.to_string_lossy().into_owned())
}

fn read_token(path: &Path) -> io::Result<String> {
    let file = fs::File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o007 != 0 {
        return Err(io::Error::other("everybody on this machine may use it; chmod 600 would help"));
    }
    let mut text = String::new();
    file.take(LONGEST_TOKEN).read_to_string(&mut text)?;
    Ok(text)
}

const LONGEST_TOKEN: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::edge::EdgeConfig;

    fn token_file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_token_comes_from_a_file_or_a_variable() {
        assert!(configured(None, None).unwrap().is_none());
        assert!(configured(None, Some("")).unwrap().is_none());
        assert!(configured(None, Some("abc")).unwrap().unwrap().matches(b"abc"));
        let (_directory, path) = token_file("from-file\n", 0o600);
        assert!(configured(Some(&path), Some("abc")).unwrap().unwrap().matches(b"from-file"));
    }

    #[test]
    fn a_token_that_is_none_is_refused_without_being_shown() {
        for text in ["canary canary", "\n", "canary\ncanary"] {
            let (_directory, path) = token_file(text, 0o600);
            let error = configured(Some(&path), None).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
        assert!(configured(None, Some("canary canary")).is_err());
        assert!(configured(Some(Path::new("/nonexistent")), None).is_err());
    }

    #[test]
    fn j3_a_token_file_that_everybody_may_read_is_refused() {
        let (_directory, path) = token_file("abc", 0o644);
        assert!(configured(Some(&path), None).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_token_never_shows() {
        let token = Token::new("secret-canary").unwrap();
        let config = EdgeConfig::new(([127, 0, 0, 1], 8080).into()).with_token(token.clone());
        assert!(!format!("{config:?}").contains("canary"));
        assert!(token.matches(b"secret-canary"));
        for wrong in ["", "secret-canar", "secret-canary ", "Secret-canary"] {
            assert!(!token.matches(wrong.as_bytes()));
        }
    }

    #[test]
    fn g6_what_is_compared_has_one_length_whatever_was_presented() {
        let token = Token::new("a").unwrap();
        let digest: [u8; 32] = Sha256::digest("a").into();
        assert_eq!(token.0, digest, "the token itself is not kept");
        for length in [0, 1, 2, 31, 32, 33, 4096, 60_000] {
            assert_eq!(token.matches("a".repeat(length).as_bytes()), length == 1);
        }
        // Not even its digest is a token.
        assert!(!token.matches(&digest));
    }

    #[test]
    fn a_token_is_visible_text() {
        for odd in ["", "a b", "a\n", "é"] {
            assert!(Token::new(odd).is_none());
        }
    }
}
