//! The demo as a test, and what it is worth: without the module and its lock most rows differ.

use anyhow::{Result, ensure};
use integration::demo::{self, Module};
use integration::{sandbox, sandboxed, template};

const MODULE: [&str; 5] = [
    "warden-http",
    "warden-ended",
    "warden-connect",
    "warden-tls",
    "warden-direct",
];

sandboxed! {
    fn every_row_is_as_expected_and_no_denied_name_is_asked_for() -> Result<()> {
        let mesh = demo::start(|_| {})?;
        let outcomes = demo::run(&mesh, Module::Present, |_| {})?;
        assert!(outcomes.iter().all(|outcome| outcome.as_expected), "\n{}", demo::table(&outcomes));
        let asked = mesh.dns.asked();
        assert!(asked.iter().any(|name| name == "api.github.com"), "the stub is in use");
        assert_eq!(demo::names_that_should_not_be_asked(&asked), Vec::<String>::new());
        Ok(())
    }

    /// What `--keep` prints is for a shell outside, where this process has another number.
    fn the_line_that_enters_names_the_process_as_it_is_outside() -> Result<()> {
        let line = sandbox::enter_with()?;
        let own = std::process::id().to_string();
        ensure!(!line.split(' ').any(|word| word == own), "{line}, and inside it is {own}");
        Ok(())
    }

    fn without_the_module_the_lock_lets_nothing_out() -> Result<()> {
        let mesh = demo::start(|config| template::remove_filters(config, &MODULE))?;
        let outcomes = demo::run(&mesh, Module::Absent, |_| {})?;
        assert!(
            outcomes.iter().all(|outcome| outcome.seen == "denied" || outcome.seen == "refused"),
            "\n{}", demo::table(&outcomes)
        );
        assert!(mesh.outside.seen().is_empty());
        assert!(mesh.dns.asked().is_empty());
        Ok(())
    }

    fn without_module_and_lock_most_denied_rows_are_reached() -> Result<()> {
        let mesh = demo::start(template::open_wide)?;
        let outcomes = demo::run(&mesh, Module::Absent, |_| {})?;
        let opened = outcomes.iter().filter(|outcome| {
            outcome.expected.starts_with("denied") && outcome.seen == "reached"
        });
        assert!(opened.count() >= 30, "\n{}", demo::table(&outcomes));
        Ok(())
    }
}
