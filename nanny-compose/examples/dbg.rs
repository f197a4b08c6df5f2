use std::time::*;
use nanny_compose::*;
struct F(String);
impl Files for F {
    fn read(&self, p: &std::path::Path, _l: u64) -> std::io::Result<Vec<u8>> { if p.ends_with("compose.yaml") {Ok(self.0.clone().into_bytes())} else if p.ends_with("a.env") {Ok(b"A=1\n".to_vec())} else {Err(std::io::ErrorKind::NotFound.into())} }
    fn exists(&self, _p: &std::path::Path) -> bool { false }
}
fn rss() -> String { std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmHWM")).unwrap().to_string() }
fn run(name: &str, text: String) {
    let t = Instant::now();
    let len = text.len();
    let r = load(&Request::new("/x/compose.yaml"), &|n| (n=="BIG").then(|| "x".repeat(100_000)), &F(text));
    let s = match &r { Ok(l) => format!("ok {} warnings", l.warnings.len()), Err(p) => format!("{} problems: {}", p.problems.len(), p.problems[0].to_string().chars().take(150).collect::<String>()) };
    println!("{name}: {len} bytes, {:?}, {} {s}", t.elapsed(), rss());
}
fn main() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..9 { let names = vec![format!("*a{}", level - 1); 9].join(","); bomb.push_str(&format!("a{level}: &a{level} [{names}]\n")); }
    run("bomb", bomb);
    run("brackets", "[".repeat(100_000));
    run("braces", "{a: ".repeat(100_000));
    run("dashes", "- ".repeat(100_000));
    run("nested keys", (0..100000).map(|i| format!("{}a:\n", " ".repeat(i % 3000))).take(400).collect());
    let mut big = String::from("services:\n");
    for i in 0..4000 { big.push_str(&format!("  s{i}:\n    image: nginx:${{TAG:-1}}\n    environment:\n      - A=1\n      - B=$C\n    ports: ['{}:80']\n    volumes: ['./a:/b', './c:/d:ro']\n    depends_on: [s{}]\n    restart: always\n    healthcheck: {{test: [CMD, a], interval: 5s}}\n", 1000+i, (i+1).min(3999))); }
    let big = big.replace("depends_on: [s3999]\n    restart: always\n    healthcheck: {test: [CMD, a], interval: 5s}\n  s3999", "restart: always\n  s3999");
    run("big", big[..].to_string());
    run("unknown keys", format!("services:\n  a:\n    image: x\n{}", (0..50000).map(|i| format!("    k{i}: 1\n")).collect::<String>()));
    run("ports", format!("services:\n  a:\n    image: x\n    ports:\n{}", "    - 1-65535\n".repeat(50000)));
    run("ports2", format!("services:\n  a:\n    image: x\n    ports:\n{}", (0..50000).map(|i| format!("    - 127.0.{}.{}:1-65535:1-65535\n", i/256, i%256)).take(30000).collect::<String>()));
    run("volumes", format!("services:\n  a:\n    image: x\n    volumes:\n{}", (0..60000).map(|i| format!("    - /a{i}\n")).collect::<String>()));
    run("cap_add", format!("services:\n  a:\n    image: x\n    cap_add:\n{}", (0..60000).map(|i| format!("    - a{i}\n")).collect::<String>()));
    run("env_file", format!("services:\n  a:\n    image: x\n    env_file:\n{}", (0..60000).map(|_| "    - a.env\n".to_string()).collect::<String>()));
    run("bigvars", format!("x-a:\n{}services: {{a: {{image: x}}}}\n", "  - $BIG\n".repeat(90000)));
    run("deflts", format!("x-a:\n{}services: {{a: {{image: x}}}}\n", "  - ${A:-${A:-${A:-${A:-${A:-x}}}}}\n".repeat(25000)));
    run("deep long keys", format!("services:\n  a:\n    image: x\n    x-a:\n{}", (0..55).map(|i| format!("{}{}:\n", " ".repeat(6+i), "k".repeat(900))).collect::<String>() + &format!("{}- $\n", " ".repeat(70)).repeat(10000)));
    run("dollars", format!("x: \"{}\"\nservices: {{a: {{image: x}}}}\n", "${A:-".repeat(100000)));
    run("quotes", format!("x: '{}", "a".repeat(1000000)));
    run("anchors", (0..40000).map(|i| format!("a{i}: &a{i} x\n")).collect());
    run("cycle", format!("services:\n{}", (0..15000).map(|i| format!("  s{i}: {{image: x, depends_on: [s{}]}}\n", (i+1)%15000)).collect::<String>()));
    run("comments", "# x\n".repeat(250000));
    run("merges", format!("b: &b {{{}}}\n{}", (0..100).map(|i| format!("k{i}: 1, ")).collect::<String>(), (0..30000).map(|i| format!("c{i}: {{<<: *b}}\n")).collect::<String>()));
}
