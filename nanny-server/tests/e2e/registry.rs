//! A registry on the loopback address with one image in it, which it holds back until told to hand it
//! over: a pull that takes as long as a test needs.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engine;

/// The registry; what it serves stays there until the tests end.
pub(crate) struct Registry {
    /// What a Compose file calls the image.
    pub(crate) reference: String,
    shared: Arc<Shared>,
}

struct Shared {
    manifest: Vec<u8>,
    blobs: Vec<(String, Vec<u8>)>,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    open: bool,
    asked: bool,
}

impl Registry {
    /// One with a copy of the test image that no engine has yet, because `tag` is in it.
    pub(crate) fn new(tag: &str, directory: &Path) -> Self {
        let (config, layer) = copy_of_the_test_image(tag, directory);
        let part = |kind: &str, blob: &[u8]| {
            let kind = format!("application/vnd.docker.{kind}");
            json!({"mediaType": kind, "size": blob.len(), "digest": digest(blob)})
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("container.image.v1+json", &config),
            "layers": [part("image.rootfs.diff.tar.gzip", &layer)],
        });
        let blobs = [config, layer].map(|blob| (digest(&blob), blob)).to_vec();
        let shared = Arc::new(Shared {
            manifest: manifest.to_string().into_bytes(),
            blobs,
            gate: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                thread::spawn(move || shared.answer(&client));
            }
        });
        Self { reference: format!("{address}/nanny-e2e/{tag}:1"), shared }
    }

    /// Waits until somebody pulls, and is kept waiting.
    pub(crate) fn is_asked(&self) {
        assert!(self.shared.wait_for(|gate| gate.asked), "nobody pulls");
    }

    /// Hands over what it held back, and holds nothing back from now on.
    pub(crate) fn open(&self) {
        self.shared.gate.lock().expect("nobody panics here").open = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.open();
        let _ = Command::new("docker").args(["rmi", "--force", &self.reference]).output();
    }
}

impl Shared {
    fn wait_for(&self, condition: impl Fn(&Gate) -> bool) -> bool {
        let gate = self.gate.lock().expect("nobody panics here");
        let waited = self.changed.wait_timeout_while(gate, LIMIT, |gate| !condition(gate));
        !waited.expect("nobody panics here").1.timed_out()
    }

    fn answer(&self, mut client: &TcpStream) -> Option<()> {
        let mut lines = BufReader::new(client).lines().map_while(Result::ok);
        let request = lines.next()?;
        lines.find(String::is_empty)?;
        let (method, path) = request.split_once(' ')?;
        let path = path.split(' ').next()?;
        let blob = || Some(&self.blobs.iter().find(|(digest, _)| path.ends_with(digest))?.1);
        let (kind, body) = match path {
            "/v2/" => ("application/json", &b"{}"[..]),
            _ if path.contains("/manifests/") => (MANIFEST, &self.manifest[..]),
            _ => ("application/octet-stream", &blob()?[..]),
        };
        let (length, name) = (body.len(), digest(body));
        write!(
            client,
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
             docker-content-digest: {name}\r\nconnection: close\r\n\r\n"
        )
        .ok()?;
        if method == "HEAD" {
            return Some(());
        }
        let begun = if path.contains("/blobs/") { length.min(100) } else { length };
        client.write_all(&body[..begun]).ok()?;
        if begun < length {
            self.gate.lock().expect("nobody panics here").asked = true;
            self.changed.notify_all();
            self.wait_for(|gate| gate.open);
        }
        client.write_all(&body[begun..]).ok()
    }
}

/// The configuration and the one layer of an image that differs from the test image by a label.
fn copy_of_the_test_image(label: &str, directory: &Path) -> (Vec<u8>, Vec<u8>) {
    let (archive, saved) = (directory.join("image.tar"), directory.join("image"));
    let archive = archive.to_str().expect("it is ours");
    engine::docker(&["save", "-o", archive, "nanny-test/busybox:1"]);
    fs::create_dir(&saved).expect("it is new");
    let unpacked = Command::new("tar").args(["-xf", archive, "-C"]).arg(&saved).status();
    assert!(unpacked.expect("there is a tar").success());
    let read =
        |name: &Value| fs::read(saved.join(name.as_str().expect("a name"))).expect("it is there");
    let parts: Value = serde_json::from_slice(&read(&json!("manifest.json"))).expect("JSON");
    let mut config: Value = serde_json::from_slice(&read(&parts[0]["Config"])).expect("JSON");
    config["config"]["Labels"] = json!({"dev.nanny.e2e": label});
    (config.to_string().into_bytes(), read(&parts[0]["Layers"][0]))
}

fn digest(blob: &[u8]) -> String {
    let digest = Sha256::digest(blob);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIMIT: Duration = Duration::from_secs(90);
