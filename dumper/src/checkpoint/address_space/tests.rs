#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;

use crate::checkpoint::address_space::*;
use crate::checkpoint::fake::{FakeCheckpoint, byte_at};
use crate::checkpoint::view::View;

const START: u64 = 0x10_0000;
const END: u64 = 0x20_0000;

type Range = (u64, u64);

fn bytes(view: &View, pid: Pid, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    view.read_memory(pid, address, &mut bytes).unwrap();
    bytes
}

fn stored(source: usize, address: u64, len: usize) -> Vec<u8> {
    (address..).take(len).map(|at| byte_at(source, at)).collect()
}

#[test]
fn what_is_inherited_is_found_with_the_maker_of_the_maker() {
    let mut fake = FakeCheckpoint::of(&[(7, 0), (8, 7), (9, 8)]);
    let first = fake.area(7, (START, END), "ANON", &[(START, 4)], &[]);
    let second = fake.area(8, (START, END), "ANON", &[(START + 0x1000, 1)], &[(START, 1), (START + 0x2000, 2)]);
    let third = fake.area(9, (START, END), "ANON", &[(START + 0x5000, 1)], &[(START, 4)]);
    let view = fake.view();
    view.memory().unwrap().check().unwrap();
    // One read over the whole mapping, starting inside a page.
    let found = bytes(&view, 9, START + 5, 0x7000 - 5);
    let expected = [
        stored(first, START + 5, 0x1000 - 5),
        stored(second, START + 0x1000, 0x1000),
        stored(first, START + 0x2000, 0x2000),
        vec![0; 0x1000],
        stored(third, START + 0x5000, 0x1000),
        vec![0; 0x1000],
    ];
    assert!(found == expected.concat());
    let runs = |pid| -> Vec<_> {
        let area = view.memory().unwrap().area(pid, START).unwrap();
        area.runs.runs().map(|run| (run.address - START, run.pages)).collect()
    };
    assert_eq!((runs(7), runs(8), runs(9)), (vec![(0, 4)], vec![(0, 4)], vec![(0, 4), (0x5000, 1)]));
    let seek = |offset, data| view.seek(9, START, offset, data).unwrap();
    assert_eq!((seek(0, false), seek(0x4000, true), seek(0x6000, true)), (Some(0x4000), Some(0x5000), None));
    assert_eq!((seek(END - START, false), seek(0x6001, false)), (None, Some(0x6001)));
    assert!(view.maps(9).unwrap().starts_with(b"100000-200000 rw-p 00000000 00:00 0                 20480 \n"));
}

#[test]
fn a_maker_without_what_is_inherited_is_damage() {
    for makers in [vec![(START, 1)], vec![]] {
        let mut fake = FakeCheckpoint::of(&[(7, 0), (8, 7)]);
        fake.area(7, (START, END), "ANON", &makers, &[]);
        fake.area(8, (START, END), "ANON", &[], &[(START, 2)]);
        let view = fake.view();
        let told = view.memory().unwrap().check().unwrap_err();
        assert_eq!(told.kind(), Kind::Damaged);
        assert!(told.to_string().contains("lacks pages inherited from it"), "{told}");
        assert!(view.read_memory(8, START + 0x1000, &mut [0]).is_err(), "never zeros in its place");
    }
}

#[test]
fn the_contents_of_files_without_a_name_show_where_they_are_mapped() {
    let mut fake = FakeCheckpoint::of(&[(7, 0)]);
    let object = fake.pages(b"OBJT", json!({"id": 2, "kind": "memfd"}), Vec::new(), &[(0x1000, 2), (0xff_000, 9)]);
    fake.record(b"FILE", json!({"id": 5, "kind": "memfd", "object": 2}));
    let own = fake.area(7, (START, END), "FILE", &[(START + 0x2000, 1)], &[]);
    fake.area(7, (END, END + 0x2000), "FILE_SHM", &[], &[]);
    let view = fake.view();
    let expected = [vec![0; 0x1000], stored(object, 0x1000, 0x1000), stored(own, START + 0x2000, 0x1000), vec![0; 10]];
    assert!(bytes(&view, 7, START, 0x3000 + 10) == expected.concat(), "a private page hides that of the file");
    assert!(bytes(&view, 7, END - 0x1000, 0x1000) == stored(object, 0xff_000, 0x1000), "and no further than mapped");
    assert!(bytes(&view, 7, END + 0x1000, 8) == stored(object, 0x1000, 8));
    assert_eq!(view.vmas(7).unwrap().iter().map(|vma| vma.stored).collect::<Vec<_>>(), [0x3000, 0x1000]);
}

#[test]
fn impossible_spaces_are_damage() {
    let refusal = |areas: &[(Pid, Range, Range)]| {
        let mut fake = FakeCheckpoint::of(&[(7, 0)]);
        for (pid, range, pages) in areas {
            fake.area(*pid, *range, "ANON", &[*pages], &[]);
        }
        fake.view().memory().map(drop).unwrap_err().to_string()
    };
    assert!(refusal(&[(8, (START, END), (START, 1))]).contains("pid 8, which is not there"));
    assert!(refusal(&[(7, (START, END), (START, 1)), (7, (START, END), (START, 1))]).contains("overlaps"));
    assert!(refusal(&[(7, (START, END), (END - 0x1000, 2))]).contains("pages outside"));
    let view = FakeCheckpoint::of(&[(7, 0)]).view();
    assert_eq!(view.maps(9).unwrap_err().kind(), Kind::NoProcess);
    assert_eq!(view.read(7, START, 0, &mut [0]).unwrap_err().kind(), Kind::NotFound);
}
