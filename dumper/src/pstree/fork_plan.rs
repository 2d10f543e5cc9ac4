//! The plan for making processes, so that each ends up with its old parent and in its old session.
//!
//! A process inherits the session of its maker, or leads its own by setsid(2). It gets its parent
//! in one of three ways: the parent makes it, a sibling makes it with CLONE_PARENT, or its maker
//! ends below a subreaper. Everything here is decided from ids alone, before anything is made. A
//! tree without a plan is refused at the dump.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::pid::Pid;

/// How a process is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// The process of the image that makes it. 0 means the restorer.
    pub by: Pid,
    /// The way in which it is made.
    pub how: How,
    /// The session that its maker is in at that time. A process that is to lead a session leaves it
    /// later.
    pub session: Pid,
    /// The thread of the maker that makes it. 0 means the leader. The parent-death signal
    /// (PR_SET_PDEATHSIG of prctl(2)) is sent when that thread ends.
    #[serde(default)]
    pub thread: Pid,
}

/// A way to make a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// As the maker's child.
    #[default]
    Child,
    /// As the maker's sibling: CLONE_PARENT of clone(2).
    Sibling,
    /// As the child of a helper. The helper is a child of the maker and ends at once, while the
    /// future parent is a subreaper (PR_SET_CHILD_SUBREAPER).
    Orphan,
}

/// Parent and session that one process must end up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub pid: Pid,
    /// Its parent. A process is a root if its parent is not a member.
    pub ppid: Pid,
    /// Its session. A process leads the session that has its own id.
    pub sid: Pid,
}

/// One step of a plan: one process is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The process that is made. A placeholder for a session leader that has ended is not among the
    /// members.
    pub member: Member,
    /// How it is made.
    pub maker: Maker,
}

/// The current session of each process, while they are made in the order of an image.
#[derive(Default)]
pub struct Sessions(BTreeMap<Pid, Pid>);

impl Sessions {
    /// Whether it leads a session by now.
    pub fn leads(&self, pid: Pid) -> bool {
        self.0.get(&pid) == Some(&pid)
    }

    /// Records that it leads a session from now on.
    pub fn lead(&mut self, pid: Pid) {
        self.0.insert(pid, pid);
    }

    /// Whether the maker has left the session in which it must make a process, or must leave it
    /// now.
    pub fn has_left(&self, maker: Maker) -> bool {
        self.0.get(&maker.by) != Some(&maker.session)
    }

    /// Records that `pid` is made. It must end up in session `wanted`.
    ///
    /// # Errors
    /// Damaged: its maker is in another session.
    pub fn enter(&mut self, pid: Pid, maker: Maker, wanted: Pid) -> Result<()> {
        let Maker { by, session, .. } = maker;
        if self.has_left(maker) || wanted != pid && session != wanted {
            let current = self.0.get(&by).copied().unwrap_or(0);
            return Err(Error::damaged(format!("pid {pid}: its maker {by} is in session {current}, not in {wanted}")));
        }
        self.0.insert(pid, session);
        Ok(())
    }
}

struct Plan<'a> {
    members: &'a [Member],
    ids: BTreeSet<Pid>,
    /// The session that a session leader must be made in, because a child of it stayed there.
    born_in: BTreeMap<Pid, Pid>,
    steps: Vec<Step>,
    /// The processes that the steps so far make.
    made: BTreeMap<Pid, Existing>,
}

#[derive(Clone, Copy)]
struct Existing {
    /// 0: the restorer.
    parent: Pid,
    session: Pid,
}

/// The steps that make all `members`. A maker comes before the processes that it makes, and the
/// first step makes the first member. A session leader leaves the session that it was made in as
/// soon as it must make a process that does not belong there.
///
/// # Errors
/// Unsupported: names a process that no other can give its session.
pub fn plan(members: &[Member]) -> Result<Vec<Step>> {
    // If the leader of a session has ended, the processes that were made in that session are
    // unknown. The first attempt assumes that there are none.
    attempt(members, false).or_else(|refused| attempt(members, true).map_err(|_| refused))
}

/// The steps of a tree without a plan: the parent of each process makes it. No restore can follow
/// them, but a check compares each process with its parent.
pub fn by_parents(members: &[Member]) -> Vec<Step> {
    let ids: BTreeSet<Pid> = members.iter().map(|member| member.pid).collect();
    let step = |member: &Member| {
        let by = if ids.contains(&member.ppid) { member.ppid } else { 0 };
        Step { member: *member, maker: Maker { by, how: How::Child, session: member.sid, thread: 0 } }
    };
    members.iter().map(step).collect()
}

