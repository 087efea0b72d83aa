//! Who belongs to a tree and what it used, on a `/proc` of the test's own making.

use std::time::Duration;

use super::super::super::files::Files;
use super::super::super::fixture::{Line, Tree};
use super::super::super::roots::Roots;
use super::{Observation, ProcessSet};

struct Machine {
    tree: Tree,
    roots: Roots,
    files: Files,
    set: ProcessSet,
    seconds: u64,
}

impl Machine {
    fn new(follow_children: bool, lines: &[Line]) -> Self {
        let tree = Tree::new();
        let roots = tree.roots();
        let mut machine = Self {
            tree,
            roots,
            files: Files::default(),
            set: ProcessSet::new(follow_children),
            seconds: 0,
        };
        machine.has(lines);
        assert!(
            machine
                .set
                .add_root(100, &machine.roots, &mut machine.files)
        );
        machine
    }

    fn has(&self, lines: &[Line]) {
        for line in lines {
            let path = format!("proc/{}/stat", line.pid);
            self.tree.write(&[(&path, &line.text())]);
        }
    }

    fn loses(&self, pid: u32) {
        self.tree.remove(&format!("proc/{pid}"));
    }

    fn look(&mut self) -> Observation {
        self.seconds += 1;
        self.set.observe(
            Duration::from_secs(self.seconds),
            &self.roots,
            &mut self.files,
        )
    }
}

const fn line(pid: u32, parent: u32, own: u64, reaped: u64) -> Line {
    Line::new(pid, parent, own, reaped)
}

#[test]
fn a_child_that_was_waited_for_counts_once() {
    let mut machine = Machine::new(true, &[line(100, 1, 500, 40), line(101, 100, 50, 0)]);
    assert_eq!(machine.look().ticks, 0);
    machine.has(&[line(101, 100, 80, 0)]);
    assert_eq!(machine.look().ticks, 30);
    machine.loses(101);
    machine.has(&[line(100, 1, 501, 40 + 90)]);
    let seen = machine.look();
    assert_eq!((seen.ticks, seen.processes), (30 + 1 + 10, 1));
}

#[test]
fn a_child_that_is_waited_for_after_its_parent_was_read_counts_once() {
    let mut machine = Machine::new(true, &[line(100, 1, 500, 0), line(101, 100, 50, 0)]);
    machine.look();
    machine.loses(101);
    assert_eq!(machine.look().ticks, 0);
    machine.has(&[line(100, 1, 500, 55)]);
    assert_eq!(machine.look().ticks, 5);
}

#[test]
fn a_branch_that_ends_while_it_is_read_counts_once() {
    let lines = [
        line(100, 1, 500, 0),
        line(101, 100, 50, 0),
        line(102, 101, 30, 0),
    ];
    let mut machine = Machine::new(true, &lines);
    machine.look();
    machine.loses(102);
    machine.look();
    machine.loses(101);
    machine.has(&[line(100, 1, 500, 50 + 30 + 4)]);
    assert_eq!(machine.look().ticks, 4);
}

#[test]
fn a_child_that_nobody_waited_for_takes_nothing_from_later_ones() {
    let mut machine = Machine::new(true, &[line(100, 1, 500, 0), line(101, 100, 50, 0)]);
    machine.look();
    machine.loses(101);
    machine.look();
    machine.look();
    machine.has(&[line(100, 1, 500, 20)]);
    assert_eq!(machine.look().ticks, 20);
}

#[test]
fn children_that_came_and_went_between_two_looks_count() {
    let mut machine = Machine::new(true, &[line(100, 1, 500, 0)]);
    machine.look();
    machine.has(&[line(100, 1, 500, 7)]);
    assert_eq!(machine.look().ticks, 7);
}

