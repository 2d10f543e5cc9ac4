//! What each user may have of something that all users of a mount share, so that no user takes it
//! all. A share is kept for root and the user of the daemon.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::process::caller::Viewer;

/// How much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// By one user other than root.
    pub user: u64,
    /// By all users other than root together.
    pub users: u64,
    /// By everybody together.
    pub all: u64,
}

/// How many users may take all that they may have at the same time.
pub const USERS: u64 = 16;

impl Bounds {
    /// A bound of each user other than root. All of them together have that of a few users, because
    /// one person may act as many users (user_namespaces(7)).
    pub fn of_user(user: u64) -> Bounds {
        Bounds { user, users: user.saturating_mul(USERS), all: u64::MAX }
    }

    /// `all` for everybody together: one user may have half of it, and a quarter is kept for root.
    pub fn shares_of(all: u64) -> Bounds {
        Bounds { user: all.div_ceil(2), users: all - all / 4, all }
    }

    /// Whether `uid` may have `amount` more than what each user holds by now.
    ///
    /// What a user holds may have grown beyond its bound since, such as the memory of a snapshot.
    /// Others pay for no more than the bound.
    pub fn check(self, held: &HashMap<u32, u64>, uid: u32, amount: u64) -> Result<(), Full> {
        let is_root = |uid: u32| Viewer::of(uid) == Viewer::All;
        let sum = |amounts: &mut dyn Iterator<Item = u64>| amounts.fold(0, u64::saturating_add);
        let own = held.get(&uid).copied().unwrap_or(0);
        let others = held.iter().filter(|(of, _)| !is_root(**of) && **of != uid);
        let others = sum(&mut others.map(|(_, held)| (*held).min(self.user)));
        let root = sum(&mut held.iter().filter(|(of, _)| is_root(**of)).map(|(_, held)| *held));
        let fits = |held: u64, bound: u64| held.saturating_add(amount) <= bound;
        let users = if is_root(uid) { others.min(self.users) } else { others.saturating_add(own) };
        let all = root.saturating_add(users);
        if !is_root(uid) && !fits(own, self.user) {
            Err(Full::User(own))
        } else if !is_root(uid) && !fits(users, self.users) {
            Err(Full::Users(users))
        } else if !fits(all, self.all) {
            Err(Full::All(all))
        } else {
            Ok(())
        }
    }
}

/// Why there is no room, and how much is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The user has its share.
    User(u64),
    /// All users other than root together have theirs.
    Users(u64),
    /// Nothing is left.
    All(u64),
}

/// What each user holds.
#[derive(Default)]
pub struct Quota {
    /// A leaf lock.
    held: Mutex<HashMap<u32, u64>>,
}

impl Quota {
    /// Nobody holds anything.
    pub fn new() -> Arc<Quota> {
        Arc::default()
    }

    /// `amount` for `uid`, within `bounds`.
    pub fn take(self: &Arc<Self>, bounds: Bounds, uid: u32, amount: u64) -> Result<Place, Full> {
        let mut held = self.held.lock();
        bounds.check(&held, uid, amount)?;
        *held.entry(uid).or_default() += amount;
        Ok(Place { quota: Arc::clone(self), uid, amount })
    }
}

/// What a user has taken. Drop gives it back.
pub struct Place {
    quota: Arc<Quota>,
    uid: u32,
    amount: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.quota.held.lock();
        if let Some(of_user) = held.get_mut(&self.uid) {
            *of_user = of_user.saturating_sub(self.amount);
            if *of_user == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BOUNDS: Bounds = Bounds { user: 4, users: 6, all: 8 };

    #[test]
    fn a_user_has_its_share_and_root_the_rest() {
        let quota = Quota::new();
        let take = |uid, amount| quota.take(BOUNDS, uid, amount);
        let one = take(1, 4).unwrap();
        assert_eq!(take(1, 1).err(), Some(Full::User(4)));
        let two = take(2, 2).unwrap();
        assert_eq!(take(2, 1).err(), Some(Full::Users(6)));
        let root = take(0, 2).unwrap();
        assert_eq!(take(0, 1).err(), Some(Full::All(8)));
        drop(root);
        drop(two);
        let _three = take(3, 2).unwrap();
        drop(one);
        let _again = take(1, 4).unwrap();
    }

    #[test]
    fn what_has_grown_is_charged_to_its_user_alone() {
        let held = HashMap::from([(1, 1000)]);
        assert_eq!(BOUNDS.check(&held, 1, 1), Err(Full::User(1000)));
        assert_eq!(BOUNDS.check(&held, 2, 2), Ok(()), "two thirds of what users may have");
        assert_eq!(BOUNDS.check(&held, 2, 3), Err(Full::Users(4)));
        assert_eq!((BOUNDS.check(&held, 0, 4), BOUNDS.check(&held, 0, 5)), (Ok(()), Err(Full::All(4))));
    }

    #[test]
    fn a_small_whole_has_room_for_a_user() {
        assert_eq!(Bounds::shares_of(64), Bounds { user: 32, users: 48, all: 64 });
        assert_eq!(Bounds::shares_of(1), Bounds { user: 1, users: 1, all: 1 });
        assert_eq!(Bounds::shares_of(0), Bounds { user: 0, users: 0, all: 0 });
    }
}
