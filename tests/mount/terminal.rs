//! What the commands show on a terminal while they work, and that none of it stays in their output.

use ckptfs_tests::{build, tool};

use super::{ends_well, mounted_worker};

/// The width of the terminal in columns.
const WIDTH: usize = 80;

/// What a command writes to a terminal, recorded by script(1).
fn typed(line: &str) -> String {
    tool::run(&["script", "-qec", &format!("stty rows 24 cols {WIDTH}; {line}"), "/dev/null"]).success().text()
}

/// The lines on the terminal at the end. Only the width, carriage returns, erased lines and cursor
/// moves are interpreted.
fn screen(seen: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0_usize, 0);
    let mut chars = seen.chars();
    while let Some(char) = chars.next() {
        match char {
            '\r' => column = 0,
            '\n' => (row, column) = (row + 1, 0),
            '\x1b' => {
                // ESC [ COUNT LETTER
                let mut count = String::new();
                let letter = chars.by_ref().skip(1).find(|char| {
                    count.extend(char.is_ascii_digit().then_some(*char));
                    char.is_ascii_alphabetic()
                });
                let count = count.parse().unwrap_or(1);
                match letter {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row += count,
                    Some('K') => lines[row].clear(),
                    _ => {}
                }
            }
            char => {
                if column == WIDTH {
                    (row, column) = (row + 1, 0);
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = char;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

fn shows_progress(seen: &str) {
    assert!(seen.contains("left") && seen.contains("/s"), "{}", &seen[..seen.len().min(2000)]);
}

#[test]
fn a_terminal_sees_progress() {
    let (victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let (ckptfs, snap) = (build::ckptfs(), snap.display().to_string());
    // Many files in a row, because the bar is drawn only a few times a second.
    shows_progress(&typed(&format!("{} verify {}", ckptfs.display(), vec![snap.as_str(); 200].join(" "))));
    let line = format!("for n in $(seq 20); do {} core {snap} > {snap}.core; done", ckptfs.display());
    let seen = typed(&line);
    shows_progress(&seen);
    assert_eq!(screen(&seen).concat(), "");
    ends_well(victim);
}

#[test]
fn the_bar_leaves_nothing_in_the_output() {
    let (victim, mount) = mounted_worker();
    let snap = mount.snap("snap");
    mount.dump(victim.pid(), &snap);
    let ckptfs = build::ckptfs();
    let (ckptfs, snap) = (ckptfs.display(), snap.display());
    // The input is slow enough for a bar, and larger than a buffer.
    let slow = format!("for n in $(seq 12); do cat {snap}; sleep 0.1; done | {ckptfs}");
    for form in ["--json", "--records", ""] {
        let seen = typed(&format!("{slow} inspect {form} -"));
        assert!(seen.contains("/s"), "no bar: {seen}");
        let script = r#"for n in $(seq 12); do cat "$1"; done | "$2" inspect $3 -"#;
        let args = [snap.to_string(), ckptfs.to_string(), form.to_owned()];
        let plain = tool::shell(script, &args).success().text();
        let (shown, wanted) = (screen(&seen), screen(&plain));
        assert!(wanted.len() > 12, "{plain}");
        let differs = shown.iter().zip(&wanted).find(|(shown, wanted)| shown != wanted);
        assert!(differs.is_none() && shown.len() == wanted.len(), "{form}: {differs:?}");
    }
    let slow = format!("(cat {snap}; sleep 0.2) | {ckptfs} diff");
    for form in ["--json", ""] {
        let seen = typed(&format!("{slow} {form} - {snap}"));
        let plain = tool::shell(r#""$1" diff $2 "$3" "$3""#, &[ckptfs.to_string(), form.to_owned(), snap.to_string()]);
        assert_eq!(screen(&seen), screen(&plain.success().text()), "{form}");
    }
    ends_well(victim);
}

#[test]
fn restored_pids_are_printed_beside_no_bar() {
    let (mut victim, mount) = mounted_worker();
    let (snap, twice) = (mount.snap("snap"), mount.snap("twice"));
    mount.dump(victim.pid(), &snap);
    std::fs::write(&twice, std::fs::read(&snap).unwrap().repeat(2)).unwrap();
    victim.kill();
    let seen = typed(&format!("{} restore {} || :", build::ckptfs().display(), twice.display()));
    assert!(seen.contains("/s"), "no bar: {seen}");
    let shown = screen(&seen);
    assert_eq!(shown[0], format!("{}: pid {} lives again (1 processes)", twice.display(), victim.pid()));
    assert!(shown[1].starts_with("ckptfs: ") && shown[1..].concat().contains("is taken"), "{shown:?}");
    assert!(victim.is_here());
    ends_well(victim);
}
