//! The lints, their codes, and what `--explain` says about them.

/// A code of `warden check`, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct CodeText {
    /// The stable word.
    pub code: &'static str,
    /// What `warden check --explain` says.
    pub explanation: &'static str,
    /// What to do about it, where that is the same each time.
    pub hint: Option<&'static str>,
}

/// The codes of lints.
#[must_use]
pub fn lint_codes() -> Vec<CodeText> {
    let codes = Lint::ALL.into_iter().map(|lint| CodeText {
        code: lint.code(),
        explanation: lint.explanation(),
        hint: Some(lint.hint()),
    });
    codes.collect()
}

/// A lint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lint {
    /// Earlier rules take everything that this one matches.
    UnreachableRule,
    /// An accepting rule selects by labels and by nothing that a certificate proves.
    LabelsAlone,
    /// A pattern covers a public suffix.
    WideName,
    /// A network of more than a provider's size.
    WideNetwork,
    /// The rule accepts nothing any more.
    Expired,
    /// The rule will accept nothing within 30 days.
    ExpiresSoon,
    /// An exception that nobody answers for.
    NoOwner,
    /// A Deny by name, which another name or the address gets around.
    DenyByName,
    /// Labels on a port where the server speaks first.
    LabelsOnServerFirst,
    /// A name that no public resolver knows.
    NeverResolves,
    /// A network inside the cluster or private space.
    InsideNetwork,
    /// The install settings say that more is the cluster's than can be.
    WideCluster,
    /// Two destinations with one meaning.
    DuplicateDestination,
    /// A Deny by labels: a caller without metadata is denied more than meant.
    DenyByLabels,
    /// A UDP rule that rests on labels.
    UdpLabels,
    /// A rule selects by cluster, which is the caller's claim.
    ClusterIsAClaim,
    /// A wildcard may lead to private addresses.
    PrivateAllowed,
    /// The first policy accepts what no rule names.
    DefaultAccept,
    /// Names that only opaque TCP could carry, which sidecars send by address.
    NamedTcp,
    /// An Inspect rule decides about requests that the gateway sends in TLS of its own.
    InspectedInTls,
    /// A UDP rule whose meaning no filter of the kernel can have.
    UdpInexpressible,
    /// A Deny by network in shadow, which no gateway can count where names lead.
    ShadowNetworks,
    /// A list of destinations that nobody renewed for long, or that is from the future.
    ListDate,
    /// Entries of a list that were taken otherwise than they stand.
    ListEntries,
    /// An opening rule for every destination.
    AnyDestination,
    /// An opening element without ports.
    AnyPort,
    /// A pattern of names that anybody can get from a provider.
    SharedHosting,
    /// A name whose letters look like others.
    ConfusableName,
    /// TLS on a port where it begins in the middle of a stream.
    TlsAfterPlaintext,
    /// Workloads for which no denial is enforced.
    ShadowWorkloads,
    /// A namespace of the cluster's own among the enforced ones.
    SystemNamespace,
    /// A Pass that leads to the policy's default.
    PassToDefault,
    /// A rule for a workload that the policy is not for.
    OutsideAppliesTo,
    /// A network with a metadata address of a cloud.
    MetadataAddress,
}

impl Lint {
    /// Every lint.
    pub const ALL: [Self; 34] = [
        Self::UnreachableRule,
        Self::LabelsAlone,
        Self::WideName,
        Self::WideNetwork,
        Self::Expired,
        Self::ExpiresSoon,
        Self::NoOwner,
        Self::DenyByName,
        Self::LabelsOnServerFirst,
        Self::NeverResolves,
        Self::InsideNetwork,
        Self::WideCluster,
        Self::DuplicateDestination,
        Self::DenyByLabels,
        Self::UdpLabels,
        Self::ClusterIsAClaim,
        Self::PrivateAllowed,
        Self::DefaultAccept,
        Self::NamedTcp,
        Self::InspectedInTls,
        Self::UdpInexpressible,
        Self::ShadowNetworks,
        Self::ListDate,
        Self::ListEntries,
        Self::AnyDestination,
        Self::AnyPort,
        Self::SharedHosting,
        Self::ConfusableName,
        Self::TlsAfterPlaintext,
        Self::ShadowWorkloads,
        Self::SystemNamespace,
        Self::PassToDefault,
        Self::OutsideAppliesTo,
        Self::MetadataAddress,
    ];

