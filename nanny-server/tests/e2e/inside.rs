//! Secrets and configs: files inside containers.

use std::fs;

use crate::engine;
use crate::house::{House, IDLE, INHERITED, web};

fn with_files(more: &str) -> String {
    let name = INHERITED.0;
    let service = web(
        IDLE,
        &format!(
            "secrets:\n  - from_variable\n  - {{source: from_variable, target: other, uid: '7', \
             gid: '8', mode: 0400}}\n  - from_file\nconfigs:\n  - inline\n  - {{source: inline, \
             target: /etc/app/app.conf, mode: 0640}}\n{more}"
        ),
    );
    format!(
        "{service}secrets:\n  from_variable: {{environment: {name}}}\n  \
         from_file: {{file: ./token}}\nconfigs:\n  inline: {{content: 'size=${{SIZE}}'}}\n"
    )
}

const LOOK: &str = "cd /run/secrets; ls -ln . /inline /etc/app/app.conf | sed 's/[A-Z][a-z]* *[0-9]* *[0-9:]* /- /'; \
                    md5sum from_variable other from_file /inline /etc/app/app.conf";

fn house() -> Option<House> {
    let mut house = House::new()?;
    house.add("web", "", &with_files(""));
    house.write("web", ".env", "SIZE=small\n");
    house.write("web", "token", "a token");
    house.open();
    house.started("web");
    Some(house)
}

#[test]
fn files_are_inside_as_compose_puts_them() {
    let Some(house) = house() else { return };
    let container = house.container("web");
    let ours = engine::execute(&container, LOOK);
    assert!(ours.contains("-r--------") && ours.contains("-rw-r-----"), "{ours}");
    assert_eq!(engine::execute(&container, "cat /run/secrets/from_variable"), INHERITED.1);
    assert_eq!(engine::execute(&container, "cat /inline"), "size=small");
    if engine::has_compose() {
        let id = engine::id(&container);
        let home = house.home("web");
        engine::compose(&home, &["up", "-d"]);
        assert_eq!(engine::id(&container), id);
        engine::compose(&home, &["up", "-d", "--force-recreate", "-t", "1"]);
        assert_eq!(engine::execute(&container, LOOK), ours);
        house.until("web", |now| now["status"] == "running" && now["containers"][0]["id"] != id);
    }
}

#[test]
fn what_changed_is_there_at_the_next_start() {
    let Some(house) = house() else { return };
    let container = house.container("web");
    house.stop("web", "").expect(200);
    house.write("web", ".env", "SIZE=large\n");
    // What is mounted follows at once.
    fs::write(house.home("web").join("token"), "another").unwrap();
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    assert_eq!(
        engine::execute(&container, "cat /inline /etc/app/app.conf"),
        "size=largesize=large"
    );
    assert_eq!(engine::execute(&container, "cat /run/secrets/from_file"), "another");
}

#[test]
fn a_container_that_is_read_only_takes_no_files_and_says_so() {
    let Some(house) = House::with("", &with_files("read_only: true")) else { return };
    let failed = house.start("web", "").expect(500);
    let detail = failed["detail"].as_str().unwrap();
    assert!(detail.contains("read-only") || detail.contains("services.web"), "{detail}");
}
