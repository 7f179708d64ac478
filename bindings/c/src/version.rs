//! The versions of the library and of its interface, and the instruction sets that it can use on this CPU.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

/// The version of this interface. Functions, values and ends of structures may be added within a version; nothing else changes.
pub const TRIVEC_ABI_VERSION: u32 = 1;

/// The library's version, as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn trivec_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the interface that the library has: TRIVEC_ABI_VERSION of the header that it was built with.
#[unsafe(no_mangle)]
pub extern "C" fn trivec_abi_version() -> u32 {
    TRIVEC_ABI_VERSION
}

/// The names of the instruction sets that this CPU runs, slowest first; NULL follows the last.
#[unsafe(no_mangle)]
pub extern "C" fn trivec_instruction_sets() -> *const *const c_char {
    struct Names {
        pointers: Vec<*const c_char>,
        _strings: Vec<CString>,
    }
    // SAFETY: the pointers point to strings that never change and that live as long as the pointers.
    unsafe impl Send for Names {}
    // SAFETY: as above.
    unsafe impl Sync for Names {}
    static NAMES: OnceLock<Names> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let strings: Vec<CString> =
            trivec::instruction_sets().iter().filter_map(|&name| CString::new(name).ok()).collect();
        let pointers = strings.iter().map(|name| name.as_ptr()).chain([std::ptr::null()]).collect();
        Names { pointers, _strings: strings }
    });
    names.pointers.as_ptr()
}
