//! The CNI plugin's executable: one call of the protocol per run.

use std::io::Read as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut input = Vec::new();
    if std::io::stdin()
        .lock()
        .take(8 << 20)
        .read_to_end(&mut input)
        .is_err()
    {
        input.clear();
    }
    let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let code = egress_cni::plugin::run(
        get,
        &input,
        &mut std::io::stdout().lock(),
        &mut std::io::stderr().lock(),
    );
    ExitCode::from(code)
}
