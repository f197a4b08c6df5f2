//! What a request gets for an answer if the daemon gives none, in words that say what to do.

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::message;

/// Why there is no answer of the daemon's.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Failure {
    /// Nobody is there: the request was not sent.
    Absent(String),
    /// It lacks the token, or has another.
    Unauthorized(String),
    /// There is nothing at this address, or the session has gone.
    NotFound(String),
    /// An HTTP status that is no success, and what came with it.
    Refused(u16, String),
    /// It was sent, and whatever became of it, the answer did not come.
    Cut(String),
    /// The answer is an error of the protocol, which came with an HTTP status of its own.
    Answered(Value),
    /// As many requests are under way as may be.
    Crowded(usize),
    /// What came is no answer to this.
    Unintelligible(String),
}

impl Failure {
    /// The answer to the request `id`, as one line.
    pub(super) fn answer(&self, id: &Value, method: &str, daemon: &Daemon) -> String {
        if let Self::Answered(answer) = self {
            let mut answer = answer.clone();
            // Errors of the HTTP layer do not always name the request.
            answer["id"] = id.clone();
            return answer.to_string();
        }
        let data = json!({
            "code": self.code(),
            "address": daemon.address(),
            "executed": if self.may_have_happened(method) { "unknown" } else { "no" },
        });
        message::error(id, -32000, &self.words(method, daemon), Some(data))
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Absent(_) => "NANNY_UNREACHABLE",
            Self::Unauthorized(_) => "TOKEN_REQUIRED",
            Self::NotFound(_) => "NO_MCP_HERE",
            Self::Refused(..) | Self::Answered(_) => "REFUSED",
            Self::Cut(_) => "CUT_OFF",
            Self::Crowded(_) => "TOO_MANY_REQUESTS",
            Self::Unintelligible(_) => "UNINTELLIGIBLE",
        }
    }

    /// Whether the daemon may have done what was asked for, and that is more than to read.
    fn may_have_happened(&self, method: &str) -> bool {
        let reached = match self {
            Self::Cut(_) | Self::Unintelligible(_) => true,
            Self::Refused(status, _) => *status >= 500,
            _ => false,
        };
        reached && method == "tools/call"
    }

    /// What happened and what to do, for people and for assistants.
    pub(super) fn words(&self, method: &str, daemon: &Daemon) -> String {
        let address = daemon.address();
        let what = match self {
            Self::Absent(why) => format!(
                "no nanny answers at {address} ({why}). Start it with `nanny serve`, or with \
                 `nanny demo` to try it, or say with --url or --unix-socket where it is. \
                 Nothing was done; ask again once it runs"
            ),
            Self::Unauthorized(_) if daemon.has_token() => format!(
                "the nanny at {address} knows another token. Give `nanny mcp` the one that the \
                 daemon has, with --token-file or in NANNY_TOKEN. Nothing was done"
            ),
            Self::Unauthorized(_) => format!(
                "the nanny at {address} wants a token. Give `nanny mcp` the one that the daemon \
                 has, with --token-file or in NANNY_TOKEN. Nothing was done"
            ),
            Self::NotFound(_) => format!(
                "{address} answers, and has no MCP: it is no nanny, or an old one, or runs with \
                 --no-mcp. Nothing was done"
            ),
            Self::Refused(403, said) => format!(
                "the nanny at {address} turned the request away: {said}. If it knows this name \
                 not, start it with --allowed-host. Nothing was done"
            ),
            Self::Refused(status, said) => {
                format!("{address} answered with HTTP {status}: {said}")
            }
            Self::Cut(why) => format!("the nanny at {address} did not finish its answer: {why}"),
            Self::Answered(answer) => answer["error"]["message"].to_string(),
            Self::Crowded(most) => format!(
                "{most} requests are under way, which is as many as may be. Nothing was done; \
                 ask again when some have ended"
            ),
            Self::Unintelligible(why) => format!("{address} answered, and not in MCP: {why}"),
        };
        if self.may_have_happened(method) {
            format!("{what}. It may have happened all the same: look at the status first")
        } else {
            what
        }
    }
}
