//! `status`, `restore` and lists of snapshots show a user what is about its own processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ckptfs_tests::{Cgroup, Mounted, NOBODY, Spec, Victim, build, process, tool, wait};
use serde_json::Value;

use crate::{as_nobody, ends_well, worker};

/// A worker of root and one of `nobody` in a cgroup that is mounted. Each was dumped and pinned,
/// and a dump of each has failed.
struct Both {
    of_root: Victim,
    of_nobody: Victim,
    mount: Mounted,
    _cgroup: Cgroup,
}

fn both(name: &str) -> Both {
    let cgroup = Cgroup::new(name);
    let (of_root, of_nobody) = (worker(), Victim::ready(&Spec::c("worker").user(NOBODY)));
    let mount = Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str()]);
    for victim in [&of_root, &of_nobody] {
        cgroup.add(victim.pid());
        mount.dump(victim.pid(), &mount.snap("snap"));
        fs::create_dir(mount.of(victim.pid(), "snapshots/pinned")).unwrap();
        mount.write(&mount.of(victim.pid(), "freeze"), "neither").fails_with("Invalid argument");
    }
    Both { of_root, of_nobody, mount, _cgroup: cgroup }
}

impl Both {
    fn end(self) {
        let Both { of_root, of_nobody, mount, .. } = self;
        for victim in [&of_root, &of_nobody] {
            fs::remove_dir(mount.of(victim.pid(), "snapshots/pinned")).unwrap();
        }
        ends_well(of_root);
        ends_well(of_nobody);
    }
}

fn keys(value: &Value) -> Vec<i32> {
    value.as_object().unwrap().keys().map(|key| key.parse().unwrap()).collect()
}

