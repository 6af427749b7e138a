//! The CNI plugin's executable: one call of the protocol per run.

use std::process::ExitCode;

fn main() -> ExitCode {
    let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let code = egress_cni::plugin::run(
        get,
        &mut std::io::stdin().lock(),
        &mut std::io::stdout().lock(),
        &mut std::io::stderr().lock(),
    );
    ExitCode::from(code)
}