    /// The stable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnreachableRule => "unreachable_rule",
            Self::LabelsAlone => "labels_alone",
            Self::WideName => "wide_name",
            Self::WideNetwork => "wide_network",
            Self::Expired => "expired",
            Self::ExpiresSoon => "expires_soon",
            Self::NoOwner => "no_owner",
            Self::DenyByName => "deny_by_name",
            Self::LabelsOnServerFirst => "labels_on_server_first",
            Self::NeverResolves => "never_resolves",
            Self::InsideNetwork => "inside_network",
            Self::WideCluster => "wide_cluster",
            Self::DuplicateDestination => "duplicate_destination",
            Self::DenyByLabels => "deny_by_labels",
            Self::UdpLabels => "udp_labels",
            Self::ClusterIsAClaim => "cluster_is_a_claim",
            Self::PrivateAllowed => "private_allowed",
            Self::DefaultAccept => "default_accept",
            Self::NamedTcp => "named_tcp",
            Self::InspectedInTls => "inspected_in_tls",
            Self::UdpInexpressible => "udp_inexpressible",
            Self::ShadowNetworks => "shadow_networks",
            Self::ListDate => "list_date",
            Self::ListEntries => "list_entries",
            Self::AnyDestination => "any_destination",
            Self::AnyPort => "any_port",
            Self::SharedHosting => "shared_hosting",
            Self::ConfusableName => "confusable_name",
            Self::TlsAfterPlaintext => "tls_after_plaintext",
            Self::ShadowWorkloads => "shadow_workloads",
            Self::SystemNamespace => "system_namespace",
            Self::PassToDefault => "pass_to_default",
            Self::OutsideAppliesTo => "outside_applies_to",
            Self::MetadataAddress => "metadata_address",
        }
    }

    /// What to do about it, in one line.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::UnreachableRule => "move it up, narrow the earlier rule, or delete it",
            Self::LabelsAlone => {
                "add `namespaces` or `serviceAccounts`, which the certificate proves"
            }
            Self::WideName => "name the domains below it that are really needed",
            Self::WideNetwork => "name the provider's own networks, or use a name",
            Self::Expired => "delete it, or renew it with a new date and a ticket",
            Self::ExpiresSoon => "renew it or plan for its end",
            Self::NoOwner => "say who answers for it: `owner: team-name`",
            Self::DenyByName => {
                "deny by not accepting: accept the names that are needed, and let the default deny"
            }
            Self::LabelsOnServerFirst => {
                "add a service account, which is known before the server speaks"
            }
            Self::NeverResolves => {
                "check the spelling; names of the cluster's own Services do not go through the gateway"
            }
            Self::InsideNetwork => {
                "leave out the cluster's own networks, which never reach the gateway, and name the private ones beyond them"
            }
            Self::WideCluster => "state the networks that pods, Services and nodes really have",
            Self::DuplicateDestination => "keep one name and use it in both places",
            Self::DenyByLabels => "deny by namespace or service account",
            Self::UdpLabels => {
                "the node guard takes labels from the API server: whoever may edit pods may set them"
            }
            Self::ClusterIsAClaim => {
                "add a separate trust domain for each cluster, which the certificate proves"
            }
            Self::PrivateAllowed => "name the hosts that are inside, without a wildcard",
            Self::DefaultAccept => "let the first policy deny by default",
            Self::NamedTcp => egress_policy::ports::HINT,
            Self::InspectedInTls => egress_policy::ports::IN_TLS_HINT,
            Self::UdpInexpressible => {
                "say it by namespaces, labels, networks and ports, without an end: `warden render` refuses it as it is"
            }
            Self::ShadowNetworks => {
                "look for the networks in the access log, which has the address that was connected to"
            }
            Self::ListDate => {
                "take the list anew, review what changed, and write its day and digest"
            }
            Self::ListEntries => "nothing to do: look whether the list is the one that was meant",
            Self::AnyDestination => "name the destinations that are needed",
            Self::AnyPort => "state the ports: `ports: [443]`",
            Self::SharedHosting => {
                "name your own hosts, such as `my-bucket.s3.eu-central-1.amazonaws.com`"
            }
            Self::ConfusableName => {
                "check who has the name; write it in Latin letters if those are meant"
            }
            Self::TlsAfterPlaintext => {
                "write `protocols: [TCP]` with `networks`, or use the port where TLS comes first"
            }
            Self::ShadowWorkloads => "delete the entry when its denials have been looked at",
            Self::SystemNamespace => "take it out of `workloads.namespaces`",
            Self::PassToDefault => {
                "accept it in a later tier of this policy, or write `action: Deny`"
            }
            Self::OutsideAppliesTo => {
                "take it out of the rule, or have the workload added to `appliesTo`"
            }
            Self::MetadataAddress => {
                "leave it out, and except it from wider networks: `except: [169.254.169.254/32]`"
            }
        }
    }

    /// What `warden check --explain` says.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::UnreachableRule => {
                "The first match decides. Everything that this rule matches is matched by a rule\nbefore it in the same tier, or by one in an earlier tier that ends the walk, so it\ndecides nothing but what the message leaves to it. Where the earlier rule accepts and this one denies, the denial\nis only on paper."
            }
            Self::LabelsAlone => {
                "Namespace and service account come from the caller's certificate. Labels are what\nthe caller's sidecar says of itself: whoever controls any pod in the mesh can send\nthem. A rule that opens for a label in every namespace opens for every pod."
            }
            Self::WideName => {
                "The part after the star is a public suffix (https://publicsuffix.org): anybody can\nregister a name below it, so the pattern opens to everybody, an attacker included."
            }
            Self::WideNetwork => {
                "A network wider than /8 (IPv4) or /20 (IPv6) is a good part of the internet. A rule\nthat accepts it hardly restricts anything."
            }
            Self::Expired => "The rule's `expires` has passed. An expired rule no longer accepts.",
            Self::ExpiresSoon => {
                "The rule's `expires` lies within 30 days. After it, what the rule accepts is denied."
            }
            Self::NoOwner => {
                "A rule with `expires` is an exception. Without `owner` it is unclear whom to ask\nwhen it ends, and it is renewed for ever or breaks something."
            }
            Self::DenyByName => {
                "A Deny by name keeps out the name, not the server: the same server usually has other\nnames and an address. As a safety measure a deny list is gone around; what is not\naccepted is denied anyway."
            }
            Self::LabelsOnServerFirst => {
                "On this port the server speaks first (SSH, SMTP, FTP, databases). Labels may arrive\nafter the server's first bytes, so the connection is undecided meanwhile, and closed\nafter its limit."
            }
            Self::NeverResolves => {
                "The name has a single label or ends in a suffix that no public resolver knows, such as\n`.local`. Outside traffic never carries it, so the rule never matches, unless the\ngateway's resolver serves the zone."
            }
            Self::InsideNetwork => {
                "The network lies in private space, or among the cluster's own (`spec.cluster.networks` of the\ninstall settings, `--cluster-network`). What is dialled among those does not go through the\ngateway: sidecars send it straight, so no rule ever sees it, whatever it says; the node's\nguard and NetworkPolicies hold there. Private networks beyond them do go through the\ngateway and are judged: a rule that accepts one opens inside addresses to whoever it selects."
            }
            Self::WideCluster => {
                "What `spec.cluster.networks` names goes past the gateway unjudged. A network wider\nthan /8 (IPv4) or /32 (IPv6), or one of public address space, is more than a cluster's own:\nwhat else is in it could be reached without a rule, were it not for the node guard, which\ntakes the same list."
            }
            Self::DuplicateDestination => {
                "Two named destinations say the same. A change to one will be forgotten in the other."
            }
            Self::DenyByLabels => {
                "A caller that withholds its labels must not get past a Deny, so without metadata the\nrule counts as undecided and the stricter outcome holds: callers without metadata are\ndenied more than the rule says."
            }
            Self::UdpLabels => {
                "UDP is enforced in the node's kernel, which knows a pod by what the API server says\nof it. No certificate bounds the labels there."
            }
            Self::ClusterIsAClaim => {
                "The cluster is peer metadata, not part of the certificate. Where two clusters share a\ntrust domain, a namespace of one is the same namespace of the other."
            }
            Self::PrivateAllowed => {
                "`allowPrivate` on a wildcard lets every name below it lead to an inside address, and\nwhoever controls DNS for one of them chooses which."
            }
            Self::DefaultAccept => {
                "What no rule of the first policy denies is accepted. Only a later policy, under a\nstricter first one, can safely do that."
            }
            Self::InspectedInTls => {
                "Requests to a destination with `tls` leave by a cluster that speaks TLS and presents\nthe client certificate. An inspection proxy would get them in the clear and send them on so, so\nthe gateway gives it none: where an Inspect rule decides about them, they are denied,\nalthough the rule says Inspect. Callers, names and ports are compared, other conditions\nare not."
            }
            Self::NamedTcp => {
                "Opaque bytes show no name. A sidecar tunnels them to the gateway by the address that\nthe application dialled, so a rule that names the destination matches nothing that\ncomes from a workload behind a sidecar, unless the name has an address that stands for\nit: with `tunnel.names` in the install settings `warden render` gives one to every whole\nname at stated ports, and the sidecar asks for the name. A wildcard cannot have one. What\nelse can match is a client that speaks the mesh's TLS to the gateway's tunnel port and asks\nfor the name by CONNECT itself. A port that no rule declares as HTTP or TLS carries\nopaque TCP, but for 80 and 443. Nothing is opened by mistake: what does not match is\ndenied."
            }
            Self::UdpInexpressible => {
                "UDP does not go through the gateway: filters of the kernel let it out, which only open,\nand know a pod by its namespace and labels, a destination by networks and ports, and no\ntime. What a rule says beyond that they cannot hold to, so `warden render` refuses the\npolicy instead of opening more."
            }
            Self::ShadowNetworks => {
                "A Deny by network holds for a name by leaving the network out of the name's addresses\nbefore anything connects. In shadow nothing is left out, and when a request is judged\nits addresses are not known yet, so the gateway cannot count what the rule would\ndeny. What is dialled by its number is counted."
            }
            Self::ListDate => {
                "A list in a file is as good as the day on which it was taken. After 90 days some of\nits names have changed hands or lead nowhere; a day in the future was not the day."
            }
            Self::ListEntries => {
                "Lists that others publish are taken as they come. An address without a prefix length\nbecomes a network of one address, and an entry that stands in the list before is left\nout. In a policy file both are errors."
            }
            Self::AnyDestination => {
                "The rule names neither a name nor a network, so it opens every destination that the gateway can\nreach: what is not listed is no longer denied. The metadata addresses of clouds are among them,\nand inside addresses beyond the cluster's own networks."
            }
            Self::AnyPort => {
                "An element without `ports` is about every port. Beside the service that is meant it opens what\nelse listens there: SSH, databases, tunnels."
            }
            Self::SharedHosting => {
                "A provider gives names below this one to each of its customers: buckets, functions, sites, virtual\nmachines. The pattern opens to all of them, so to whoever has an account there, an attacker\nincluded. A storage host that serves every customer's buckets by path opens the same.\nThe parents of public suffixes (https://publicsuffix.org) and a list of object stores and\ncontent networks tell which they are."
            }
            Self::ConfusableName => {
                "The name holds letters of several scripts in one label, or letters that look like Latin ones\n(UTS 39), or signs that no domain name holds. Such names are made to be taken for another, or\ncame into the policy by pasting. It is compared as its A-label (`xn--...`), so it never matches the\nname that it looks like."
            }
            Self::TlsAfterPlaintext => {
                "`protocols: [TLS]` expects a ClientHello as the first bytes. On this port the server speaks first,\nor TLS begins in the middle of a stream after a request in the clear (STARTTLS), so the gateway\nfinds no ClientHello and closes the connection. Mail has ports where TLS comes first: 465, 993\nand 995; LDAP has 636. PostgreSQL from version 17 on can begin with TLS\n(`sslnegotiation=direct`): if every client does, the rule is right."
            }
            Self::ShadowWorkloads => {
                "What the policy denies to these workloads is let through, and only reported, until `expires`. For\nthem the policy restricts nothing."
            }
            Self::SystemNamespace => {
                "What runs there keeps the cluster going: DNS, the control planes of Kubernetes and of the mesh. Many\nof those pods have no sidecar or use the node's network; enforcement cuts them off from what\nthey need, and with them everything else."
            }
            Self::PassToDefault => {
                "`Pass` goes on with the next tier of the same policy. No rule of a later tier accepts any of what\nthis one passes on, so the policy's default denies it. Another policy cannot open it either:\neach policy that applies must accept."
            }
            Self::OutsideAppliesTo => {
                "The policy is only asked about the workloads of its `appliesTo`. The rule selects another one, so\nthat part of it never matches."
            }
            Self::MetadataAddress => {
                "The network holds an address at which a cloud gives a machine its credentials or settings. The\nrequest would come from the gateway, so the answer is about the gateway's own node: its\ncredentials would go to the workload. Workloads get credentials of their own from the cloud's\nworkload identity, without this address."
            }
        }
    }
}
