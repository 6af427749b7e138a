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

    /// What it means, for the reference page.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => {
                "Success. With `explain`: the verdict is Accept or Inspect. With `who` and `what`: something is let through."
            }
            Self::Failed => {
                "The command cannot run: its arguments are wrong, or a file cannot be read or written. It writes why to standard error, and no JSON."
            }
            Self::Denied => {
                "`explain`: the verdict is Deny. `who`, `what`: nothing is let through. `diff --no-gains`: the new policies accept more."
            }
            Self::Defects => {
                "The command found defects: errors in a file, also an empty file or one of another kind; differences; or a mesh that is not set up as required."
            }
            Self::CasesFailed => "`test`: a decision case failed.",
            Self::Undecided => {
                "`explain`: not enough facts to decide. `who`, `what`: nothing was found, and not everything was looked at. `diff`: it found no difference, and could not compare everything. `verify`: nothing differs, and some probes were inconclusive."
            }
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
