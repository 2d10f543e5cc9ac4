//! Real programs. Each is dumped twenty times while it runs, and must not be disturbed: it checks
//! its own invariants and, at the end, everything that it has computed and written. Then it is
//! killed and restored, continues, and is killed and restored again.
//!
//! The programs use the protocol of the victims and write their progress to the file `count`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod terminal;
mod trees;

use std::fs;

use ckptfs_tests::{Event, Link, Mounted, NOBODY, Spec, Victim, build, process, tool, wait};

/// How far the program got.
fn count(victim: &Victim) -> u64 {
    fs::read_to_string(victim.dir().join("count")).unwrap_or_default().trim().parse().unwrap_or_default()
}

/// Asserts that the program makes progress.
fn gets_on(victim: &Victim, doing: &str) {
    let before = count(victim);
    wait::until(&format!("the program gets on after {doing}"), || {
        assert!(!victim.output().contains("FAIL"), "{}", victim.output());
        // The file keeps what the program wrote after the checkpoint. The restored program may be
        // behind that for a moment.
        count(victim) > before + 3
    });
}

fn runs_to_its_end(victim: Victim) {
    gets_on(&victim, "all");
    victim.go(1);
    assert_eq!(victim.event(1), Event::Ok);
    victim.finish();
}

fn freeze(spec: &Spec) {
    // Built before the program starts: some programs repeat all their work at the end.
    let _built = build::ckptfs();
    let mut victim = Victim::ready(spec);
    let mount = Mounted::over(victim.pid());
    let snap = mount.snap("snap");
    for turn in 0..20 {
        mount.dump(victim.pid(), &snap);
        let _whole = tool::run(&[build::ckptfs(), "verify".into(), snap.clone()]).success();
        gets_on(&victim, &format!("dump {turn}"));
    }
    wait::until("no snapshot is left", || process::children(victim.pid()).is_empty());
    for turn in 0..2 {
        mount.dump(victim.pid(), &snap);
        victim.kill();
        mount.restore(&snap);
        assert!(victim.is_here());
        gets_on(&victim, &format!("restore {turn}"));
    }
    runs_to_its_end(victim);
}

/// The two tests of a program: untouched, and dumped and restored.
macro_rules! program {
    ($name:ident, $spec:expr) => {
        mod $name {
            use super::*;
            #[test]
            fn untouched() {
                runs_to_its_end(Victim::ready(&$spec));
            }
            #[test]
            fn dumped_twenty_times_and_restored_twice() {
                freeze(&$spec);
            }
        }
    };
}

/// A script of this directory, run by its interpreter.
fn script(interpreter: &[&str], name: &str) -> Spec {
    let file = build::package().join("real").join(name);
    let spec = interpreter[1..].iter().fold(Spec::command(interpreter[0]), |spec, arg| spec.arg(arg));
    spec.file(file).arg(name)
}

/// The shell compiles it and then becomes the JVM. The source launcher and NIO's channels would
/// keep a socket open. The counters that the JVM shares with jstat(1) are in a mapped file, which
/// only the mapping locks.
fn java() -> Spec {
    let script = "javac Work.java && exec java -Xmx128m -cp . Work";
    Spec::command("sh").arg("-c").arg(script).file(build::package().join("real/Work.java"))
}

program!(python, script(&["python3"], "work.py"));
program!(python_of_nobody, script(&["python3"], "work.py").user(NOBODY));
program!(perl, script(&["perl"], "work.pl"));
program!(node, script(&["node"], "work.js"));
program!(java, java());
program!(dash, script(&["dash"], "work.sh"));
program!(busybox, script(&["busybox", "sh"], "work.sh"));
program!(c_dynamic, Spec::c("worker"));
program!(c_static, Spec::c("worker").link(Link::Static));
program!(c_static_pie, Spec::c("worker").link(Link::StaticPie));
program!(c_of_nobody, Spec::c("worker").user(NOBODY));
