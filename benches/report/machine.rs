//! Where and on what it was measured.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::http;

/// The beginning of the report.
pub(crate) fn heading() -> String {
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    let changed = if said("git", &["status", "--porcelain"]).is_empty() { "" } else { ", changed" };
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "# Benchmarks\n\n\
         Made by `scripts/bench`. All numbers are of one run, in which what is compared took turns; \
         quote ratios, and with them machine and commit.\n\n\
         - {} UTC, commit {commit}{changed}\n\
         - {} x {}, Linux {}, load {load} at the beginning\n\
         - Docker Engine {}, {}\n\n",
        said("date", &["-u", "+%F %R"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        cpu(),
        said("uname", &["-r"]),
        engine_version().unwrap_or_else(|| "none".to_owned()),
        said("docker", &["compose", "version"]),
    )
}

pub(crate) fn engine_answers() -> bool {
    engine_version().is_some()
}

fn engine_version() -> Option<String> {
    let answer: Value = http::engine("GET", "/version", "").ok()?.json();
    answer["Version"].as_str().map(str::to_owned)
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.to_owned())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}
