//! `--from` of a question about everything that a caller may reach.

use egress_policy::facts::{Fact, OwnedClaims};
use egress_policy::model::{ServiceAccount, Source};

use super::Question;
use crate::bundle::PolicyBundle;
use crate::failure::Failure;
use crate::owned_facts::{Who, parse_caller};
use crate::regions::compiled::{NO_CERTIFICATE, PLAINTEXT, WORKLOAD};

/// A caller, as far as it is stated.
pub(super) struct Origin {
    /// The class of its identity.
    pub(super) kind: usize,
    /// The identity of a workload.
    pub(super) source: Option<Source>,
    /// What it claims of itself.
    pub(super) claims: Fact<OwnedClaims>,
}

const HINT: &str = "NAMESPACE or NAMESPACE/SERVICE-ACCOUNT[,label=KEY=VALUE]...[,cluster=NAME][,trust-domain=NAME], a spiffe:// id, plaintext or no-certificate";

/// Reads the text.
pub(super) fn read(text: &str, bundle: &PolicyBundle) -> Result<Question, Failure> {
    let heads = bundle.policies.iter().map(|policy| &policy.head);
    let mut trust_domains = heads.flat_map(|head| &head.trust_domains);
    let trust_domain = trust_domains.next().map_or("cluster.local", String::as_str);
    let mut question = Question::new(text);
    // A namespace stands for every service account in it.
    let (first, rest) = text.split_once(',').unwrap_or((text, ""));
    let words = [
        "plaintext",
        "no-certificate",
        "malformed",
        "unknown",
        "missing",
    ];
    let whole = !first.contains('/') && !words.contains(&first);
    let text = match (whole, rest) {
        (true, "") => format!("{first}/any"),
        (true, rest) => format!("{first}/any,{rest}"),
        (false, _) => text.to_owned(),
    };
    let (caller, claims) = parse_caller(&text, trust_domain)
        .map_err(|failure| Failure::new(failure.to_string()).with_hint(HINT))?;
    let Fact::Known(who) = caller else {
        let why = format!("`{first}` is about no caller, so there is nothing that it may reach");
        return Err(Failure::new(why).with_hint(HINT));
    };
    let (kind, source) = match who {
        Who::Workload {
            trust_domain,
            namespace,
            service_account,
        } => {
            let claims_other = claims.as_ref().known();
            if claims_other.is_some_and(|claims| claims.namespace != namespace) {
                let why = "what a workload claims of another namespace counts for nothing";
                return Err(Failure::new(why).with_hint("write `claims=missing` instead"));
            }
            let account = ServiceAccount {
                namespace: namespace.clone(),
                name: service_account,
            };
            let source = Source {
                trust_domains: vec![trust_domain],
                namespaces: if whole { vec![namespace] } else { Vec::new() },
                service_accounts: if whole { Vec::new() } else { vec![account] },
                ..Source::default()
            };
            (WORKLOAD, Some(source))
        }
        Who::NoCertificate => (NO_CERTIFICATE, None),
        Who::Plaintext => (PLAINTEXT, None),
        Who::Malformed => {
            question.refused = true;
            question
                .said
                .push("its certificate names no workload, so everything is denied".to_owned());
            (NO_CERTIFICATE, None)
        }
    };
    if source.is_some() && matches!(claims, Fact::Pending) {
        question.said.push(
            "labels are not known, so they are told with what rests on them; state them with `,label=KEY=VALUE` or `,claims=none`"
                .to_owned(),
        );
    }
    question.origin = Some(Origin {
        kind,
        source,
        claims,
    });
    Ok(question)
}
