//! From flags to what an assistant may do.

use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use nanny_mcp::{Force, McpConfig};

use crate::gpu::seconds;

/// What an assistant may do at `/mcp`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "MCP")]
#[non_exhaustive]
pub struct McpArgs {
    /// Serve no MCP at /mcp.
    #[arg(long, env = "NANNY_NO_MCP")]
    pub no_mcp: bool,
    /// Let assistants look, but start and stop nothing.
    #[arg(long, env = "NANNY_MCP_READ_ONLY")]
    pub mcp_read_only: bool,
    /// Whether an assistant may stop other services for the one it starts: if its user says so when
    /// asked, always where its client cannot ask, or never. Without a value: always.
    #[arg(
        long,
        env = "NANNY_MCP_ALLOW_FORCE",
        value_name = "ask|always|never",
        num_args = 0..=1,
        require_equals = true,
        default_value = "ask",
        default_missing_value = "always"
    )]
    pub mcp_allow_force: ForceName,
    /// For how long a start is waited for before an assistant is told that it goes on. [default: 45]
    #[arg(long, env = "NANNY_MCP_START_WAIT", value_name = "SECONDS", value_parser = seconds)]
    pub mcp_start_wait: Option<Duration>,
    /// After how long without a word a session of the older revisions ends.
    #[arg(long, env = "NANNY_MCP_SESSION_IDLE", value_name = "SECONDS", value_parser = seconds, hide = true)]
    pub mcp_session_idle: Option<Duration>,
    /// How often an open stream without news says that it is there.
    #[arg(long, env = "NANNY_MCP_KEEP_ALIVE", value_name = "SECONDS", value_parser = seconds, hide = true)]
    pub mcp_keep_alive: Option<Duration>,
}

impl McpArgs {
    /// What is served at `/mcp`, if anything is.
    pub(crate) fn config(&self) -> Option<McpConfig> {
        if self.no_mcp {
            return None;
        }
        let mut config = McpConfig::default();
        config.read_only = self.mcp_read_only;
        config.force = self.mcp_allow_force.into();
        config.start_wait = self.mcp_start_wait.unwrap_or(config.start_wait);
        config.session_idle = self.mcp_session_idle.unwrap_or(config.session_idle);
        config.keep_alive = self.mcp_keep_alive.unwrap_or(config.keep_alive);
        Some(config)
    }
}

/// Whether an assistant may use force, as the command line names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForceName {
    /// If its user says so.
    #[default]
    Ask,
    /// Where its user cannot be asked, too.
    Always,
    /// Never.
    Never,
}

/// By hand, because a flag without a value is often set by a variable that says `true` or
/// `false`.
impl ValueEnum for ForceName {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Ask, Self::Always, Self::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Ask => PossibleValue::new("ask"),
            Self::Always => PossibleValue::new("always").alias("true"),
            Self::Never => PossibleValue::new("never").alias("false"),
        })
    }
}

impl From<ForceName> for Force {
    fn from(name: ForceName) -> Self {
        match name {
            ForceName::Ask => Self::Ask,
            ForceName::Always => Self::Always,
            ForceName::Never => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        mcp: McpArgs,
    }

    fn force(flags: &[&str]) -> Force {
        let line = Line::try_parse_from([&["nanny"], flags].concat()).unwrap();
        line.mcp.config().unwrap().force
    }

    #[test]
    fn force_is_asked_for_unless_it_is_allowed() {
        assert_eq!(force(&[]), Force::Ask);
        assert_eq!(force(&["--mcp-allow-force"]), Force::Always);
        assert_eq!(force(&["--mcp-allow-force=true"]), Force::Always);
        assert_eq!(force(&["--mcp-allow-force=never"]), Force::Never);
        assert_eq!(force(&["--mcp-allow-force=false"]), Force::Never);
        assert!(Line::try_parse_from(["nanny", "--mcp-allow-force=perhaps"]).is_err());
    }

    #[test]
    fn it_can_be_switched_off() {
        let line = Line::try_parse_from(["nanny", "--no-mcp"]).unwrap();
        assert!(line.mcp.config().is_none());
    }
}
