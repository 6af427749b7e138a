//! Whether a condition holds, with what is not known kept apart from what does not match.

use crate::facts::Fact;

/// A three-valued truth that remembers whether it waits for a fact that may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    False,
    /// A fact is missing, for good.
    Missing,
    /// A fact is pending.
    Pending,
    True,
}

impl Truth {
    pub(crate) const fn of(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }

    pub(crate) fn on<T>(fact: Fact<T>, holds: impl FnOnce(T) -> bool) -> Self {
        match fact {
            Fact::Known(value) => Self::of(holds(value)),
            Fact::Pending => Self::Pending,
            Fact::Missing => Self::Missing,
        }
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::False, _) | (_, Self::False) => Self::False,
            (Self::Pending, _) | (_, Self::Pending) => Self::Pending,
            (Self::Missing, _) | (_, Self::Missing) => Self::Missing,
            (Self::True, Self::True) => Self::True,
        }
    }

    pub(crate) const fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Pending | Self::Missing => self,
        }
    }

    pub(crate) const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::True, _) | (_, Self::True) => Self::True,
            (Self::Pending, _) | (_, Self::Pending) => Self::Pending,
            (Self::Missing, _) | (_, Self::Missing) => Self::Missing,
            (Self::False, Self::False) => Self::False,
        }
    }
}