/// `with_ended`: if a session leader has a child in the session of an ended process, assume that
/// the leader has left that session.
fn attempt(members: &[Member], with_ended: bool) -> Result<Vec<Step>> {
    let ids = members.iter().map(|member| member.pid).collect();
    let mut plan = Plan { members, ids, born_in: BTreeMap::new(), steps: Vec::new(), made: BTreeMap::new() };
    // From the leaves upwards, once for each generation. Certain facts come first.
    while plan.learn_births(false) {}
    while with_ended && plan.learn_births(true) {}
    loop {
        let before = plan.steps.len();
        for member in members {
            if !plan.made.contains_key(&member.pid) {
                plan.try_to_make(*member);
            }
        }
        if plan.steps.len() == before {
            break;
        }
    }
    match members.iter().find(|member| !plan.made.contains_key(&member.pid)) {
        None => Ok(plan.steps),
        Some(Member { pid, sid, .. }) => Err(Error::unsupported(format!(
            "pid {pid}: its session {sid}, which it did not get from its parent, cannot be rebuilt"
        ))),
    }
}

impl Plan<'_> {
    /// The parent, or 0 for a root.
    fn parent(&self, member: Member) -> Pid {
        if self.ids.contains(&member.ppid) { member.ppid } else { 0 }
    }

    /// The session that a process must be made in. `None` means any, because it will lead its own.
    fn target(&self, member: Member) -> Option<Pid> {
        if member.sid == member.pid { self.born_in.get(&member.pid).copied() } else { Some(member.sid) }
    }

    /// Finds session leaders with a child in a session that they left. Returns whether there is a
    /// new one.
    fn learn_births(&mut self, with_ended: bool) -> bool {
        let leaders: BTreeSet<Pid> =
            self.members.iter().filter(|member| member.sid == member.pid).map(|member| member.pid).collect();
        let before = self.born_in.len();
        for member in self.members {
            if let Some(session) = self.target(*member)
                && leaders.contains(&member.ppid)
                && (leaders.contains(&session) || with_ended && !self.ids.contains(&session))
                && session != member.ppid
                && self.parent(Member { pid: member.ppid, ppid: self.parent_of(member.ppid), sid: member.ppid }) != 0
                && !self.is_led_beside_or_below(session, member.ppid)
            {
                self.born_in.entry(member.ppid).or_insert(session);
            }
        }
        self.born_in.len() > before
    }

    fn parent_of(&self, pid: Pid) -> Pid {
        self.members.iter().find(|member| member.pid == pid).map_or(0, |member| member.ppid)
    }

    /// Whether the leader of `session` is `pid` or descends from it. Then `pid` was not made in
    /// that session.
    fn is_led_beside_or_below(&self, session: Pid, pid: Pid) -> bool {
        let mut at = session;
        while at != 0 {
            if at == pid {
                return true;
            }
            at = self.parent_of(at);
        }
        false
    }

    fn try_to_make(&mut self, member: Member) {
        let Member { pid, ppid, .. } = member;
        let parent = self.parent(member);
        let session = self.made.get(&parent).map(|existing| existing.session);
        if parent != 0 && session.is_none() {
            return;
        }
        let target = self.target(member);
        let maker = |by: Pid, how: How, session: Pid| Maker { by, how, session, thread: 0 };
        let Some(sid) = target.filter(|target| session != Some(*target)) else {
            return self.make(member, maker(parent, How::Child, session.unwrap_or(pid)));
        };
        let of_session: Vec<Pid> =
            self.made.iter().filter(|(_, existing)| existing.session == sid).map(|(pid, _)| *pid).collect();
        if let Some(sibling) = of_session.iter().find(|pid| self.made[pid].parent == parent) {
            return self.make(member, maker(*sibling, How::Sibling, sid));
        }
        if let Some(below) = of_session.iter().find(|pid| parent != 0 && self.is_above(parent, **pid)) {
            return self.make(member, maker(*below, How::Orphan, sid));
        }
        if !self.ids.contains(&sid) && !self.made.contains_key(&sid) {
            // The leader has ended. A placeholder with its id leads the session meanwhile.
            self.make(Member { pid: sid, ppid, sid }, maker(parent, How::Child, session.unwrap_or(sid)));
            self.make(member, maker(sid, How::Sibling, sid));
        }
    }

    fn is_above(&self, above: Pid, pid: Pid) -> bool {
        let mut at = pid;
        while let Some(existing) = self.made.get(&at) {
            at = existing.parent;
            if at == above {
                return true;
            }
        }
        false
    }

    fn make(&mut self, member: Member, maker: Maker) {
        let Member { pid, sid, .. } = member;
        self.steps.push(Step { member, maker });
        self.made.insert(pid, Existing { parent: self.parent(member), session: sid });
        if sid == pid && maker.session != sid {
            // Before it leaves that session it makes the children that stayed there.
            let born_in = maker.session;
            let staying = |child: &&Member| child.ppid == pid && self.target(**child) == Some(born_in);
            let children: Vec<Member> = self.members.iter().filter(staying).copied().collect();
            for child in children {
                self.make(child, Maker { by: pid, how: How::Child, session: born_in, thread: 0 });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Does what a restore and the kernel do. Returns the parent and the session of each process.
    fn play(steps: &[Step]) -> BTreeMap<Pid, (Pid, Pid)> {
        let mut made: BTreeMap<Pid, (Pid, Pid)> = BTreeMap::new();
        let leads = |pid: Pid| steps.iter().any(|step| step.member.pid == pid && step.member.sid == pid);
        for Step { member: Member { pid, ppid, sid }, maker } in steps {
            if maker.by == 0 {
                assert_eq!(pid, sid, "a root leads");
                made.insert(*pid, (0, *pid));
                continue;
            }
            let its_maker = made.get_mut(&maker.by).unwrap();
            if its_maker.1 != maker.session && leads(maker.by) {
                its_maker.1 = maker.by;
            }
            let (makers_parent, session) = *its_maker;
            assert_eq!(session, maker.session, "the maker of pid {pid}");
            assert!(pid == sid || session == *sid, "pid {pid} would be in session {session}");
            let parent = match maker.how {
                How::Child => maker.by,
                How::Sibling => makers_parent,
                How::Orphan => *ppid,
            };
            made.insert(*pid, (parent, session));
        }
        made.into_iter()
            .map(|(pid, (parent, session))| (pid, (parent, if leads(pid) { pid } else { session })))
            .collect()
    }

    fn check(members: &[(Pid, Pid, Pid)]) {
        let members: Vec<Member> = members.iter().map(|&(pid, ppid, sid)| Member { pid, ppid, sid }).collect();
        let steps = plan(&members).unwrap();
        let made = play(&steps);
        for Member { pid, ppid, sid } in &members {
            let parent = if members.iter().any(|other| other.pid == *ppid) { *ppid } else { 0 };
            assert_eq!(made.get(pid), Some(&(parent, *sid)), "pid {pid} of {steps:?}");
        }
        assert_eq!(steps[0].member, members[0]);
    }

    #[test]
    fn a_plain_tree() {
        check(&[(10, 1, 10), (11, 10, 10), (12, 11, 10), (13, 10, 13), (14, 13, 13)]);
    }

    #[test]
    fn a_child_that_stayed_in_the_session_its_parent_left() {
        check(&[(10, 1, 10), (11, 10, 11), (12, 11, 10), (13, 12, 10), (14, 11, 11)]);
    }

    #[test]
    fn two_that_left_the_session_of_a_process_that_has_ended() {
        check(&[(10, 1, 10), (11, 10, 11), (12, 10, 12), (21, 11, 5), (22, 12, 5)]);
    }

    #[test]
    fn a_leader_born_before_its_parent_became_one() {
        // 11 made 12 before both left session 10. 13 stayed in it.
        check(&[(10, 1, 10), (11, 10, 11), (12, 11, 12), (13, 12, 10)]);
        check(&[(10, 1, 10), (11, 10, 11), (12, 11, 12), (14, 12, 14), (13, 14, 10), (15, 14, 14), (16, 11, 11)]);
    }

    #[test]
    fn an_orphan_of_a_session_whose_leader_lives_beside_its_parent() {
        check(&[(10, 1, 10), (11, 10, 11), (12, 10, 11)]);
    }

    #[test]
    fn an_orphan_of_a_session_deep_below() {
        check(&[(10, 1, 10), (11, 10, 10), (12, 11, 12), (13, 10, 12)]);
    }

    #[test]
    fn a_session_whose_leader_has_ended() {
        check(&[(10, 1, 10), (12, 10, 11), (13, 10, 11), (14, 12, 11)]);
        let steps = plan(&[Member { pid: 10, ppid: 1, sid: 10 }, Member { pid: 12, ppid: 10, sid: 11 }]).unwrap();
        assert_eq!((steps[1].member, steps[1].maker.by), (Member { pid: 11, ppid: 10, sid: 11 }, 10));
        assert_eq!((steps[2].maker.by, steps[2].maker.how), (11, How::Sibling));
    }

    #[test]
    fn what_has_no_way_is_named() {
        // The leader of 13's session is a child of 13 itself.
        let members = [(10, 1, 10), (13, 10, 14), (14, 13, 14)].map(|(pid, ppid, sid)| Member { pid, ppid, sid });
        let error = plan(&members).unwrap_err().to_string();
        assert!(error.contains("pid 13") && error.contains("session 14"), "{error}");
    }

    #[test]
    fn several_roots() {
        check(&[(10, 1, 10), (20, 1, 20), (11, 10, 10), (21, 20, 20)]);
        check(&[(10, 1, 10), (20, 1, 10), (11, 20, 10), (30, 1, 25)]);
    }
}
