//! Certificates made on the spot: the mesh's authority with one SPIFFE identity per workload, and
//! the outside world's authority, which the mesh does not trust.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType, string::Ia5String,
};

/// An authority that signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub struct Leaf {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn new(name: &str) -> Result<Self> {
        Self::with(name, KeyPair::generate()?)
    }

    /// An authority whose key is kept in a file, and made where there is none yet: what trusts it
    /// trusts it after a restart too.
    ///
    /// # Errors
    /// If the file cannot be written, or holds something else.
    pub fn kept(name: &str, file: &Path) -> Result<Self> {
        if !file.is_file() {
            std::fs::write(file, KeyPair::generate()?.serialize_pem())?;
        }
        let key = std::fs::read_to_string(file)?;
        Self::with(name, KeyPair::from_pem(&key)?)
    }

    fn with(name: &str, key: KeyPair) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::OrganizationName, name);
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        Ok(Self { issuer })
    }

    /// Its own certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A workload's certificate: its only name is the SPIFFE identity.
    ///
    /// # Errors
    /// If the identity is not ASCII.
    pub fn workload(&self, identity: &str) -> Result<Leaf> {
        self.sign([SanType::URI(Ia5String::try_from(identity)?)])
    }

    /// A workload's certificate that also carries a DNS name, for clients that check one.
    ///
    /// # Errors
    /// If a name is not ASCII.
    pub fn workload_named(&self, identity: &str, name: &str) -> Result<Leaf> {
        self.sign([
            SanType::URI(Ia5String::try_from(identity)?),
            SanType::DnsName(Ia5String::try_from(name)?),
        ])
    }

    /// A certificate with these URI names, however many.
    ///
    /// # Errors
    /// If one is not ASCII.
    pub fn with_uris(&self, uris: &[String]) -> Result<Leaf> {
        let names = uris
            .iter()
            .map(|uri| Ok(SanType::URI(Ia5String::try_from(uri.as_str())?)));
        self.sign(names.collect::<Result<Vec<_>>>()?)
    }

    /// A server's certificate.
    ///
    /// # Errors
    /// If the name is not ASCII.
    pub fn server(&self, name: &str) -> Result<Leaf> {
        self.server_of(&[name])
    }

    /// A server's certificate for several names.
    ///
    /// # Errors
    /// If one is not ASCII.
    pub fn server_of(&self, names: &[&str]) -> Result<Leaf> {
        self.server_of_both(names, &[])
    }

    /// A server's certificate for an address.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn server_at(&self, address: IpAddr) -> Result<Leaf> {
        self.server_of_both(&[], &[address])
    }

    /// A server's certificate for names and addresses.
    ///
    /// # Errors
    /// If a name is not ASCII.
    pub fn server_of_both(&self, names: &[&str], addresses: &[IpAddr]) -> Result<Leaf> {
        let names = names
            .iter()
            .map(|name| Ok(SanType::DnsName(Ia5String::try_from(*name)?)));
        let mut all = names.collect::<Result<Vec<_>>>()?;
        all.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.sign(all)
    }

    /// A client's certificate as Kubernetes reads it: a user and the user's group.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Leaf> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign_with(&params)
    }

    fn sign(&self, names: impl Into<Vec<SanType>>) -> Result<Leaf> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.into();
        self.sign_with(&params)
    }

    fn sign_with(&self, params: &CertificateParams) -> Result<Leaf> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Leaf {
    /// Writes `NAME.pem` and `NAME.key`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<()> {
        std::fs::write(directory.join(format!("{name}.pem")), &self.certificate)?;
        std::fs::write(directory.join(format!("{name}.key")), &self.key)?;
        Ok(())
    }
}
