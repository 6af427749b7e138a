//! Store and kernel kept in step: the operations that plugin and agent share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::attachment::{Attachment, AttachmentId, GuardMode};
use crate::config::NodeConfig;
use crate::nft::{Nft, NftError};
use crate::rules::{self, Counted, Element, ElementKey, Family, ServiceEndpoints, TABLE};
use crate::store::{Baseline, Locked, Record, Store, StoreError, link_key};

/// Why an operation failed. The kernel then holds what it held before.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The records could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel's rules could not be read or written.
    #[error(transparent)]
    Nft(#[from] NftError),
}

/// The transaction that admits a pod.
struct Admission {
    script: String,
    /// Whether the sets of UDP grants have to be written anew.
    grants_differ: bool,
}

/// The node guard: records and kernel, kept in step.
#[derive(Debug, Clone)]
pub struct Guard {
    store: Store,
    nft: Nft,
}

impl Guard {
    /// The node guard over `store` and `nft`.
    #[must_use]
    pub fn new(store: Store, nft: Nft) -> Self {
        Self { store, nft }
    }

    /// The records.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the kernel treat `record` as `config` says. The record is written first, so that
    /// nothing the kernel holds is ever without one.
    ///
    /// # Errors
    /// [`GuardError`]; the pod must then not start.
    pub fn admit(
        &self,
        locked: &Locked,
        config: &NodeConfig,
        record: Record,
    ) -> Result<(), GuardError> {
        let mut admission = self.begin(locked, config, record)?;
        if admission.grants_differ {
            self.replace_grants(&mut admission.script, None)?;
        }
        self.finish(locked, config, &admission)
    }

    /// The same, and whatever else somebody has changed in the tables is as it should be
    /// afterwards: rules, sets and chains that are not the node guard's, destinations and UDP
    /// grants. The elements of other pods are the agent's affair: to look at them all would cost
    /// more with every pod.
    ///
    /// # Errors
    /// As [`Guard::admit`].
    pub fn admit_into_whole_tables(
        &self,
        locked: &Locked,
        config: &NodeConfig,
        record: Record,
    ) -> Result<(), GuardError> {
        let mut admission = self.begin(locked, config, record)?;
        let baseline = self.store.baseline()?;
        let intact = match self.structure_in_kernel() {
            Ok(rules) => rules == baseline.rules,
            Err(NftError::Missing(_)) => false,
            Err(error) => return Err(error.into()),
        };
        if !intact {
            return self.rebuild(locked, config);
        }
        rules::replace_destinations(&mut admission.script, config, &self.store.followed()?);
        if admission.grants_differ || self.grants_in_kernel()? != baseline.grants {
            admission.grants_differ = true;
            self.replace_grants(&mut admission.script, None)?;
        }
        self.finish(locked, config, &admission)
    }

    /// Writes the record, and the transaction from what the kernel holds of the pod.
    fn begin(
        &self,
        locked: &Locked,
        config: &NodeConfig,
        record: Record,
    ) -> Result<Admission, GuardError> {
        let before = self.store.get(&record.attachment.id)?;
        if let Some(before) = before
            .as_ref()
            .filter(|before| before.attachment != record.attachment)
        {
            self.forget(locked, before)?;
        }
        let mode = GuardMode::of(config, &record.attachment, record.identity.as_ref());
        let grants = mode.udp().to_vec();
        let had_grants = before.is_some_and(|before| !before.grants.is_empty());
        let record = Record { grants, ..record };
        self.store.put(locked, &record)?;
        Ok(Admission {
            script: self.transition(&record, &mode)?,
            grants_differ: had_grants || !record.grants.is_empty(),
        })
    }

    fn finish(
        &self,
        locked: &Locked,
        config: &NodeConfig,
        admission: &Admission,
    ) -> Result<(), GuardError> {
        match self.nft.apply(&admission.script, locked.file()) {
            Err(NftError::Missing(_)) => self.rebuild(locked, config),
            Ok(()) if admission.grants_differ => self.remember_grants(locked),
            result => Ok(result?),
        }
    }

    /// Appends the grants of all records but `without`. Only pods with grants pay for the scan.
    fn replace_grants(
        &self,
        script: &mut String,
        without: Option<&AttachmentId>,
    ) -> Result<(), GuardError> {
        let mut grants = Vec::new();
        for record in self
            .store
            .all()?
            .iter()
            .filter(|record| Some(&record.attachment.id) != without)
        {
            let mode = GuardMode::Guarded {
                count_only: false,
                udp: record.grants.clone(),
            };
            grants.extend(rules::grants_of(&record.attachment, &mode));
        }
        rules::replace_grants(script, &grants);
        Ok(())
    }