fn pids(list: &Value) -> Vec<i64> {
    let mut pids: Vec<i64> = list.as_array().unwrap().iter().map(|entry| entry["pid"].as_i64().unwrap()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[test]
fn status_shows_a_user_its_own_processes() {
    let both = both("status");
    let Both { of_root, of_nobody, mount, .. } = &both;
    let (root, own) = (of_root.pid(), of_nobody.pid());
    let mut all = vec![root, own];
    all.sort_unstable();
    let seen = as_nobody("cat \"$1/status\"", mount, of_nobody).success().text();
    let (his, roots): (Value, Value) = (serde_json::from_str(&seen).unwrap(), mount.status());
    for key in ["last_dump", "last_error"] {
        assert_eq!((keys(&his[key]), keys(&roots[key])), (vec![own], all.clone()), "{key}");
    }
    for key in ["freezes", "errors", "pinned"] {
        let all: Vec<i64> = all.iter().map(|pid| i64::from(*pid)).collect();
        assert_eq!((pids(&his[key]), pids(&roots[key])), (vec![i64::from(own)], all), "{key}");
    }
    assert_eq!(his["counters"]["dumps"], roots["counters"]["dumps"], "they tell about nobody");
    assert!(!seen.contains(&root.to_string()), "{seen}");
    let size = as_nobody("exec 3< \"$1/status\"; stat -L -c %s /dev/fd/3; cat <&3 | wc -c", mount, of_nobody);
    let sizes: Vec<String> = size.success().text().lines().map(str::to_owned).collect();
    assert_eq!(sizes[0], sizes[1]);
    both.end();
}

/// A name may tell something too.
#[test]
fn a_user_lists_the_snapshots_of_its_own_processes() {
    let both = both("listed");
    let Both { of_root, of_nobody, mount, .. } = &both;
    let list = |victim: &Victim| as_nobody("ls \"$1/$2/snapshots\"", mount, victim).success().text();
    assert_eq!((list(of_root).as_str(), list(of_nobody).as_str()), ("", "pinned\n"));
    assert_eq!(crate::names(&mount.of(of_root.pid(), "snapshots")), ["pinned"]);
    both.end();
}

#[test]
fn why_and_ps_tell_a_user_about_its_own_processes() {
    let both = both("commands");
    let Both { of_root, of_nobody, mount, .. } = &both;
    let program = of_nobody.dir().join("ckptfs");
    let _copied = tool::run(&["cp".into(), build::ckptfs(), program.clone()]).success();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let of_mount = format!("{}: ", mount.path().display());
    let of_this = format!("{of_mount}pid {} ", of_nobody.pid());
    let _told = as_nobody("\"$3/ckptfs\" why \"$2\"", mount, of_nobody).success();
    let all = as_nobody("\"$3/ckptfs\" why", mount, of_nobody).success().text();
    // The mounts of other tests are asked as well.
    let why: Vec<&str> = all.lines().filter(|line| line.starts_with(&of_mount)).collect();
    assert!(why.len() == 1 && why[0].starts_with(&of_this), "{all}");
    let script = format!("\"$3/ckptfs\" why {}", of_root.pid());
    as_nobody(&script, mount, of_nobody).fails_with("no error of pid");
    let ps = as_nobody("\"$3/ckptfs\" ps", mount, of_nobody).success().text();
    // A table begins with its mountpoint.
    let table = ps.lines().skip_while(|line| mount.path() != Path::new(line));
    let rows: Vec<&str> = table.skip(1).take_while(|line| !line.starts_with('/')).map(str::trim).collect();
    let row = |pid: i32| {
        let row = rows.iter().find(|row| row.starts_with(&format!("{pid} "))).unwrap_or_else(|| panic!("{pid}:\n{ps}"));
        row.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let (his, roots) = (row(of_nobody.pid()), row(of_root.pid()));
    assert!(his[2].contains('T') && his[4] == "yes", "{ps}");
    assert_eq!((&*roots[2], &*roots[4]), ("-", "?"), "{ps}");
    both.end();
}

/// A restored tree belongs to its user. An attempt that failed belongs to the user that made it.
#[test]
fn restore_shows_a_user_its_own_trees() {
    let (mut of_root, mut of_nobody) = (worker(), Victim::ready(&Spec::c("worker").user(NOBODY)));
    let mount = Mounted::over(of_root.pid());
    let over_nobody = Mounted::over(of_nobody.pid());
    for (victim, from) in [(&mut of_root, &mount), (&mut of_nobody, &over_nobody)] {
        let snap = mount.snap("snap");
        from.dump(victim.pid(), &snap);
        victim.kill();
        mount.restore(&snap);
    }
    let mut failed = fs::File::options().write(true).open(mount.file("restore")).unwrap();
    let _refused_perhaps_at_the_close = failed.write_all(b"no image");
    drop(failed);
    let all = || fs::read_to_string(mount.file("restore")).unwrap();
    wait::until("the attempt has ended", || all().lines().count() == 3);
    let seen = as_nobody("cat \"$1/restore\"", &mount, &of_nobody).success().text();
    let roots: Vec<Value> = seen.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(roots.len() == 1 && roots[0]["root"] == of_nobody.pid(), "{seen}");
    drop(over_nobody);
    ends_well(of_root);
    ends_well(of_nobody);
}

/// splice(2) reads through the page cache of the kernel, which is one for all that open an inode.
#[test]
fn the_page_cache_gives_no_user_what_another_has_read() {
    let both = both("cached");
    let Both { of_root, of_nobody, mount, .. } = &both;
    let script = r#"exec python3 -c '
import os, sys, time
status, dir = os.open(sys.argv[1], os.O_RDONLY), sys.argv[2]
open(dir + "/opened", "w").close()
while not os.path.exists(dir + "/spliced"): time.sleep(0.01)
r, w = os.pipe()
while os.splice(status, w, 4096): sys.stdout.write(os.read(r, 4096).decode())
' "$1/status" "$3""#;
    let dir = of_nobody.dir().to_owned();
    std::thread::scope(|scope| {
        let attack = scope.spawn(|| as_nobody(script, mount, of_nobody));
        wait::until("it is open", || dir.join("opened").exists() || attack.is_finished());
        let root = r#"
import os, sys
r, w = os.pipe()
status = os.open(sys.argv[1], os.O_RDONLY)
while os.splice(status, w, 4096): sys.stdout.write(os.read(r, 4096).decode())
"#;
        let path = mount.file("status").into_os_string().into_string().unwrap();
        let roots = tool::run(&["python3", "-c", root, &path]).success().text();
        assert!(roots.contains(&format!("\"{}\"", of_root.pid())), "{roots}");
        fs::write(dir.join("spliced"), "").unwrap();
        let seen = attack.join().unwrap().success().text();
        let his: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(keys(&his["last_dump"]), [of_nobody.pid()], "{seen}");
    });
    assert!(process::is_alive(of_root.pid()));
    both.end();
}
