//! Who gets how much of what is left, and what is asked back from others for it.

use time::Duration;

use super::{
    account::{Account, Amount},
    budget::State,
    movement::{Kind, Movement},
    plan::Plan,
    size::{self, Ask},
};

/// A machine that was heard of within this time spends from a budget.
const SPENDING: Duration = Duration::seconds(10);

impl Plan {
    /// Gives a machine what it asks for, as far as others leave it; overdraft is covered first.
    pub(super) fn give(&mut self, at: usize, ask: Ask) {
        let (claimants, others_need) = (self.claimants(at), self.others_need(at));
        let ahead = self.ahead_of(at, ask.needed);
        let ahead = ahead.map_or(0, |first| self.held[first].waits_for(self.now));
        let held = &mut self.held[at];
        let account = self.accounts.entry(held.window).or_default();
        let before = *account;
        let covered = account.cover(&mut held.slice);
        if covered > 0 {
            self.movements
                .push(Movement::of(Kind::Covered, covered, held, before, *account));
        }
        let before = *account;
        // what is there for those that come first is not for this one
        let rest = account.rest().saturating_sub(ahead);
        let given = size::given(rest, ask, others_need.saturating_sub(ahead), claimants);
        let given = account.grant(&mut held.slice, given);
        if given > 0 {
            self.movements
                .push(Movement::of(Kind::Granted, given, held, before, *account));
        }
        held.needed = ask.needed.saturating_sub(given);
        let needed = held.needed;
        let others = (0..self.held.len()).filter(|other| *other != at && self.is_idle(*other));
        self.is_wanted |=
            needed > 0 && others.map(|other| self.held[other].free()).sum::<Amount>() > 0;
    }

    /// Whether it can be asked to give back: nobody waits there.
    fn is_idle(&self, at: usize) -> bool {
        let held = &self.held[at];
        self.is_present(at) && held.needed == 0 && !held.is_silent
    }

    /// Machines that spend from it now, this one included.
    fn claimants(&self, at: usize) -> u64 {
        let others = self.held.iter().enumerate().filter(|(other, held)| {
            *other != at && self.is_present(*other) && held.heard_at + SPENDING > self.now
        });
        others.count() as u64 + 1
    }

    /// What callers of other machines wait for.
    fn others_need(&self, at: usize) -> Amount {
        let others = (0..self.held.len()).filter(|other| *other != at && self.is_present(*other));
        others
            .map(|other| self.held[other].waits_for(self.now))
            .sum()
    }

    /// Whose callers come before those of a machine that waits for so much: where there is
    /// not enough for all, the machine that has used least comes first, so that what is left
    /// in parts that are of use to nobody comes together.
    fn ahead_of(&self, at: usize, needed: Amount) -> Option<usize> {
        let waiting = (0..self.held.len()).filter(|other| *other == at || self.waits(*other));
        let first = waiting.min_by_key(|other| self.held[*other].used());
        first.filter(|first| *first != at && needed > 0)
    }

    /// How much of what is free with a machine others wait for: all that they do where nobody
    /// waits at this one, else what the first of them does beyond what lies idle.
    pub(super) fn asked_of(&self, at: usize) -> Amount {
        let account = self.accounts.get(&self.held[at].window);
        let rest = account.map_or(0, Account::rest);
        let all = || 0..self.held.len();
        let idle: Vec<usize> = all().filter(|other| self.is_idle(*other)).collect();
        let needed = self.held[at].needed;
        if needed == 0 {
            let missing = self.others_need(at).saturating_sub(rest);
            return self.asked_among(&idle, at, missing);
        }
        let Some(first) = self.ahead_of(at, needed) else {
            return 0;
        };
        let idle: Amount = idle.iter().map(|other| self.held[*other].free()).sum();
        let missing = self.held[first].waits_for(self.now);
        let later = all().filter(|other| *other != first && (*other == at || self.waits(*other)));
        let later: Vec<usize> = later.collect();
        self.asked_among(&later, at, missing.saturating_sub(rest + idle))
    }

    /// What one of these machines is asked for, so that so much comes together.
    fn asked_among(&self, among: &[usize], at: usize, missing: Amount) -> Amount {
        let free = among.iter().map(|other| self.held[*other].free());
        let asked = size::asked_back(missing, &free.collect::<Vec<Amount>>());
        let own = among.iter().zip(asked).find(|(other, _)| **other == at);
        own.map_or(0, |(_, asked)| asked)
    }

    /// Whether callers wait there.
    fn waits(&self, at: usize) -> bool {
        self.is_present(at) && self.held[at].waits_for(self.now) > 0
    }

    /// What an operator has asked for since the machine was heard of last; of a closed budget
    /// all that is free.
    pub(super) fn recalled(&self, at: usize) -> Amount {
        let held = &self.held[at];
        if self.budget.state == State::Closed {
            return held.free();
        }
        let is_recalled = self
            .budget
            .recalled_at
            .is_some_and(|recalled| recalled >= held.heard_at);
        if is_recalled && held.needed == 0 {
            held.free()
        } else {
            0
        }
    }
}