    /// Removes everything about `id`; what is missing already is no error.
    ///
    /// # Errors
    /// [`GuardError`]; calling again continues.
    pub fn withdraw(&self, locked: &Locked, id: &AttachmentId) -> Result<(), GuardError> {
        match self.store.get(id) {
            Ok(Some(record)) => self.forget(locked, &record),
            // What it was about is not known any more: the agent removes the elements that no
            // record wants.
            Ok(None) | Err(StoreError::Decode { .. }) => Ok(self.store.sweep(locked, id)?),
            Err(error) => Err(error.into()),
        }
    }

    fn forget(&self, locked: &Locked, record: &Record) -> Result<(), GuardError> {
        let mut script = String::new();
        let mut gone = possible(&record.attachment);
        gone.extend(rules::counted(&record.attachment));
        rules::delete(&mut script, &self.unshared(record, gone)?);
        let had_grants = !record.grants.is_empty();
        if had_grants {
            self.replace_grants(&mut script, Some(&record.attachment.id))?;
        }
        match self.nft.apply(&script, locked.file()) {
            Ok(()) if had_grants => self.remember_grants(locked)?,
            // Without tables there is nothing to remove.
            Ok(()) | Err(NftError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.store.remove(locked, record)?)
    }

    /// The transaction from whatever the kernel holds of this pod to `mode`.
    fn transition(&self, record: &Record, mode: &GuardMode) -> Result<String, GuardError> {
        let wanted = rules::elements(&record.attachment, mode);
        let keep: BTreeSet<&Element> = wanted.iter().collect();
        let stale = possible(&record.attachment)
            .into_iter()
            .filter(|element| !keep.contains(element))
            .collect();
        // An exempt pod takes nothing away from another pod with the same address; a guarded
        // one decides for both, with the stricter sets first in every chain.
        let stale = if wanted.is_empty() {
            self.unshared(record, stale)?
        } else {
            stale
        };
        let mut script = String::new();
        rules::delete(&mut script, &stale);
        rules::add(&mut script, &wanted);
        Ok(script)
    }

    /// The elements that no other record uses.
    fn unshared(
        &self,
        record: &Record,
        elements: Vec<Element>,
    ) -> Result<Vec<Element>, GuardError> {
        let attachment = &record.attachment;
        let link = link_key(attachment);
        let used = |keys: &[&str]| self.store.used_by_another(&attachment.id, keys);
        let link_shared = used(&[&link])?;
        let (mut shared, mut shared_with_link) = (BTreeSet::new(), BTreeSet::new());
        for address in &attachment.addresses {
            let text = address.to_string();
            if used(&[&text, &link])? {
                shared_with_link.insert(*address);
            }
            if used(&[&text])? {
                shared.insert(*address);
            }
        }
        let free = |element: &Element| match &element.key {
            ElementKey::Link(_) => !link_shared,
            ElementKey::Address(address) => !shared.contains(address),
            ElementKey::LinkAddress(_, address) => !shared_with_link.contains(address),
            ElementKey::LinkAdvertised(_, address) => {
                !shared_with_link.contains(&IpAddr::V6(*address))
            }
            ElementKey::Foreign(_) => true,
        };
        Ok(elements.into_iter().filter(free).collect())
    }

    /// Replaces both tables by what records and configuration say.
    ///
    /// # Errors
    /// [`GuardError`].
    pub fn rebuild(&self, locked: &Locked, config: &NodeConfig) -> Result<(), GuardError> {
        let (records, followed) = (self.store.all()?, self.store.followed()?);
        let pods: Vec<rules::GuardedInterface<'_>> = records
            .iter()
            .map(|record| rules::GuardedInterface {
                attachment: &record.attachment,
                mode: GuardMode::of(config, &record.attachment, record.identity.as_ref()),
            })
            .collect();
        self.nft
            .apply(&rules::rebuild(config, &followed, &pods), locked.file())?;
        self.remember_rules(locked)
    }

    /// Rewrites rules and destinations, pods and their counters untouched. Other limits than the
    /// kernel's replace everything: elements keep the limit that they were made with, and the
    /// kernel says nothing when a transaction defines a set anew.
    ///
    /// # Errors
    /// [`GuardError`]; [`NftError::Refused`] also when an older version's sets are in the
    /// way, which [`Guard::rebuild`] replaces.
    pub fn refresh(
        &self,
        locked: &Locked,
        config: &NodeConfig,
        followed: &ServiceEndpoints,
    ) -> Result<(), GuardError> {
        self.store.set_followed(locked, followed)?;
        if self.other_limits(config)? {
            return self.rebuild(locked, config);
        }
        let mut script = rules::refresh(config, followed);
        let known = self.store.baseline()?.grants;
        match self.grants_in_kernel() {
            Ok(grants) if grants == known => {}
            Ok(_) | Err(NftError::Missing(_)) => self.replace_grants(&mut script, None)?,
            Err(error) => return Err(error.into()),
        }
        self.nft.apply(&script, locked.file())?;
        // What somebody else declared stays, empty, until the tables are made anew.
        if !rules::only_ours(&self.structure_in_kernel()?) {
            return self.rebuild(locked, config);
        }
        self.remember_rules(locked)
    }

    /// Whether the kernel limits, and not as `config` says.
    fn other_limits(&self, config: &NodeConfig) -> Result<bool, NftError> {
        let limits = config.gateway_limits();
        let count = rules::count_over(limits);
        let counting = ["list", "chain", "inet", TABLE, "workload_common"];
        match self.nft.read(&counting) {
            Ok(text) if text.contains(&format!("{count} }}")) => {}
            Ok(_) => return Ok(true),
            // What is not there yet is made as it should be.
            Err(NftError::Missing(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        let wanted = (limits.new_connections_per_second, limits.burst);
        for (family, set) in rules::RATE_SETS {
            let set = ["-j", "-t", "list", "set", family.keyword(), TABLE, set];
            match self.nft.read(&set) {
                Ok(text) => match rules::parse_rate(&text) {
                    Ok(found) if found == Some(wanted) => {}
                    Ok(_) | Err(_) => return Ok(true),
                },
                Err(NftError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn remember_rules(&self, locked: &Locked) -> Result<(), GuardError> {
        Ok(self.store.set_baseline(locked, &self.tables_in_kernel()?)?)
    }

    fn remember_grants(&self, locked: &Locked) -> Result<(), GuardError> {
        let grants = self.grants_in_kernel()?;
        let baseline = self.store.baseline()?;
        Ok(self
            .store
            .set_baseline(locked, &Baseline { grants, ..baseline })?)
    }

    /// Both tables as the kernel holds them now, but for the elements that stand for pods.
    ///
    /// # Errors
    /// [`NftError::Missing`] if a table or set is gone.
    pub fn tables_in_kernel(&self) -> Result<Baseline, NftError> {
        let mut destinations = String::new();
        for family in Family::ALL {
            let sets = rules::destination_sets(family);
            destinations += &self.sets_in_kernel(family, sets.iter().map(String::as_str))?;
        }
        Ok(Baseline {
            rules: self.structure_in_kernel()?,
            destinations,
            grants: self.grants_in_kernel()?,
        })
    }

    /// Everything that both tables declare, whoever did, and all rules, counters left out. Only
    /// `list ruleset` passes over the elements of sets before it reads them, so that it takes no
    /// longer with many pods (`nft` 1.0.6).
    fn structure_in_kernel(&self) -> Result<String, NftError> {
        let mut text = String::new();
        for family in Family::ALL {
            let all = self
                .nft
                .read(&["-s", "-t", "list", "ruleset", family.keyword()])?;
            let own = rules::own_table(family, &all);
            text += own.ok_or_else(|| NftError::Missing(format!("table {family} {TABLE}")))?;
        }
        Ok(text)
    }

    fn grants_in_kernel(&self) -> Result<String, NftError> {
        self.sets_in_kernel(Family::Inet, rules::GRANT_SETS.into_iter())
    }

    /// The elements of some sets. One set per run: `nft` 1.0.6 forgets all but the last that one
    /// script lists.
    fn sets_in_kernel<'s>(
        &self,
        family: Family,
        sets: impl Iterator<Item = &'s str>,
    ) -> Result<String, NftError> {
        let mut text = String::new();
        for set in sets {
            let listing = ["-s", "list", "set", family.keyword(), TABLE, set];
            let listing = self.nft.read(&listing)?;
            let elements = rules::set_elements(&listing).join(", ");
            // Writing to a String does not fail.
            let _ = writeln!(text, "{family} {set} {elements}");
        }
        Ok(text)
    }

    /// The elements of all pods as the kernel holds them.
    ///
    /// # Errors
    /// [`NftError::Missing`] if a table is gone.
    pub fn elements_in_kernel(&self) -> Result<BTreeSet<Element>, NftError> {
        let mut all = BTreeSet::new();
        for family in Family::ALL {
            let text = self
                .nft
                .read(&["-j", "list", "table", family.keyword(), TABLE])?;
            let listing = rules::parse_listing(family, &text);
            all.extend(listing.map_err(|error| {
                NftError::Refused(format!("`nft -j` does not decode: {error}"))
            })?);
        }
        Ok(all)
    }

    /// Packets counted so far, by address or link, over both tables.
    ///
    /// # Errors
    /// [`NftError::Missing`] if a table is gone.
    pub fn counted_in_kernel(
        &self,
        counted: Counted,
    ) -> Result<BTreeMap<ElementKey, u64>, NftError> {
        let mut all = BTreeMap::new();
        for family in Family::ALL {
            let text = self
                .nft
                .read(&["-j", "list", "table", family.keyword(), TABLE])?;
            let counters = rules::parse_counters(counted, &text);
            for (key, packets) in counters
                .map_err(|error| NftError::Refused(format!("`nft -j` does not decode: {error}")))?
            {
                *all.entry(key).or_default() += packets;
            }
        }
        Ok(all)
    }

    /// Applies a transaction of pod elements.
    ///
    /// # Errors
    /// [`NftError`]; nothing of it is then applied.
    pub fn apply(&self, locked: &Locked, script: &str) -> Result<(), NftError> {
        self.nft.apply(script, locked.file())
    }

    /// The elements the kernel should hold for the pods in the records.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn elements_wanted(&self, config: &NodeConfig) -> Result<BTreeSet<Element>, StoreError> {
        let records = self.store.all()?;
        let of = |record: &Record| {
            let mode = GuardMode::of(config, &record.attachment, record.identity.as_ref());
            rules::elements(&record.attachment, &mode)
        };
        Ok(records.iter().flat_map(of).collect())
    }

    /// Compares the kernel with what `record` should be; the first difference found.
    ///
    /// # Errors
    /// [`GuardError`] if the comparison itself fails.
    pub fn drift(
        &self,
        config: &NodeConfig,
        record: &Record,
    ) -> Result<Option<String>, GuardError> {
        match self.tables_in_kernel() {
            Ok(tables) if tables == self.store.baseline()? => {}
            Ok(_) => return Ok(Some("the rules were changed".to_owned())),
            Err(NftError::Missing(what)) => return Ok(Some(format!("rules are missing: {what}"))),
            Err(error) => return Err(error.into()),
        }
        let mode = GuardMode::of(config, &record.attachment, record.identity.as_ref());
        for element in rules::elements(&record.attachment, &mode) {
            let set = element.set;
            let key = format!("{{ {} }}", element.key);
            match self
                .nft
                .read(&["get", "element", element.family.keyword(), TABLE, set, &key])
            {
                Ok(_) => {}
                Err(NftError::Missing(_)) => {
                    return Ok(Some(format!("element is missing: {element}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Removes both tables and all records.
    ///
    /// # Errors
    /// [`GuardError`].
    pub fn uninstall(self) -> Result<(), GuardError> {
        let locked = self.store.lock()?;
        let mut script = String::new();
        for family in Family::ALL {
            let _ = writeln!(
                script,
                "add table {family} {TABLE}\ndelete table {family} {TABLE}"
            );
        }
        self.nft.apply(&script, locked.file())?;
        Ok(self.store.destroy(locked)?)
    }
}

/// Every element that the kernel may hold for an interface, whatever configuration was in
/// force when it was written.
fn possible(attachment: &Attachment) -> Vec<Element> {
    let workload = GuardMode::Guarded {
        count_only: true,
        udp: Vec::new(),
    };
    let gateway = GuardMode::Gateway { count_only: true };
    let all: BTreeSet<Element> = [workload, gateway]
        .iter()
        .flat_map(|mode| rules::elements(attachment, mode))
        .collect();
    all.into_iter().collect()
}
