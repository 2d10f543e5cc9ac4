//! Who has to make whom, so that everybody ends up with the parent and in the session that they had.
//!
//! A process gets its session from whoever makes it, or leads its own by setsid(2), and it gets its parent by being made by it, by
//! being made with CLONE_PARENT by a sibling, or by losing its maker below a subreaper. Everything here is decided from ids alone,
//! before anything is made; a constellation for which no way is found is refused at the dump.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sys::pid::Pid;

/// How a process is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// By this process of the image; 0: by the restorer.
    pub by: Pid,
    /// In this way.
    pub how: How,
    /// In this session, which its maker is in; one that is to lead another leaves it later.
    pub session: Pid,
    /// By this thread of the maker; 0: by its leader. A parent-death signal means the thread (prctl(2), PR_SET_PDEATHSIG).
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
    /// As the child of a child of the maker that ends at once, while the future parent is a subreaper (PR_SET_CHILD_SUBREAPER).
    Orphan,
}

/// What must come out for one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub pid: Pid,
    /// Its parent; if that is no member, it is a root.
    pub ppid: Pid,
    /// Its session; its own id: it leads it.
    pub sid: Pid,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who is made; not among the members if it is there only while others are made (the dead leader of a session).
    pub member: Member,
    /// How.
    pub maker: Maker,
}

/// The session that each is in, while everybody is made in the order of an image.
#[derive(Default)]
pub struct Sessions(BTreeMap<Pid, Pid>);

impl Sessions {
    /// Whether it leads one by now.
    pub fn leads(&self, pid: Pid) -> bool {
        self.0.get(&pid) == Some(&pid)
    }

    /// It leads one from here on.
    pub fn lead(&mut self, pid: Pid) {
        self.0.insert(pid, pid);
    }

    /// Whether a maker has left the session that it is to make somebody in, or leaves it now.
    pub fn has_left(&self, maker: Maker) -> bool {
        self.0.get(&maker.by) != Some(&maker.session)
    }

    /// `pid` is made, and ends up in session `wanted`.
    ///
    /// # Errors
    /// Damaged: it cannot.
    pub fn enter(&mut self, pid: Pid, maker: Maker, wanted: Pid) -> Result<()> {
        let Maker { by, session, .. } = maker;
        if self.has_left(maker) || wanted != pid && session != wanted {
            let there = self.0.get(&by).copied().unwrap_or(0);
            return Err(Error::damaged(format!("pid {pid}: its maker {by} is in session {there}, not in {wanted}")));
        }
        self.0.insert(pid, session);
        Ok(())
    }
}

struct Plan<'a> {
    members: &'a [Member],
    ids: BTreeSet<Pid>,
    /// The sessions that leaders have to be made in, because children of theirs stayed there.
    born_in: BTreeMap<Pid, Pid>,
    steps: Vec<Step>,
    /// Who is made so far.
    there: BTreeMap<Pid, Existing>,
}

#[derive(Clone, Copy)]
struct Existing {
    /// 0: the restorer.
    parent: Pid,
    session: Pid,
}

/// The steps that make all `members`, makers before those that they make; the first is the first member. A session leader leaves the
/// session that it was made in as soon as it makes somebody who does not belong there.
///
/// # Errors
/// Unsupported, naming a process whose session nobody can give it.
pub fn plan(members: &[Member]) -> Result<Vec<Step>> {
    // Where a session's leader is dead nobody knows who was born in it. It stands in the way of nobody to begin with nobody.
    attempt(members, false).or_else(|refused| attempt(members, true).map_err(|_| refused))
}