#[test]
fn a_new_branch_counts_in_full_and_vanishes_without_a_trace() {
    let mut machine = Machine::new(true, &[line(1, 0, 9, 9), line(100, 1, 500, 0)]);
    machine.look();
    machine.has(&[
        line(300, 201, 5, 0),
        line(201, 100, 3, 1),
        line(202, 1, 99, 0),
    ]);
    let seen = machine.look();
    assert_eq!((seen.ticks, seen.processes, seen.threads), (9, 3, 3));
    machine.loses(300);
    machine.loses(201);
    machine.has(&[line(100, 1, 500, 3 + 1 + 5 + 2)]);
    let seen = machine.look();
    assert_eq!((seen.ticks, seen.processes), (11, 1));
}

#[test]
fn an_orphan_stays() {
    let mut machine = Machine::new(
        true,
        &[
            line(100, 1, 500, 0),
            line(101, 100, 50, 0),
            line(102, 101, 5, 0),
        ],
    );
    machine.look();
    machine.loses(101);
    machine.has(&[line(102, 1, 8, 0), line(100, 1, 500, 50)]);
    let seen = machine.look();
    assert_eq!((seen.ticks, seen.processes), (3, 2));
}

#[test]
fn a_number_used_again_is_a_stranger() {
    let mut machine = Machine::new(true, &[line(100, 1, 500, 0), line(101, 100, 50, 0)]);
    machine.look();
    let stranger = |pid| Line {
        start: 2000,
        ..line(pid, 1, 900, 0)
    };
    machine.has(&[stranger(101)]);
    assert_eq!(machine.look().processes, 1);
    machine.has(&[stranger(100)]);
    let seen = machine.look();
    assert_eq!((seen.processes, seen.roots_alive, seen.ticks), (0, 0, 0));
    assert!(machine.set.is_empty());
}

#[test]
fn an_outsiders_number_may_become_a_members() {
    let mut machine = Machine::new(true, &[line(100, 1, 500, 0), line(150, 1, 5, 0)]);
    machine.look();
    machine.has(&[Line {
        start: 3000,
        ..line(150, 100, 4, 0)
    }]);
    let found = (0..super::RECHECK_SAMPLES).any(|_| machine.look().processes == 2);
    assert!(found);
    assert_eq!(machine.look().ticks, 4);
}

#[test]
fn a_zombie_is_counted_and_is_no_process() {
    let mut machine = Machine::new(true, &[line(100, 1, 500, 0), line(101, 100, 50, 0)]);
    machine.look();
    machine.has(&[Line {
        state: 'Z',
        ..line(101, 100, 60, 0)
    }]);
    let seen = machine.look();
    assert_eq!((seen.ticks, seen.processes), (10, 1));
}

#[test]
fn a_fixed_list_does_not_count_what_others_used() {
    let mut machine = Machine::new(
        false,
        &[
            line(100, 1, 500, 0),
            line(101, 100, 50, 0),
            line(102, 100, 9, 0),
        ],
    );
    machine
        .set
        .add_root(101, &machine.roots, &mut machine.files);
    machine.look();
    machine.loses(102);
    machine.has(&[line(100, 1, 510, 30)]);
    let seen = machine.look();
    assert_eq!((seen.ticks, seen.processes), (10, 2));
    machine.loses(101);
    machine.has(&[line(100, 1, 510, 30 + 56)]);
    let seen = machine.look();
    assert_eq!((seen.ticks, seen.processes), (16, 1));
}

#[test]
fn what_left_the_list_and_exits_later_stays_counted() {
    let mut machine = Machine::new(false, &[line(100, 1, 0, 0), line(101, 100, 50, 0)]);
    machine
        .set
        .replace_roots(&[100, 101], &machine.roots, &mut machine.files);
    machine.look();
    machine.loses(101);
    machine
        .set
        .replace_roots(&[100], &machine.roots, &mut machine.files);
    machine.has(&[line(100, 1, 0, 70)]);
    assert_eq!(machine.look().ticks, 20);
}

