//! Exit codes as a type.

pub use egress_analysis::Failure;

/// How a run of `warden` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well, or the verdict is Accept or Inspect.
    Ok,
    /// The command could not run, or was used wrongly.
    Failed,
    /// The verdict is Deny.
    Denied,
    /// Something is wrong with a file that was read.
    Defects,
    /// A case did not come out as it says.
    CasesFailed,
    /// The facts that were given decide nothing yet.
    Undecided,
}

impl Exit {
    /// Every exit, in the order of its codes.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Failed,
        Self::Denied,
        Self::Defects,
        Self::CasesFailed,
        Self::Undecided,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Denied => 2,
            Self::Defects => 3,
            Self::CasesFailed => 4,
            Self::Undecided => 5,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