/// `with_dead`: leaders whose children are in the session of somebody dead are taken to have left that one.
fn attempt(members: &[Member], with_dead: bool) -> Result<Vec<Step>> {
    let ids = members.iter().map(|member| member.pid).collect();
    let mut plan = Plan { members, ids, born_in: BTreeMap::new(), steps: Vec::new(), there: BTreeMap::new() };
    // Upwards from the leaves: as often as there are generations. Those that are sure come first.
    while plan.learn_births(false) {}
    while with_dead && plan.learn_births(true) {}
    loop {
        let before = plan.steps.len();
        for member in members {
            if !plan.there.contains_key(&member.pid) {
                plan.try_to_make(*member);
            }
        }
        if plan.steps.len() == before {
            break;
        }
    }
    match members.iter().find(|member| !plan.there.contains_key(&member.pid)) {
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

    /// The session that a process has to be made in; `None`: in any, it will lead one of its own.
    fn target(&self, member: Member) -> Option<Pid> {
        if member.sid == member.pid { self.born_in.get(&member.pid).copied() } else { Some(member.sid) }
    }

    /// Leaders whose children are in the session that they left. Whether there was something new.
    fn learn_births(&mut self, with_dead: bool) -> bool {
        let leaders: BTreeSet<Pid> =
            self.members.iter().filter(|member| member.sid == member.pid).map(|member| member.pid).collect();
        let before = self.born_in.len();
        for member in self.members {
            if let Some(session) = self.target(*member)
                && leaders.contains(&member.ppid)
                && (leaders.contains(&session) || with_dead && !self.ids.contains(&session))
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

    /// Whether the leader of `session` descends from `pid`: then that cannot have been born in it.
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
        let session = self.there.get(&parent).map(|there| there.session);
        if parent != 0 && session.is_none() {
            return;
        }
        let target = self.target(member);
        let made = |by: Pid, how: How, session: Pid| Maker { by, how, session, thread: 0 };
        let Some(sid) = target.filter(|target| session != Some(*target)) else {
            return self.step(member, made(parent, How::Child, session.unwrap_or(pid)));
        };
        let of_session: Vec<Pid> =
            self.there.iter().filter(|(_, there)| there.session == sid).map(|(pid, _)| *pid).collect();
        if let Some(sibling) = of_session.iter().find(|pid| self.there[pid].parent == parent) {
            return self.step(member, made(*sibling, How::Sibling, sid));
        }
        if let Some(below) = of_session.iter().find(|pid| parent != 0 && self.is_above(parent, **pid)) {
            return self.step(member, made(*below, How::Orphan, sid));
        }
        if !self.ids.contains(&sid) && !self.there.contains_key(&sid) {
            // The leader is dead: somebody with its id stands in for it meanwhile.
            self.step(Member { pid: sid, ppid, sid }, made(parent, How::Child, session.unwrap_or(sid)));
            self.step(member, made(sid, How::Sibling, sid));
        }
    }

    fn is_above(&self, above: Pid, pid: Pid) -> bool {
        let mut at = pid;
        while let Some(there) = self.there.get(&at) {
            at = there.parent;
            if at == above {
                return true;
            }
        }
        false
    }

    fn step(&mut self, member: Member, maker: Maker) {
        let Member { pid, sid, .. } = member;
        self.steps.push(Step { member, maker });
        self.there.insert(pid, Existing { parent: self.parent(member), session: sid });
        if sid == pid && maker.session != sid {
            // Those of its children that stayed in the session which it left: before it leaves.
            let born_in = maker.session;
            let staying = |child: &&Member| child.ppid == pid && self.target(**child) == Some(born_in);
            let children: Vec<Member> = self.members.iter().filter(staying).copied().collect();
            for child in children {
                self.step(child, Maker { by: pid, how: How::Child, session: born_in, thread: 0 });
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Does what a restore and the kernel do, and tells who ends up where: (parent, session).
    fn play(steps: &[Step]) -> BTreeMap<Pid, (Pid, Pid)> {
        let mut there: BTreeMap<Pid, (Pid, Pid)> = BTreeMap::new();
        let leads = |pid: Pid| steps.iter().any(|step| step.member.pid == pid && step.member.sid == pid);
        for Step { member: Member { pid, ppid, sid }, maker } in steps {
            if maker.by == 0 {
                assert_eq!(pid, sid, "a root leads");
                there.insert(*pid, (0, *pid));
                continue;
            }
            let its_maker = there.get_mut(&maker.by).unwrap();
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
            there.insert(*pid, (parent, session));
        }
        there
            .into_iter()
            .map(|(pid, (parent, session))| (pid, (parent, if leads(pid) { pid } else { session })))
            .collect()
    }

    fn check(members: &[(Pid, Pid, Pid)]) {
        let members: Vec<Member> = members.iter().map(|&(pid, ppid, sid)| Member { pid, ppid, sid }).collect();
        let steps = plan(&members).unwrap();
        let there = play(&steps);
        for Member { pid, ppid, sid } in &members {
            let parent = if members.iter().any(|other| other.pid == *ppid) { *ppid } else { 0 };
            assert_eq!(there.get(pid), Some(&(parent, *sid)), "pid {pid} of {steps:?}");
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
    fn two_that_left_the_session_of_somebody_dead() {
        check(&[(10, 1, 10), (11, 10, 11), (12, 10, 12), (21, 11, 5), (22, 12, 5)]);
    }

    #[test]
    fn a_leader_born_before_its_parent_became_one() {
        // 12 was made by 11 before both left session 10, in which 13 stayed.
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
    fn a_session_whose_leader_is_dead() {
        check(&[(10, 1, 10), (12, 10, 11), (13, 10, 11), (14, 12, 11)]);
        let steps = plan(&[Member { pid: 10, ppid: 1, sid: 10 }, Member { pid: 12, ppid: 10, sid: 11 }]).unwrap();
        assert_eq!((steps[1].member, steps[1].maker.by), (Member { pid: 11, ppid: 10, sid: 11 }, 10));
        assert_eq!((steps[2].maker.by, steps[2].maker.how), (11, How::Sibling));
    }

    #[test]
    fn what_has_no_way_is_named() {
        // The leader of 13's session is a child of 13 itself.
        let members = [(10, 1, 10), (13, 10, 14), (14, 13, 14)].map(|(pid, ppid, sid)| Member { pid, ppid, sid });
        let told = plan(&members).unwrap_err().to_string();
        assert!(told.contains("pid 13") && told.contains("session 14"), "{told}");
    }

    #[test]
    fn several_roots() {
        check(&[(10, 1, 10), (20, 1, 20), (11, 10, 10), (21, 20, 20)]);
        check(&[(10, 1, 10), (20, 1, 10), (11, 20, 10), (30, 1, 25)]);
    }
}
