//! What each identity takes of this VM, and the limits of its share.
//!
//! All of it is in this VM's memory: it needs no host call, and other VMs do not have to know it. A
//! stream gives back what it holds when its context goes ([`Taken`]). After a trap the VM starts
//! again with nothing counted; until then Envoy's overload manager protects the gateway.
//!
//! The tables are bounded themselves. Identities are certificates, which cannot be made up; should
//! there be more than [`MAX_ACCOUNTS`] at a time, the others share one account.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use egress_policy::limits::Limits;
use egress_policy::verdict::ReasonCode;

/// Identities with accounts of their own.
pub const MAX_ACCOUNTS: usize = 4_096;
/// Names of all identities together: 24 bytes each.
pub const MAX_NAMES: usize = 65_536;
/// What those share that find no account.
const OTHERS: &str = "others";
const MINUTE: i64 = 60;

thread_local! {
    /// One for the VM: all its plugin instances count together, and a new policy finds what is open.
    static OF_VM: Rc<Budgets> = Rc::default();
}

/// The accounts of one VM.
#[derive(Debug, Default)]
pub struct Budgets {
    book: RefCell<Book>,
    /// What the gauges were told last.
    shown: Cell<[u64; 3]>,
}

#[derive(Debug, Default)]
struct Book {
    /// In the order of their identities.
    accounts: Vec<(Rc<str>, Account)>,
    /// Names in all accounts.
    names: usize,
    /// When lines were last summed up.
    told: Option<i64>,
}

/// What one identity has.
#[derive(Debug, Default)]
struct Account {
    streams: u32,
    undecided: u32,
    /// Hashes of names in their order, and the second in which each was last asked for. Two names
    /// with one hash count as one, which denies nobody.
    names: Vec<(u64, i64)>,
    new_names: Minute,
    lines: Minute,
    /// Denials without a line.
    untold: Vec<(&'static str, u64)>,
}

/// How often something happened in the current minute.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    began: i64,
    count: u32,
}

impl Minute {
    /// The count of the minute that `now` lies in. A clock that was set back begins a new one.
    fn at(&mut self, now: i64) -> &mut u32 {
        if !(self.began..self.began.saturating_add(MINUTE)).contains(&now) {
            *self = Self {
                began: now,
                count: 0,
            };
        }
        &mut self.count
    }

    fn is_over(self, now: i64) -> bool {
        self.count == 0 || !(self.began..self.began.saturating_add(MINUTE)).contains(&now)
    }
}

impl Account {
    fn is_idle(&self, now: i64) -> bool {
        self.streams == 0
            && self.undecided == 0
            && self.names.is_empty()
            && self.untold.is_empty()
            && self.new_names.is_over(now)
            && self.lines.is_over(now)
    }
}

/// What a stream wants to hold.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whether it counts as a stream. A connection inside a tunnel does not: the tunnel does.
    pub stream: bool,
    /// Whether it is a tunnel of which nothing has come back yet.
    pub undecided: bool,
    /// The name that Envoy's DNS cache resolves for it, if it is one.
    pub name: Option<&'a str>,
}

/// What a stream holds, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    budgets: Rc<Budgets>,
    whose: Rc<str>,
    stream: bool,
    undecided: bool,
}

/// Denials of one identity that had no line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// The identity.
    pub workload: Rc<str>,
    /// Their code.
    pub code: &'static str,
    /// How many.
    pub count: u64,
}

impl Budgets {
    /// This VM's.
    #[must_use]
    pub fn of_vm() -> Rc<Self> {
        OF_VM.with(Rc::clone)
    }

