use wasm_encoder::{ExportKind, ExportSection, GlobalSection, GlobalType, ValType};

use super::*;

const PLACE_AT: u32 = 1_024;

/// A module as the linker lays one out: memory, the place as an exported global, a data segment.
fn built(pages: u64, maximum: Option<u64>, place: Option<&str>) -> Vec<u8> {
    let mut module = wasm_encoder::Module::new();
    module.section(MemorySection::new().memory(wasm_encoder::MemoryType {
        minimum: pages,
        maximum,
        memory64: false,
        shared: false,
        page_size_log2: None,
    }));
    let mut globals = GlobalSection::new();
    let stack = GlobalType {
        val_type: ValType::I32,
        mutable: true,
        shared: false,
    };
    globals.global(stack, &ConstExpr::i32_const(1_048_576));
    let constant = GlobalType {
        mutable: false,
        ..stack
    };
    globals.global(constant, &offset(PLACE_AT));
    module.section(&globals);
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    if let Some(name) = place {
        exports.export(name, ExportKind::Global, 1);
    }
    module.section(&exports);
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(16), *b"constants");
    module.section(&DataCountSection { count: 1 });
    module.section(&data);
    module.finish()
}

fn sound() -> Vec<u8> {
    built(2, None, Some(PLACE))
}

#[test]
fn what_is_carried_lies_behind_what_was_linked() {
    for size in [0, 1, 65_536, 65_537, 1 << 20] {
        let policies = vec![b'p'; size];
        let module = carry(&sound(), &policies).unwrap();
        assert_eq!(
            carried(&module).unwrap(),
            Some(policies.as_slice()),
            "{size}"
        );
        let read = Read::of(&module).unwrap();
        let added = u64::try_from(size.div_ceil(65_536)).unwrap();
        assert_eq!(read.memory.unwrap().initial, 2 + added);
        let addresses: Vec<_> = read
            .segments
            .iter()
            .map(|segment| segment.address)
            .collect();
        assert_eq!(addresses, [Some(16), Some(PLACE_AT), Some(2 * 65_536)]);
        let (_, count) = read.sections.iter().find(|(id, _)| *id == 12).unwrap();
        assert_eq!(part(&module, count).unwrap(), [3]);
    }
}

#[test]
fn everything_else_stays_as_it_is() {
    let (before, after) = (sound(), carry(&sound(), b"[]").unwrap());
    let kept = |module: &[u8]| -> Vec<(u8, Vec<u8>)> {
        let sections = Read::of(module).unwrap().sections;
        let others = sections
            .into_iter()
            .filter(|(id, _)| ![5, 11, 12].contains(id));
        others
            .map(|(id, range)| (id, part(module, &range).unwrap().to_vec()))
            .collect()
    };
    assert_eq!(kept(&before), kept(&after));
    assert_eq!(carry(&sound(), b"[]").unwrap(), after);
}

#[test]
fn what_cannot_carry() {
    let twice = carry(&sound(), b"[]").unwrap();
    for (module, expected) in [
        (b"MZ".to_vec(), "no WebAssembly module"),
        (sound().get(..40).unwrap().to_vec(), "no WebAssembly module"),
        (built(2, None, None), "no egress-warden module"),
        (built(2, None, Some("other")), "no egress-warden module"),
        (built(2, Some(2), Some(PLACE)), "the module would be"),
        (built(65_536, None, Some(PLACE)), "the module would be"),
        (twice, "carries policies already"),
    ] {
        let error = carry(&module, b"[]").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_module_as_it_was_built_carries_nothing() {
    assert_eq!(carried(&sound()), Ok(None));
    assert_eq!(carried(&built(2, None, None)), Err(ModuleError::Foreign));
}
