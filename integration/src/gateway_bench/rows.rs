//! What is measured beside what.

use super::load::Exchange;

/// What stands in the gateway's filter chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Variant {
    /// Nothing that judges: the gateway that all others are compared with.
    Bare,
    /// What stands around the module, without it: facts, a fixed verdict, RBAC lock, routes by verdict.
    Natives,
    /// This module with all that stands around it.
    Module,
    /// Another build of the module, for a comparison.
    OtherModule,
    /// Envoy's RBAC, a policy a rule.
    Rbac,
    /// Envoy's RBAC with a matcher tree.
    RbacTree,
    /// Envoy's Lua.
    Lua,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    /// What judges.
    pub(super) variant: Variant,
    /// Rules of the realistic policy, from which the rivals' configurations are made too.
    pub(super) rules: u32,
    /// What is done.
    pub(super) exchange: Exchange,
    /// Whether what is asked for is admitted.
    pub(super) admitted: bool,
}

impl Row {
    const fn of(variant: Variant, rules: u32, exchange: Exchange) -> Self {
        Self {
            variant,
            rules,
            exchange,
            admitted: true,
        }
    }

    const fn denied(self) -> Self {
        Self {
            admitted: false,
            ..self
        }
    }

    /// Its name in `results.json`, such as `http1/module/1000`.
    #[must_use]
    pub(super) fn id(self) -> String {
        let exchange = match self.exchange {
            Exchange::Http1 => "http1",
            Exchange::Http2 => "http2",
            Exchange::Tunnel => "tunnel",
        };
        let variant = self.variant.id();
        let denied = if self.admitted { "" } else { "/denied" };
        match self.variant {
            Variant::Bare | Variant::Natives => format!("{exchange}/{variant}{denied}"),
            _ => format!("{exchange}/{variant}/{}{denied}", self.rules),
        }
    }

    /// That which its ratio is to: the bare gateway of the same exchange.
    #[must_use]
    pub(super) const fn bare(self) -> Self {
        Self::of(Variant::Bare, SMALLEST, self.exchange)
    }
}

impl Variant {
    /// Its word in a row's name.
    #[must_use]
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Natives => "natives",
            Self::Module => "module",
            Self::OtherModule => "other-module",
            Self::Rbac => "rbac",
            Self::RbacTree => "rbac-tree",
            Self::Lua => "lua",
        }
    }

    /// Its name for people.
    #[must_use]
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Bare => "gateway without a filter",
            Self::Natives => "native parts alone",
            Self::Module => "egress-warden",
            Self::OtherModule => "egress-warden, the other build",
            Self::Rbac => "Envoy RBAC",
            Self::RbacTree => "Envoy RBAC, matcher tree",
            Self::Lua => "Envoy Lua",
        }
    }

    /// Every variant, by the word of a row's name.
    #[must_use]
    pub(super) fn of_id(id: &str) -> Option<Self> {
        const ALL: [Variant; 7] = [
            Variant::Bare,
            Variant::Natives,
            Variant::Module,
            Variant::OtherModule,
            Variant::Rbac,
            Variant::RbacTree,
            Variant::Lua,
        ];
        ALL.into_iter().find(|variant| variant.id() == id)
    }
}

/// The smallest policy.
pub(super) const SMALLEST: u32 = 10;

/// All rows. Those with which others are compared come first.
#[must_use]
pub(super) fn all() -> Vec<Row> {
    use Exchange::{Http1, Http2, Tunnel};
    use Variant::{Bare, Lua, Module, Natives, Rbac, RbacTree};
    let mut rows = vec![
        Row::of(Bare, SMALLEST, Http1),
        Row::of(Natives, SMALLEST, Http1),
        Row::of(Lua, SMALLEST, Http1),
        Row::of(Module, SMALLEST, Http1).denied(),
        Row::of(Rbac, SMALLEST, Http1).denied(),
        Row::of(Bare, SMALLEST, Http2),
        Row::of(Natives, SMALLEST, Http2),
        Row::of(Module, SMALLEST, Http2),
        Row::of(Module, 10_000, Http2),
        Row::of(Rbac, 1_000, Http2),
        Row::of(Bare, SMALLEST, Tunnel),
        Row::of(Module, SMALLEST, Tunnel),
        Row::of(Module, 10_000, Tunnel),
    ];
    for rules in [SMALLEST, 1_000, 10_000] {
        rows.extend([Module, Rbac, RbacTree].map(|variant| Row::of(variant, rules, Http1)));
    }
    rows.push(Row::of(Module, 100_000, Http1));
    rows
}

/// Those of the short form: enough to see that something has become several times dearer.
#[must_use]
pub(super) fn short() -> Vec<Row> {
    use Exchange::{Http1, Tunnel};
    use Variant::{Bare, Module, Natives, Rbac};
    vec![
        Row::of(Bare, SMALLEST, Http1),
        Row::of(Natives, SMALLEST, Http1),
        Row::of(Module, SMALLEST, Http1),
        Row::of(Module, 1_000, Http1),
        Row::of(Rbac, 1_000, Http1),
        Row::of(Module, SMALLEST, Http1).denied(),
        Row::of(Bare, SMALLEST, Tunnel),
        Row::of(Module, SMALLEST, Tunnel),
    ]
}

/// Two builds of the module beside each other.
#[must_use]
pub(super) fn two_builds() -> Vec<Row> {
    use Exchange::{Http1, Tunnel};
    use Variant::{Bare, Module, OtherModule};
    let mut rows = vec![
        Row::of(Bare, SMALLEST, Http1),
        Row::of(Bare, SMALLEST, Tunnel),
    ];
    for variant in [OtherModule, Module] {
        rows.extend([
            Row::of(variant, SMALLEST, Http1),
            Row::of(variant, 10_000, Http1),
            Row::of(variant, SMALLEST, Http1).denied(),
            Row::of(variant, SMALLEST, Tunnel),
        ]);
    }
    rows
}