    /// Gives a stream what it wants, or says which limit it is beyond. `now` is in seconds.
    ///
    /// # Errors
    /// [`ReasonCode::LimitStreams`], [`ReasonCode::LimitUndecided`] or [`ReasonCode::LimitNames`].
    pub fn take(
        self: &Rc<Self>,
        whose: &str,
        wanted: Wanted<'_>,
        limits: &Limits,
        now: i64,
    ) -> Result<Taken, ReasonCode> {
        let mut book = self
            .book
            .try_borrow_mut()
            .map_err(|_| ReasonCode::EngineError)?;
        let book = &mut *book;
        let (whose, account) = account(&mut book.accounts, whose, now)?;
        if wanted.stream && account.streams >= limits.streams_share() {
            return Err(ReasonCode::LimitStreams);
        }
        if wanted.undecided && account.undecided >= limits.undecided_share() {
            return Err(ReasonCode::LimitUndecided);
        }
        if let Some(name) = wanted.name {
            note_name(account, &mut book.names, name, limits, now)?;
        }
        account.streams = account.streams.saturating_add(u32::from(wanted.stream));
        account.undecided = account
            .undecided
            .saturating_add(u32::from(wanted.undecided));
        Ok(Taken {
            budgets: Rc::clone(self),
            whose,
            stream: wanted.stream,
            undecided: wanted.undecided,
        })
    }

    /// Whether there is a line for this denial. If not, it is counted for the next sum.
    pub fn line(&self, whose: &str, code: &'static str, limits: &Limits, now: i64) -> bool {
        // A line too many is better than one that is lost.
        let Ok(mut book) = self.book.try_borrow_mut() else {
            return true;
        };
        let Ok((_, account)) = account(&mut book.accounts, whose, now) else {
            return true;
        };
        let lines = account.lines.at(now);
        if *lines < limits.lines_share() {
            *lines = lines.saturating_add(1);
            return true;
        }
        match account.untold.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => account.untold.push((code, 1)),
        }
        false
    }

    /// The denials without a line, once a minute; and forgets what is over.
    pub fn sum_up(&self, limits: &Limits, now: i64) -> Vec<Untold> {
        let Ok(mut book) = self.book.try_borrow_mut() else {
            return Vec::new();
        };
        let since = book.told.get_or_insert(now);
        if (*since..since.saturating_add(MINUTE)).contains(&now) {
            return Vec::new();
        }
        book.told = Some(now);
        let untold = untold(&mut book);
        for (_, account) in &mut book.accounts {
            expire(account, limits, now);
        }
        book.accounts.retain(|(_, account)| !account.is_idle(now));
        book.names = book
            .accounts
            .iter()
            .map(|(_, account)| account.names.len())
            .sum();
        untold
    }

    /// The denials without a line, now. Of a book in use there are none to tell: a sum is lost, and no
    /// verdict changes.
    pub fn rest(&self) -> Vec<Untold> {
        self.book
            .try_borrow_mut()
            .map(|mut book| untold(&mut book))
            .unwrap_or_default()
    }

    /// Streams, undecided tunnels and names of all identities.
    #[must_use]
    pub fn held(&self) -> [u64; 3] {
        let Ok(book) = self.book.try_borrow() else {
            return self.shown.get();
        };
        let sum = |of: fn(&Account) -> u32| -> u64 {
            let accounts = book.accounts.iter();
            accounts.map(|(_, account)| u64::from(of(account))).sum()
        };
        [
            sum(|account| account.streams),
            sum(|account| account.undecided),
            u64::try_from(book.names).unwrap_or(u64::MAX),
        ]
    }

    /// By how much each of [`Budgets::held`] has changed since this was asked last. All workers add
    /// to the same gauges.
    pub fn changes(&self) -> [i64; 3] {
        let held = self.held();
        let shown = self.shown.replace(held);
        let change = |now: u64, before: u64| {
            let signed = |value| i64::try_from(value).unwrap_or(i64::MAX);
            signed(now).saturating_sub(signed(before))
        };
        let mut changes = [0; 3];
        for (change_of, (now, before)) in changes.iter_mut().zip(held.into_iter().zip(shown)) {
            *change_of = change(now, before);
        }
        changes
    }
}

