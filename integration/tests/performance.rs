//! What a verdict costs is of the order that it should be, and the page about it is made of the
//! committed results.

use anyhow::{Context, Result, ensure};
use integration::gateway_bench::{self, Options, Results, page, plots};
use integration::sandbox::FIGURE;
use integration::{sandboxed, workspace};

#[test]
fn the_committed_page_and_plots_are_those_of_the_committed_results() -> Result<()> {
    let folder = workspace::root().join("docs/evidence/performance");
    let run = Results::read(&folder)?;
    let made = [("README.md", page(&run))].into_iter().chain(plots(&run));
    for (name, made) in made {
        let path = folder.join(name);
        let committed =
            std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        assert_eq!(
            committed, made,
            "{name}: make it anew with `cargo xtask bench gateway --page`"
        );
    }
    Ok(())
}

sandboxed! {
    fn no_ratio_is_of_another_order() -> Result<()> {
        let run = gateway_bench::run(&Options::SHORT, |_| {})?;
        for row in &run.rows {
            let ratio = row.ratio.median;
            eprintln!("{FIGURE}{}: {ratio:.2} times the bare gateway", row.id);
        }
        let wrong = gateway_bench::judge(&run, None);
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}
