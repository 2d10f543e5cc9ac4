//! README.md says which programs work and which are refused. Those that work have a test in
//! `tests/real`. The others are started here, and must be refused with the sentence in the table.

use std::collections::BTreeSet;

use ckptfs_tests::{Mounted, Spec, Victim, tool, wait};

use super::{commands, quoted, read, rows, section};

fn table() -> Vec<[String; 3]> {
    rows(&section("README.md", "Programs"))
}

/// The names of the tests in `tests/real`.
fn shown() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in ["tests/real/main.rs", "tests/real/terminal.rs", "tests/real/trees.rs"] {
        let text = read(path);
        for line in text.lines() {
            let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            for head in ["program!(", "endless!(", "job!("] {
                found.extend(
                    line.strip_prefix(head).and_then(|rest| rest.split_once(',')).map(|(name, _)| name.to_owned()),
                );
            }
            let test = line.strip_prefix("fn ").and_then(|rest| rest.split_once("() {")).map(|(name, _)| name);
            found.extend(
                test.filter(is_name).filter(|name| text.contains(&format!("#[test]\nfn {name}()"))).map(str::to_owned),
            );
        }
    }
    found
}

#[test]
fn what_is_said_to_work_is_what_is_shown() {
    let promised: BTreeSet<String> =
        table().iter().filter(|[_, verdict, _]| verdict == "works").flat_map(|[_, _, names]| quoted(names)).collect();
    assert!(promised.len() > 10, "the table is not found: {promised:?}");
    assert_eq!(promised, shown());
}

fn shell(script: &str) -> Spec {
    Spec::command("sh").arg("-c").arg(script)
}

/// The program of the table with this name.
fn program(name: &str) -> Spec {
    match name {
        // Debian has the server under this name in a package that does not start it.
        "redis-server" => Spec::command("bash")
            .arg("-c")
            .arg("exec -a redis-server redis-check-rdb --port 0 --unixsocket redis.socket"),
        "pidfd" => shell("exec python3 -c 'import os, time; os.pidfd_open(os.getpid()); time.sleep(3600)'"),
        "python3" => Spec::command("python3").arg("-c").arg("import asyncio; asyncio.run(asyncio.sleep(3600))"),
        "http.server" => Spec::command("python3").arg("-m").arg("http.server").arg("--bind").arg("127.0.0.1").arg("0"),
        "gpg-agent" => {
            shell("mkdir -m 700 home && exec gpg-agent --homedir \"$PWD/home\" --daemon --no-detach sleep 3600")
        }
        "script" => Spec::command("script").arg("-qc").arg("sleep 3600").arg("/dev/null"),
        "unshare" => Spec::command("unshare").arg("--net").arg("sleep").arg("3600"),
        "strace" => Spec::command("strace").arg("-f").arg("-o").arg("/dev/null").arg("sleep").arg("3600"),
        _ => panic!("README.md names {name}, which no test starts"),
    }
}

/// Starts the program, and waits until it is refused and a line of the log contains all these
/// parts.
fn refused(name: &str, parts: &[&str]) -> (Victim, Mounted) {
    let victim = Victim::start(&program(name));
    let mount = Mounted::over(victim.pid());
    // It can be dumped until it opens the descriptor that is refused.
    wait::until(&format!("{name} is refused: {parts:?}"), || {
        let read = tool::shell("cat \"$1\" > /dev/null", &[mount.of(victim.pid(), "image")]);
        let is_it = |line: &str| parts.iter().all(|part| line.contains(part));
        read.code != 0 && mount.log().lines().any(is_it)
    });
    (victim, mount)
}

#[test]
fn what_is_said_to_be_refused_is_refused() {
    let table = table();
    let rows: Vec<_> = table.iter().filter(|[_, verdict, _]| verdict == "refused").collect();
    assert!(rows.len() > 5, "the table is not found: {rows:?}");
    assert!(table.iter().all(|[_, verdict, _]| ["", "works", "refused"].contains(&verdict.as_str())), "{table:?}");
    std::thread::scope(|scope| {
        for [program, _, sentence] in rows {
            let (names, sentences) = (quoted(program), quoted(sentence));
            scope.spawn(move || {
                let parts: Vec<&str> = sentences[0].split('…').map(str::trim).collect();
                drop(refused(&names[0], &parts));
            });
        }
    });
}

/// README.md shows a refusal exactly as a user sees it.
#[test]
fn what_a_refusal_looks_like() {
    let (victim, mount) = refused("pidfd", &["a pidfd"]);
    let shown = commands("README.md", "When it is refused");
    let here = |line: &str| {
        line.replace("1234", &victim.pid().to_string()).replace("/ckpt/", &format!("{}/", mount.path().display()))
    };
    let lines: Vec<String> = shown.lines().map(here).collect();
    let [read, failure, ask, sentence] = &lines[..] else { panic!("{lines:?}") };
    let command = |line: &str| line.strip_prefix("$ ").expect("a command").replace("> snap", "> /dev/null");
    tool::shell(&command(read), &[""; 0]).fails_with(failure);
    assert_eq!(tool::shell(&command(ask), &[""; 0]).success().text().trim_end(), sentence);
    // The manual uses the same command.
    let section = section("docs/mount.md", "Where the reason stands");
    let line = section.lines().find(|line| line.starts_with("jq ")).expect("the command");
    assert_eq!(tool::shell(&here(line), &[""; 0]).success().text().trim_end(), sentence);
}
