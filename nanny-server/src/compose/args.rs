//! The flags of `nanny compose config`, as Compose has them.

use std::path::PathBuf;

use clap::Args;

use super::Form;

/// Which files to read, and how to print what they mean.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = AFTER_HELP)]
#[non_exhaustive]
pub struct ConfigArgs {
    /// A Compose file; a later one changes what the earlier ones say. [default: $COMPOSE_FILE, or
    /// compose.yaml and its override file, here or in the nearest directory above]
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A profile to activate, `*` for all. [default: $COMPOSE_PROFILES]
    #[arg(long = "profile", value_name = "NAME")]
    pub profiles: Vec<String>,
    /// A file of variables, instead of `.env`. [default: $COMPOSE_ENV_FILES]
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// The project's name. [default: $COMPOSE_PROJECT_NAME, or what the files say]
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Where relative paths start and `.env` lies. [default: where the first file is]
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
    /// Print the canonical model as `docker compose config --format json` does.
    #[arg(long, conflicts_with = "hash")]
    pub json: bool,
    /// Print the values of Compose's config-hash labels, a line each: what, its name, the hash.
    #[arg(long)]
    pub hash: bool,
}

impl ConfigArgs {
    pub(super) fn form(&self) -> Form {
        match self {
            Self { json: true, .. } => Form::Json,
            Self { hash: true, .. } => Form::Hashes,
            _ => Form::Yaml,
        }
    }
}

const AFTER_HELP: &str = "\
What is printed holds the values of variables, secret ones too.

Exit codes:
  0  printed; what is odd about the files is told on standard error
  1  the files cannot be read as Compose files: file:line:column: what is wrong
  2  the command line is wrong";
