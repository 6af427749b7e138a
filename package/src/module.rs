//! Policies in a module's binary.
//!
//! A data section cannot be found from inside a module by its name, so the module exports a place
//! for an address and a length, zero as built. Carrying means: more memory from the start, one
//! segment behind what the linker laid out, and one that fills that place in. wasi-libc's
//! allocator ends its first heap at the linker's `__heap_end` and goes on in pages that it grows
//! the memory by (`wasi-libc/dlmalloc/src/malloc.c`, `sbrk.c`), so it never hands the segment out.

use std::ops::Range;

use wasm_encoder::{ConstExpr, DataCountSection, DataSection, MemorySection, RawSection};
use wasmparser::{ExternalKind, MemoryType, Operator, Parser, Payload, TypeRef};

/// The export by which the module's place for an address and a length is found.
pub const PLACE: &str = "warden_embedded_policies";
/// The largest module that Istio's agent takes, if nothing else is set
/// (`ISTIO_WASM_MAX_BINARY_SIZE_BYTES`).
pub const LARGEST: usize = 256 << 20;

const PAGE: u64 = 65_536;

/// Why a module cannot be packaged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModuleError {
    /// Not a WebAssembly module.
    #[error("no WebAssembly module: {0}")]
    Malformed(String),
    /// A module of somebody else, or one from before policies could be carried.
    #[error("no egress-warden module: it has no export `{PLACE}`")]
    Foreign,
    /// A module that this code does not know how to add to.
    #[error("the module's {0} is not of the expected form")]
    Unexpected(&'static str),
    /// Policies are in it already.
    #[error("the module carries policies already; give the module as it was built")]
    Carries,
    /// Too much for Istio's agent.
    #[error("the module would be {0} bytes; Istio's agent takes {LARGEST}")]
    TooLarge(usize),
}

impl From<wasmparser::Error> for ModuleError {
    fn from(error: wasmparser::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The module with these policies in it.
///
/// # Errors
/// Where the module is not this project's, or carries policies already.
pub fn carry(module: &[u8], policies: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let read = Read::of(module)?;
    if read.carried().is_some() {
        return Err(ModuleError::Carries);
    }
    let place = read.place.ok_or(ModuleError::Foreign)?;
    let memory = read.memory.ok_or(ModuleError::Unexpected("memory"))?;
    if read.segments.is_empty() {
        return Err(ModuleError::Unexpected("data"));
    }
    let address = memory.initial * PAGE;
    let length = u64::try_from(policies.len()).map_err(|_| ModuleError::Unexpected("memory"))?;
    let pages = memory.initial + length.div_ceil(PAGE);
    let room = memory.maximum.unwrap_or(PAGE).min(PAGE);
    let small = |number: u64| u32::try_from(number).ok();
    let (Some(address), Some(length), true) = (small(address), small(length), pages <= room) else {
        return Err(ModuleError::TooLarge(policies.len()));
    };
    let mut sections = wasm_encoder::Module::new();
    for (id, range) in &read.sections {
        let data = part(module, range)?;
        match Known::of(*id) {
            Known::Memory => {
                sections.section(MemorySection::new().memory(wasm_encoder::MemoryType {
                    minimum: pages,
                    maximum: memory.maximum,
                    memory64: false,
                    shared: false,
                    page_size_log2: None,
                }));
            }
            Known::DataCount => {
                let count = u32::try_from(read.segments.len()).unwrap_or(u32::MAX);
                sections.section(&DataCountSection { count: count + 2 });
            }
            Known::Data => {
                let mut segments = DataSection::new();
                for segment in &read.segments {
                    segments.raw(part(module, &segment.range)?);
                }
                let [a, l] = [address, length].map(u32::to_le_bytes);
                segments.active(0, &offset(place), [a, l].concat());
                segments.active(0, &offset(address), policies.iter().copied());
                sections.section(&segments);
            }
            Known::Other => {
                sections.section(&RawSection { id: *id, data });
            }
        }
    }
    let whole = sections.finish();
    if whole.len() > LARGEST {
        return Err(ModuleError::TooLarge(whole.len()));
    }
    Ok(whole)
}

/// The policies that a module carries, if any.
///
/// # Errors
/// Where the module is not this project's.
pub fn carried(module: &[u8]) -> Result<Option<&[u8]>, ModuleError> {
    let read = Read::of(module)?;
    if read.place.is_none() {
        return Err(ModuleError::Foreign);
    }
    Ok(read.carried())
}

/// Addresses are unsigned, constants are not.
fn offset(address: u32) -> ConstExpr {
    ConstExpr::i32_const(address.cast_signed())
}

fn part<'m>(module: &'m [u8], range: &Range<u64>) -> Result<&'m [u8], ModuleError> {
    let bound = |number: u64| usize::try_from(number).ok();
    bound(range.start)
        .zip(bound(range.end))
        .and_then(|(start, end)| module.get(start..end))
        .ok_or(ModuleError::Unexpected("layout"))
}

