//! Where a request stands: which connection it came by, and which cluster Envoy would send it to.

use egress_policy::contract::POSITION;

use crate::host::Host;

/// The cluster that Envoy has chosen.
pub const CLUSTER: &[&str] = &["xds", "cluster_name"];
const CONNECTION_ID: &[&str] = &["connection", "id"];
/// Both in one, as the gateway's configuration writes them down: one host call instead of two.
const BOTH: &[&str] = &["filter_state", POSITION];

/// Where a request stands, as far as Envoy says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Envoy's number for the connection, which is never used twice.
    pub connection: Option<u64>,
    /// The cluster.
    pub cluster: Option<Vec<u8>>,
}

impl Position {
    /// As Envoy has it now.
    pub fn now(host: &impl Host) -> Self {
        let id = host.property(CONNECTION_ID).ok().flatten();
        Self {
            connection: id.and_then(|id| Some(u64::from_le_bytes(id.try_into().ok()?))),
            cluster: host.property(CLUSTER).ok().flatten(),
        }
    }

    /// As the gateway's configuration wrote it down right ahead of this filter, or as Envoy has it
    /// now if nothing legible is there.
    pub fn noted(host: &impl Host) -> Self {
        let noted = host.property(BOTH).ok().flatten();
        noted
            .as_deref()
            .and_then(Self::parse)
            .unwrap_or_else(|| Self::now(host))
    }

    fn parse(noted: &[u8]) -> Option<Self> {
        let (connection, cluster) = std::str::from_utf8(noted).ok()?.split_once(' ')?;
        Some(Self {
            connection: Some(connection.parse().ok()?),
            cluster: Some(cluster.as_bytes().to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[test]
    fn what_is_noted_counts_if_it_is_legible() {
        let live = Position {
            connection: Some(7),
            cluster: Some(b"live".to_vec()),
        };
        let rows: [(&[u8], Option<&str>); 7] = [
            (b"12345678 noted", Some("noted")),
            (b"12345678 outbound|80||a b", Some("outbound|80||a b")),
            (b"12345678 ", Some("")),
            (b"12345678", None),
            (b"-1 noted", None),
            (b" noted", None),
            (b"12345678 \xff", None),
        ];
        for (noted, cluster) in rows {
            let fake = Fake::app1().with(CLUSTER, "live").with(BOTH, noted);
            let expected = cluster.map_or_else(
                || live.clone(),
                |cluster| Position {
                    connection: Some(12_345_678),
                    cluster: Some(cluster.as_bytes().to_vec()),
                },
            );
            assert_eq!(Position::noted(&fake), expected, "{noted:?}");
            assert_eq!(Position::now(&fake), live);
        }
        let other = Fake::app1().with(CLUSTER, "live");
        assert_eq!(Position::noted(&other), live);
        assert_eq!(
            Position::now(&other.with(CONNECTION_ID, "12345678 ")).connection,
            None
        );
    }
}
