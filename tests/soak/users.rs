//! Hostile users: four scripts of an ordinary user try at once whatever the mount offers, while a
//! process of that user turns into one of root and back.

use std::fs;

use ckptfs_tests::nobody::{as_nobody, turning};
use ckptfs_tests::worker::{ends_well, goes_on, worker};
use ckptfs_tests::{Cgroup, Mounted, process};

use crate::daemon::Usage;
use crate::rounds;

/// How many scripts run at once.
const SCRIPTS: u32 = 4;

/// What the program of root has in its memory only.
const SECRET: &[u8] = b"the secret of root's process";

/// A script that makes so many attempts, chosen by `$RANDOM`. What it reads is added to `loot`.
/// `root` is a process of root.
fn script(number: u32, turns: u32, root: i32) -> String {
    format!(
        r#"
        RANDOM={number}; exec 2> /dev/null; set +e
        files=(image core info.json maps check kill freeze vmas/0 snapshots/last/image)
        controls=(kill freeze)
        # Some of it may be read: while the process is the user's own.
        for ((n = 0; n < 200; n++)); do timeout 20 cat "$1/$2/info.json" >> "$3/loot" && break; sleep 0.02; done
        for ((turn = 0; turn < {turns}; turn++)); do
            pids=("$2" {root}); pid=${{pids[RANDOM % 2]}}
            file=$1/$pid/${{files[RANDOM % ${{#files[@]}}]}}
            control=$1/{root}/${{controls[RANDOM % 2]}}
            name=of-$$-$turn
            case $((RANDOM % 9)) in
                0 | 1) timeout 20 cat "$file" >> "$3/loot" ;;
                2) timeout 20 unshare -U -r cat "$file" >> "$3/loot" ;;
                3) timeout 20 unshare -U -r bash -c 'exec 3> "$1"; sleep 0.01; echo 1 >&3' - "$control" ;;
                4) mkdir "$1/{root}/snapshots/$name" "$1/snapshots/$name" && cat "$1/snapshots/$name/image" >> "$3/loot" ;;
                5) mkdir "$1/$2/snapshots/$name" && timeout 20 cat "$1/$2/snapshots/$name/image" >> "$3/loot"
                   rmdir "$1/$2/snapshots/$name" ;;
                6) head -c $((RANDOM * 8)) /dev/urandom > "$1/restore" ;;
                7) (for n in {{1..40}}; do exec {{held}}< "$1/$2/image"; done; sleep 0.05) ;;
                8) timeout 20 find "$1" -ls > "$3/list-$$" ;;
            esac
        done
        exit 0"#
    )
}

#[test]
fn a_user_gets_nothing_of_others_and_harms_nobody() {
    let cgroup = Cgroup::new("users");
    let (mut of_user, of_root) = (turning("often"), worker());
    [&of_user, &of_root].iter().for_each(|victim| cgroup.add(victim.pid()));
    let mount = Mounted::with(&["--cgroup".as_ref(), cgroup.path().as_os_str()]);
    mount.dump(of_root.pid(), &mount.snap("snap"));
    let before = Usage::of(&mount);
    of_user.go(1);
    let turns = rounds(12);
    // A command has a time limit, so a long run has many short scripts.
    for round in 0..turns.div_ceil(12) {
        std::thread::scope(|scope| {
            for number in 0..SCRIPTS {
                let script = script(1 + round * SCRIPTS + number, 12, of_root.pid());
                let (mount, of_user) = (&mount, &of_user);
                scope.spawn(move || as_nobody(&script, mount, of_user).success());
            }
        });
        let loot = fs::read(of_user.dir().join("loot")).unwrap_or_default();
        assert!(!loot.is_empty(), "the user may read its own process");
        assert!(!loot.windows(SECRET.len()).any(|window| window == SECRET), "read in {} bytes", loot.len());
        fs::remove_file(of_user.dir().join("loot")).unwrap();
        assert!(process::is_alive(of_user.pid()) && process::is_alive(mount.daemon()));
        assert_eq!(fs::read_to_string(mount.of(of_root.pid(), "freeze")).unwrap(), "0\n");
    }
    // A snapshot stays that the user could not remove, because its process was root's then.
    for entry in fs::read_dir(mount.of(of_user.pid(), "snapshots")).unwrap().flatten() {
        let _the_newest_has_two_names = fs::remove_dir(entry.path());
    }
    for snapshots in [mount.of(of_root.pid(), "snapshots"), mount.file("snapshots")] {
        assert_eq!(fs::read_dir(&snapshots).unwrap().count(), 0, "{}", snapshots.display());
    }
    of_user.kill();
    goes_on(&of_root);
    let after = Usage::settled(&mount, before.and_some());
    println!("{} attempts of {SCRIPTS} scripts: no secret read; {before:?}, then {after:?}", turns * SCRIPTS);
    ends_well(of_root);
}
