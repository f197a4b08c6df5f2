//! `docs/compose-support.md` says what the table of the specification says.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use nanny_compose::labels::COMPOSE_VERSION;
use nanny_compose::spec::{self, Row, Support};

#[test]
fn the_page_of_supported_keys_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compose-support.md");
    let page = page(&spec::all());
    if env::var("NANNY_WRITE_DOCS").is_ok_and(|write| write == "1") {
        fs::write(&path, &page).expect("the page can be written");
    }
    let written = fs::read_to_string(&path).expect("there is a page");
    assert!(
        written == page,
        "docs/compose-support.md is out of date: NANNY_WRITE_DOCS=1 cargo test -p nanny-compose \
         --test support"
    );
}

fn page(rows: &[Row]) -> String {
    let mut page = format!(
        "# Compose keys, and what becomes of them\n\n\
         What a key means is told by the [Compose specification](https://compose-spec.io); this \
         page tells, for each that Docker Compose {COMPOSE_VERSION} knows, whether Service Nanny \
         carries it out as Compose does, ignores it with a warning, or refuses the file. A key \
         that Compose does not know is an error; one that begins with `x-` is a note of the \
         author. `nanny compose config` shows what a file comes to mean.\n\n\
         `*` stands for a name of the author's choice, `[]` for an item of a list. An engine older \
         than the API version named refuses a container that needs the key. This page is made \
         from `nanny_compose::spec`: `NANNY_WRITE_DOCS=1 cargo test -p nanny-compose --test \
         support`.\n"
    );
    page.push_str(VALUES);
    let is_exception = |row: &&Row| row.support != Support::Supported;
    table(&mut page, "What is refused or ignored", rows.iter().filter(is_exception));
    let mut sections: Vec<&str> = rows.iter().map(|row| section(&row.path)).collect();
    sections.dedup();
    for name in sections {
        table(
            &mut page,
            &format!("`{name}`"),
            rows.iter().filter(|row| section(&row.path) == name),
        );
    }
    page
}

/// What no row of the table can say.
const VALUES: &str = "
## Values that are refused

Compose reads these, and then the engine refuses them, or they come to mean nothing:

- a `scale` or `deploy.replicas` above 1, and mounts of type `image`, `npipe` or `cluster`
- a `restart` or a condition of `deploy.restart_policy` that no engine knows
- a `container_name` that no engine takes, and 0 as a port of a container
- a size that is a fraction or beyond 2^53 bytes where it would be taken for no limit, a number \
  beyond 2^63, and a duration or a file mode below 0
- a path of Windows, for which Compose also takes a volume's name of one letter
- a line without a name in an `env_file` or `.env`
- a name that begins with `x-` in a mapping such as `environment` (in a list it may)
- YAML's `!!binary`, and an anchor of another document
- `!reset` on a single host of `extra_hosts`
";

fn section(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

fn table<'a>(page: &mut String, heading: &str, rows: impl Iterator<Item = &'a Row>) {
    // Writing to a string cannot fail, here and below.
    let _ = write!(page, "\n## {heading}\n\n| key | | since API |\n|---|---|---|\n");
    for Row { path, support, needs_api, .. } in rows {
        let support = match support {
            Support::Supported => "supported".to_owned(),
            Support::Ignored(notice) => format!("ignored: {notice}"),
            Support::Refused(reason) => format!("**refused**: {reason}"),
            other => format!("{other:?}"),
        };
        let _ = writeln!(page, "| `{path}` | {support} | {} |", needs_api.unwrap_or_default());
    }
}
