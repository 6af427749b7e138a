//! What a name in the settings may be made of.

/// `REGISTRY/PATH/NAME`, as Kubernetes has it in a pod. It goes into an expression.
pub(super) fn is_image(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    let name = |name: &str| !name.is_empty() && name.bytes().all(inner);
    let Some((registry, path)) = text.split_once('/') else {
        return false;
    };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "443"));
    (host.contains('.') || host == "localhost" || registry.contains(':'))
        && name(host)
        && port.parse::<u16>().is_ok()
        && path.split('/').all(name)
}

/// SPIFFE-ID §2.1: lower-case letters, digits, dots, hyphens and underscores.
pub(super) fn is_trust_domain(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=255).contains(&text.len()) && text.bytes().all(inner)
}

/// A label of a host name in lower case (RFC 1123 §2.1), which is what most of Kubernetes' names are.
pub(in crate::install) fn is_dns_label(text: &str) -> bool {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