#[test]
fn bytes_of_vanished_children_count_once() {
    let mut machine = Machine::new(true, &[line(100, 1, 0, 0), line(101, 100, 0, 0)]);
    let io = |read, written| {
        format!("rchar: 1\nread_bytes: {read}\nwrite_bytes: {written}\ncancelled_write_bytes: 9\n")
    };
    machine
        .tree
        .write(&[("proc/100/io", &io(1000, 0)), ("proc/101/io", &io(0, 500))]);
    machine.look();
    machine.tree.write(&[("proc/101/io", &io(0, 600))]);
    assert_eq!(machine.look().storage, Some((0, 100)));
    machine.loses(101);
    machine.tree.write(&[("proc/100/io", &io(1200, 640))]);
    assert_eq!(machine.look().storage, Some((200, 140)));
}

#[test]
fn descriptors_are_those_of_the_process_closest_to_its_limit() {
    let mut machine = Machine::new(true, &[line(100, 1, 0, 0), line(101, 100, 0, 0)]);
    let limits = |soft| {
        format!(
            "Limit    Soft Limit   Hard Limit  Units\nMax open files            {soft}                 4096                 files\n"
        )
    };
    machine.tree.write(&[
        ("proc/100/limits", &limits("1000")),
        ("proc/100/fd/0", ""),
        ("proc/100/fd/1", ""),
        ("proc/100/fd/2", ""),
        ("proc/101/limits", &limits("4")),
        ("proc/101/fd/0", ""),
        ("proc/101/fd/7", ""),
    ]);
    assert_eq!(machine.look().descriptors, Some((2, Some(4))));
}

#[test]
fn the_busiest_thread_is_found() {
    let mut machine = Machine::new(true, &[line(100, 1, 0, 0)]);
    let threads = |first, second| {
        machine.tree.write(&[
            ("proc/100/task/100/stat", &line(100, 1, first, 0).text()),
            ("proc/100/task/105/stat", &line(105, 1, second, 0).text()),
        ]);
    };
    threads(10, 400);
    machine
        .set
        .observe(Duration::from_secs(1), &machine.roots, &mut machine.files);
    threads(20, 480);
    let seen = machine
        .set
        .observe(Duration::from_secs(2), &machine.roots, &mut machine.files);
    assert_eq!(seen.thread_use.hottest_cores, Some(0.8));
}

#[test]
fn the_thread_that_wants_most_is_told_from_the_busiest() {
    let mut machine = Machine::new(true, &[line(100, 1, 0, 0)]);
    let schedule = |first: &str, second: &str| {
        machine.tree.write(&[
            ("proc/100/task/100/stat", &line(100, 1, 0, 0).text()),
            ("proc/100/task/100/schedstat", first),
            (
                "proc/100/task/105/stat",
                &line(105, 1, 0, 0).text().replace(" S ", " D "),
            ),
            ("proc/100/task/105/schedstat", second),
        ]);
    };
    let mut look = |seconds| {
        let now = Duration::from_secs(seconds);
        machine
            .set
            .observe(now, &machine.roots, &mut machine.files)
            .thread_use
    };
    schedule("1000 1000 5", "0 0 1");
    assert_eq!(look(1).blocked, Some(1));
    // One ran for half of the two seconds, the other for a quarter of it and waited for the rest.
    schedule("1000001000 200001000 9", "500000000 1500000000 7");
    let seen = look(3);
    assert_eq!(seen.wanted_cores, Some(1.0));
    assert_eq!(seen.wanted_wait_cores, Some(0.75));
    assert_eq!(seen.waiting, Some(0.85));
}

#[test]
fn an_address_space_without_a_limit_is_not_told() {
    let mut machine = Machine::new(true, &[line(100, 1, 0, 0)]);
    assert_eq!(machine.look().address_space, None);
    let limits = "Max address space         4000000              unlimited            bytes\n";
    machine.tree.write(&[("proc/100/limits", limits)]);
    let used = machine.look().address_space;
    assert!(
        matches!(used, Some((used, 4_000_000)) if used > 0),
        "{used:?}"
    );
}
