//! What one machine may spend of one budget in one window, and what it has spent: numbers
//! alone, so that models and property tests try what the edge runs.
//!
//! All of them only grow, and both sides tell the whole of them: a message that comes
//! twice, late or in another order changes nothing.

/// An amount in the budget's unit.
pub type Amount = u64;

/// A slice, as its machine knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// All that it was ever given.
    granted: Amount,
    /// All that it has ever given back.
    returned: Amount,
    /// All that was ever spent of it.
    spent: Amount,
    /// What is set aside for spending that has not been settled.
    reserved: Amount,
    /// What `spent` and `reserved` together may come to before a higher mark is on disk.
    mark: Amount,
}

/// What a machine tells of a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// All that it knows to have been given.
    pub granted: Amount,
    /// All that it has ever given back; never used again.
    pub returned: Amount,
    /// All that was ever spent of it.
    pub spent: Amount,
    /// What is set aside now.
    pub reserved: Amount,
}

/// Why an amount cannot be set aside now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Short {
    /// There is only so much left.
    Of(Amount),
    /// There is enough, but a mark of at least this has to be on disk first.
    Mark(Amount),
}

impl Ledger {
    /// What can be set aside.
    pub fn free(&self) -> Amount {
        self.granted
            .saturating_sub(self.returned)
            .saturating_sub(self.used())
    }

    /// As an earlier process left it, all of it known.
    pub fn resumed(known: Report, mark: Amount) -> Self {
        let Report {
            granted,
            returned,
            spent,
            reserved,
        } = known;
        Self {
            granted,
            returned,
            spent,
            reserved,
            mark: mark.max(spent.saturating_add(reserved)),
        }
    }

    /// What was spent beyond what there was.
    pub fn overdraft(&self) -> Amount {
        let gone = self.returned.saturating_add(self.spent);
        gone.saturating_sub(self.granted)
    }

    /// What was spent or set aside beyond what there was.
    pub fn excess(&self) -> Amount {
        self.used().saturating_sub(self.most())
    }

    /// Spent or set aside.
    pub fn used(&self) -> Amount {
        self.spent.saturating_add(self.reserved)
    }

    /// What may be used up to.
    pub fn mark(&self) -> Amount {
        self.mark
    }

    /// How far it can be used before a higher mark has to be on disk.
    pub fn below_mark(&self) -> Amount {
        self.mark.saturating_sub(self.used())
    }

    /// Sets an amount aside.
    ///
    /// # Errors
    /// [`Short`]; nothing was done.
    pub fn reserve(&mut self, amount: Amount) -> Result<(), Short> {
        self.check_reserve(amount)?;
        self.reserved += amount;
        Ok(())
    }

    /// Whether an amount can be set aside.
    ///
    /// # Errors
    /// As [`Ledger::reserve`].
    pub fn check_reserve(&self, amount: Amount) -> Result<(), Short> {
        let free = self.free();
        if free < amount {
            return Err(Short::Of(free));
        }
        let used = self.used() + amount;
        if used > self.mark {
            return Err(Short::Mark(used));
        }
        Ok(())
    }

    /// What was set aside has come to this; more than that is taken from what is free, and
    /// what is not there is overdraft.
    ///
    /// # Errors
    /// The mark that has to be on disk first; nothing was done.
    pub fn settle(&mut self, reserved: Amount, spent: Amount) -> Result<(), Amount> {
        self.check_settle(reserved, spent)?;
        self.release(reserved);
        self.spent += spent;
        Ok(())
    }

    /// Whether what was set aside can have come to this.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub fn check_settle(&self, reserved: Amount, spent: Amount) -> Result<(), Amount> {
        let used = self.used().saturating_sub(reserved).saturating_add(spent);
        if used > self.mark {
            return Err(used);
        }
        Ok(())
    }

    /// What was set aside is free again.
    pub fn release(&mut self, reserved: Amount) {
        self.reserved = self.reserved.saturating_sub(reserved);
    }

    /// Gives back up to so much of what is free, but for some that is kept; the mark comes
    /// down with it. How much: both have to be on disk before anybody is told.
    pub fn give_back(&mut self, most: Amount, keep: Amount) -> Amount {
        let given = most.min(self.free().saturating_sub(keep));
        if given > 0 {
            self.returned += given;
            self.mark = self.mark.min(self.most()).max(self.used());
        }
        given
    }

    /// The mark that is to be on disk next, for so much to be used and some more beyond it:
    /// never more than there is, since after a crash all of it counts as spent.
    pub fn next_mark(&self, used: Amount, beyond: Amount) -> Amount {
        used.saturating_add(beyond).min(self.most()).max(used)
    }

    /// What can be used in all.
    pub fn most(&self) -> Amount {
        self.granted.saturating_sub(self.returned)
    }

    /// A mark is on disk, or is about to be lower there: then it counts from now on.
    pub fn set_mark(&mut self, mark: Amount) {
        self.mark = mark.max(self.used());
    }

    /// What the control plane has told: all that was given, what it has taken back, and what
    /// it has counted as spent, which is more where this disk is older than what it told once.
    pub fn hear(&mut self, granted: Amount, returned: Amount, reported: Amount) {
        self.granted = self.granted.max(granted);
        self.returned = self.returned.max(returned);
        self.spent = self.spent.max(reported);
        self.mark = self.mark.max(self.used());
    }

    /// What the control plane is to be told.
    pub fn report(&self) -> Report {
        Report {
            granted: self.granted,
            returned: self.returned,
            spent: self.spent,
            reserved: self.reserved,
        }
    }
}
