//! Whether an earlier alternative matches everything that a later one matches.

use std::sync::LazyLock;

use egress_policy::facts::Protocol;
use egress_policy::model::{From, LabelExpression, LabelOperator, Rule, RuleAction, Source, To};
use egress_policy::relation::{hosts_cover, ports_cover};

/// One element of a rule's `from` with one of its `to`.
#[derive(Clone, Copy)]
pub(super) struct Alternative<'p> {
    pub(super) rule: &'p Rule,
    pub(super) source: Option<&'p Source>,
    pub(super) to: Option<&'p To>,
    pub(super) tier: usize,
    pub(super) index: usize,
}

/// What an earlier alternative leaves of a later one that it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    /// CONNECT and upgrades: what opens has to list them, and a Deny covers them unasked.
    upgrades: bool,
    /// Callers without an identity, whom a Deny covers unasked.
    anonymous: bool,
    /// Callers whose metadata is missing: each of the two may turn out to match them, so what the
    /// later one does counts too.
    unlabelled: bool,
}

impl Rest {
    /// Both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            upgrades: self.upgrades || other.upgrades,
            anonymous: self.anonymous || other.anonymous,
            unlabelled: self.unlabelled || other.unlabelled,
        }
    }

    /// `, but for this and that`, or nothing.
    pub(super) fn words(self) -> String {
        let all = [
            (self.upgrades, "CONNECT and upgrades"),
            (self.anonymous, "callers without an identity"),
            (self.unlabelled, "callers whose labels are missing"),
        ];
        let left: Vec<&str> = all
            .iter()
            .filter_map(|(left, words)| left.then_some(*words))
            .collect();
        if left.is_empty() {
            return String::new();
        }
        format!(", but for {}", left.join(", and "))
    }
}

/// What a rule without `to` matches.
static ANYWHERE: LazyLock<To> = LazyLock::new(To::anywhere);

/// What is left of `later` once `earlier` has been tried. `None` if it is not covered.
/// `allowPrivate` and `tls` say what becomes of a match, not what matches.
pub(super) fn covers(earlier: &Alternative<'_>, later: &Alternative<'_>) -> Option<Rest> {
    let lasts = match (earlier.rule.expires, later.rule.expires) {
        (None, _) => true,
        (Some(a), Some(b)) => a >= b,
        (Some(_), None) => false,
    };
    let denies = |one: &Alternative<'_>| one.rule.action == RuleAction::Deny;
    let (earlier_denies, later_denies) = (denies(earlier), denies(later));
    if !lasts {
        return None;
    }
    let who = covers_from(earlier, later, later_denies)?;
    let a = earlier.to.unwrap_or(&ANYWHERE);
    let b = later.to.unwrap_or(&ANYWHERE);
    let (wide, narrow) = (a.protocols(), b.protocols());
    let covered = narrow.iter().all(|protocol| wide.contains(protocol))
        && ports_cover(&a.ports, &b.ports)
        && hosts_cover(&a.hosts, &b.hosts, earlier_denies, later_denies);
    if !covered {
        return None;
    }
    if !narrow.contains(&Protocol::Http) {
        return Some(who);
    }
    let upgrades = leaves_upgrades((a, earlier_denies), (b, later_denies))?;
    Some(Rest { upgrades, ..who })
}

fn covers_from(
    earlier: &Alternative<'_>,
    later: &Alternative<'_>,
    later_denies: bool,
) -> Option<Rest> {
    match (&earlier.rule.from, &later.rule.from) {
        (From::AnyWorkload, From::Anyone) if later_denies => {
            return Some(Rest {
                anonymous: true,
                ..Rest::default()
            });
        }
        (From::AnyWorkload | From::Sources(_), From::Anyone)
        | (From::Sources(_), From::AnyWorkload) => return None,
        (From::Anyone | From::AnyWorkload, _) => return Some(Rest::default()),
        (From::Sources(_), From::Sources(_)) => {}
    }
    let (a, b) = (earlier.source?, later.source?);
    let covered = within(&a.trust_domains, &b.trust_domains)
        && within(&a.namespaces, &b.namespaces)
        && within(&a.clusters, &b.clusters)
        && within(&a.service_accounts, &b.service_accounts)
        && a.match_labels
            .iter()
            .all(|label| b.match_labels.contains(label))
        && a.match_expressions.iter().all(|wanted| implied(wanted, b));
    let claims =
        !(a.clusters.is_empty() && a.match_labels.is_empty() && a.match_expressions.is_empty());
    // A rule that compares paths denies what servers read differently, whatever it does otherwise.
    let compares = |one: &Alternative<'_>| one.to.is_some_and(|to| !to.paths.is_empty());
    let differs = earlier.rule.action != later.rule.action || !compares(earlier) && compares(later);
    covered.then(|| Rest {
        unlabelled: claims && differs,
        ..Rest::default()
    })
}

/// Whether a list that is everything if it is empty holds all of another one.
fn within<T: PartialEq>(wide: &[T], narrow: &[T]) -> bool {
    wide.is_empty() || (!narrow.is_empty() && narrow.iter().all(|one| wide.contains(one)))
}

/// Whether a source's own labels make an expression true.
fn implied(wanted: &LabelExpression, source: &Source) -> bool {
    source.match_expressions.contains(wanted)
        || source.match_labels.iter().any(|(key, value)| {
            *key == wanted.key
                && match &wanted.operator {
                    LabelOperator::In(values) => values.contains(value),
                    LabelOperator::NotIn(values) => !values.contains(value),
                    LabelOperator::Exists => true,
                    LabelOperator::DoesNotExist => false,
                }
        })
}

/// Whether CONNECT and upgrades are left, by `methods`, `paths` and `upgrades`, each beside whether
/// its rule denies. `None` if more is.
fn leaves_upgrades(
    (a, earlier_denies): (&To, bool),
    (b, later_denies): (&To, bool),
) -> Option<bool> {
    if !within(&a.paths, &b.paths) {
        return None;
    }
    // A list that is empty covers what a Deny with one does, too, or only what is ordinary.
    let listed = |wide: &[String], narrow: &[String], ordinary: bool| match (
        wide.is_empty(),
        narrow.is_empty(),
    ) {
        (true, _) if earlier_denies => Some(false),
        (true, true) => Some(later_denies),
        (true, false) => ordinary.then_some(false),
        (false, _) => within(wide, narrow).then_some(false),
    };
    let no_connect = b.methods.iter().all(|method| method != "CONNECT");
    let methods = listed(&a.methods, &b.methods, no_connect)?;
    let upgrades = listed(&a.upgrades, &b.upgrades, false)?;
    Some(methods || upgrades)
}