impl Taken {
    /// Something has come back through the tunnel.
    pub fn decided(&mut self) {
        if std::mem::take(&mut self.undecided) {
            self.give_back(|account| account.undecided = account.undecided.saturating_sub(1));
        }
    }

    fn give_back(&self, change: impl FnOnce(&mut Account)) {
        if let Ok(mut book) = self.budgets.book.try_borrow_mut()
            && let Ok(at) = find(&book.accounts, &self.whose)
            && let Some((_, account)) = book.accounts.get_mut(at)
        {
            change(account);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.decided();
        if self.stream {
            self.give_back(|account| account.streams = account.streams.saturating_sub(1));
        }
    }
}

/// Where an identity's account is, or would be.
fn find(accounts: &[(Rc<str>, Account)], whose: &str) -> Result<usize, usize> {
    accounts.binary_search_by(|(known, _)| (**known).cmp(whose))
}

/// The account of an identity, or the one that it shares.
fn account<'a>(
    accounts: &'a mut Vec<(Rc<str>, Account)>,
    whose: &str,
    now: i64,
) -> Result<(Rc<str>, &'a mut Account), ReasonCode> {
    let mut key = whose;
    if find(accounts, key).is_err() && accounts.len() >= MAX_ACCOUNTS {
        accounts.retain(|(_, account)| !account.is_idle(now));
        if accounts.len() >= MAX_ACCOUNTS {
            key = OTHERS;
        }
    }
    let at = find(accounts, key).unwrap_or_else(|at| {
        accounts.insert(at, (Rc::from(key), Account::default()));
        at
    });
    let (key, account) = accounts.get_mut(at).ok_or(ReasonCode::EngineError)?;
    Ok((Rc::clone(key), account))
}

/// Notes that a name is asked for, if it may be.
fn note_name(
    account: &mut Account,
    all: &mut usize,
    name: &str,
    limits: &Limits,
    now: i64,
) -> Result<(), ReasonCode> {
    let hash = hash(name);
    let position = |account: &Account| {
        account
            .names
            .binary_search_by_key(&hash, |(known, _)| *known)
    };
    if let Ok(at) = position(account)
        && let Some((_, last)) = account.names.get_mut(at)
        && is_kept(*last, limits, now)
    {
        *last = now;
        return Ok(());
    }
    let most = usize::try_from(limits.names_share()).unwrap_or(usize::MAX);
    if account.names.len() >= most || *all >= MAX_NAMES {
        *all = all.saturating_sub(expire(account, limits, now));
    }
    let new = account.new_names.at(now);
    if account.names.len() >= most || *all >= MAX_NAMES || *new >= limits.new_names_share() {
        return Err(ReasonCode::LimitNames);
    }
    *new = new.saturating_add(1);
    match position(account) {
        Ok(at) => {
            if let Some((_, last)) = account.names.get_mut(at) {
                *last = now;
            }
        }
        Err(at) => {
            account.names.insert(at, (hash, now));
            *all = all.saturating_add(1);
        }
    }
    Ok(())
}

/// Forgets the names that Envoy has forgotten too; how many.
fn expire(account: &mut Account, limits: &Limits, now: i64) -> usize {
    let before = account.names.len();
    account
        .names
        .retain(|(_, last)| is_kept(*last, limits, now));
    before.saturating_sub(account.names.len())
}

/// A name stays in Envoy's cache for its lifetime after it was last asked for. One of the future is
/// none: the clock was set back.
fn is_kept(last: i64, limits: &Limits, now: i64) -> bool {
    (0..i64::from(limits.name_lifetime_seconds)).contains(&now.saturating_sub(last))
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn untold(book: &mut Book) -> Vec<Untold> {
    let mut all = Vec::new();
    for (workload, account) in &mut book.accounts {
        let untold = std::mem::take(&mut account.untold);
        all.extend(untold.into_iter().map(|(code, count)| Untold {
            workload: Rc::clone(workload),
            code,
            count,
        }));
    }
    all
}

#[cfg(test)]
mod contexts;
#[cfg(test)]
mod tests;
