//! What rsync(1) sends of a pinned snapshot when it already has another one of the same process.

use std::fs;

use ckptfs_tests::{tool, wait};

use crate::{count, ends_well, mounted_worker};

use super::pin;

/// rsync sends the pages that have changed, not the whole image: unchanged pages keep their
/// offsets, and the copy is complete. `--modify-window=-1` makes rsync compare nanoseconds: by
/// default it takes files with the same size and the same second for equal.
#[test]
fn the_changed_pages_are_sent() {
    let (mut victim, mount) = mounted_worker();
    let first = pin(&mount, &victim, "first");
    let then = count(&victim);
    wait::until("the worker goes on", || count(&victim) > then + 5);
    let second = pin(&mount, &victim, "second");
    let script = r#"
        rsync -a "$1/image" "$3"
        rsync -a --modify-window=-1 --no-whole-file --inplace --stats "$2/image" "$3" | tr -d , > "$3.stats"
        cmp "$2/image" "$3"
        cmp -s "$1/image" "$3" && exit 1
        sed -n 's/^Literal data: \([0-9]*\) bytes$/\1/p' "$3.stats"
    "#;
    let copy = mount.snap("copy");
    let output = tool::shell(script, &[first.clone(), second.clone(), copy.clone()]).success();
    assert_eq!(output.stderr, "");
    let (sent, size): (u64, u64) = (output.text().trim().parse().unwrap(), fs::metadata(&copy).unwrap().len());
    assert!(sent > 0 && sent * 10 < size, "{sent} of {size} bytes were sent");
    [first, second].iter().for_each(|folder| fs::remove_dir(folder).unwrap());
    victim.kill();
    mount.restore(&copy);
    ends_well(victim);
}
