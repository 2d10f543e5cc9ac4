//! The processes that a mount shows: those of a tree, of a cgroup, or of the whole pid namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use ckptfs_tests::{Cgroup, Mounted, build, tool};

use crate::{ends_well, pids, worker};

#[test]
fn a_cgroup() {
    let cgroup = Cgroup::new("whole");
    let (mut one, two, outside) = (worker(), worker(), worker());
    for victim in [&one, &two] {
        fs::write(cgroup.path().join("cgroup.procs"), victim.pid().to_string()).unwrap();
    }
    let mount = Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str()]);
    let mut members = vec![one.pid(), two.pid()];
    members.sort_unstable();
    let mut seen = pids(&mount);
    seen.sort_unstable();
    assert_eq!(seen, members);
    let snap = mount.snap("snap");
    mount.dump(one.pid(), &snap);
    assert_eq!(fs::read_to_string(cgroup.path().join("cgroup.freeze")).unwrap().trim(), "0");
    one.kill();
    mount.restore(&snap);
    assert!(pids(&mount).contains(&one.pid()), "the restored process is in the container again");
    ends_well(one);
    ends_well(two);
    ends_well(outside);
}

/// A mount in a pid namespace of its own shows everything in the namespace except kernel threads
/// and the daemon. The pids are those of the namespace.
#[test]
fn the_pid_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        (
            for fd in /proc/$BASHPID/fd/*; do
                fd=${fd##*/}
                [ $fd -le 2 ] || eval "exec $fd>&-"
            done
            exec setsid sleep 1000 > /dev/null 2>&1 < /dev/null
        ) &
        sleeper=$!
        "$1" mount "$2"
        listed=$(ls "$2" | grep -x '[0-9]*' | sort -n | tr '\n' ' ')
        until [ "$(cat /proc/$sleeper/comm)" = sleep ]; do :; done
        daemon=$(jq .daemon "$2/status")
        head -c 4096 "$2/$sleeper/image" | wc -c
        umount "$2"
        echo "$listed"
        case " $listed" in *" 1 "*) echo one;; esac
        case " $listed" in *" $sleeper "*) echo sleeper;; esac
        case " $listed" in *" $daemon "*) echo daemon;; esac
        kill $sleeper
    "#;
    let argv = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-euc", script, "test"];
    let mut argv: Vec<PathBuf> = argv.iter().map(PathBuf::from).collect();
    argv.extend([build::ckptfs(), dir.path().to_owned()]);
    let output = tool::run(&argv).success();
    let lines: Vec<String> = output.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4, "{}{}", output.text(), output.stderr);
    assert_eq!((lines[0].as_str(), lines[2].as_str(), lines[3].as_str()), ("4096", "one", "sleeper"));
}

/// A process that joins the tree appears in the mount. One that leaves the tree disappears.
#[test]
fn the_listing_follows_the_tree() {
    let mut shell = std::process::Command::new("bash");
    // The shell waits for its standard input between the steps. It is only listed, never dumped.
    shell.args(["-c", "read -r; sleep 1000 & echo $!; read -r; kill $!; wait $!; echo gone; read -r"]);
    let mut shell = shell.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let root = i32::try_from(shell.id()).unwrap();
    let (mut to, from) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    let mut said = std::io::BufRead::lines(std::io::BufReader::new(from));
    let mut next = || {
        std::io::Write::write_all(&mut to, b"\n").unwrap();
        said.next().map(Result::unwrap).unwrap_or_default()
    };
    let mount = Mounted::over(root);
    assert_eq!(pids(&mount), [root]);
    let child: i32 = next().parse().unwrap();
    let mut both = pids(&mount);
    both.sort_unstable();
    assert_eq!(both, [root, child]);
    assert_eq!(next(), "gone");
    assert_eq!(pids(&mount), [root]);
    next();
    shell.wait().unwrap();
    assert!(pids(&mount).is_empty());
}

/// Two daemons that dump one process at the same time take turns.
#[test]
fn two_mounts_dump_one_process() {
    let victim = crate::worker();
    let mounts = [Mounted::over(victim.pid()), Mounted::over(victim.pid())];
    let script = r#"for n in $(seq 60); do cat "$1" > "$2" && "$3" verify "$2" > /dev/null; done"#;
    let readers = mounts.each_ref().map(|mount| {
        let mut reader = tool::command(&["bash", "-ec", script, "test"]);
        let reader = reader.arg(mount.of(victim.pid(), "image")).arg(mount.snap("snap")).arg(build::ckptfs());
        reader.spawn().unwrap()
    });
    for mut reader in readers {
        assert!(reader.wait().unwrap().success());
    }
    ends_well(victim);
}