/// The sections that change.
enum Known {
    Memory,
    DataCount,
    Data,
    Other,
}

impl Known {
    /// Section ids as in the core specification, 5.5.2.
    const fn of(id: u8) -> Self {
        match id {
            5 => Self::Memory,
            11 => Self::Data,
            12 => Self::DataCount,
            _ => Self::Other,
        }
    }
}

/// A data segment with a fixed address.
struct Segment<'m> {
    range: Range<u64>,
    address: Option<u32>,
    data: &'m [u8],
}

/// What is known of a module.
#[derive(Default)]
struct Read<'m> {
    sections: Vec<(u8, Range<u64>)>,
    memory: Option<MemoryType>,
    place: Option<u32>,
    segments: Vec<Segment<'m>>,
}

impl<'m> Read<'m> {
    fn of(module: &'m [u8]) -> Result<Self, ModuleError> {
        let mut read = Self::default();
        let mut globals = Vec::new();
        let mut exported = None;
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            read.sections.extend(payload.as_section());
            match payload {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        match import?.ty {
                            TypeRef::Global(_) => globals.push(None),
                            TypeRef::Memory(_) => return Err(ModuleError::Unexpected("memory")),
                            _ => {}
                        }
                    }
                }
                Payload::MemorySection(memories) => {
                    let mut memories = memories.into_iter();
                    let (Some(memory), None) = (memories.next(), memories.next()) else {
                        return Err(ModuleError::Unexpected("memory"));
                    };
                    let memory = memory?;
                    if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                        return Err(ModuleError::Unexpected("memory"));
                    }
                    read.memory = Some(memory);
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        globals.push(constant(&global?.init_expr)?);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.name == PLACE && export.kind == ExternalKind::Global {
                            exported = usize::try_from(export.index).ok();
                        }
                    }
                }
                Payload::DataSection(segments) => {
                    for segment in segments {
                        read.segments.push(Segment::of(segment?)?);
                    }
                }
                _ => {}
            }
        }
        read.place = exported.and_then(|index| globals.get(index).copied().flatten());
        Ok(read)
    }

    fn at(&self, address: u32) -> Option<&'m [u8]> {
        let mut segments = self.segments.iter().rev();
        let segment = segments.find(|segment| segment.address == Some(address))?;
        Some(segment.data)
    }

    fn carried(&self) -> Option<&'m [u8]> {
        let written: [u8; 8] = self.at(self.place?)?.try_into().ok()?;
        let [a0, a1, a2, a3, l0, l1, l2, l3] = written;
        let address = u32::from_le_bytes([a0, a1, a2, a3]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let data = self.at(address)?;
        (u32::try_from(data.len()) == Ok(length)).then_some(data)
    }
}

impl<'m> Segment<'m> {
    fn of(data: wasmparser::Data<'m>) -> Result<Self, ModuleError> {
        let address = match &data.kind {
            wasmparser::DataKind::Active { offset_expr, .. } => constant(offset_expr)?,
            wasmparser::DataKind::Passive => None,
        };
        Ok(Self {
            range: data.range,
            address,
            data: data.data,
        })
    }
}

/// The value of an expression that is a constant.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Result<Option<u32>, ModuleError> {
    match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(Some(value.cast_unsigned())),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
