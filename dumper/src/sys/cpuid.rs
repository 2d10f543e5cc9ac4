//! What the processor can do, by the CPUID instruction (cpuid(4)).

use std::arch::x86_64::__cpuid_count;

/// CPUID leaf of the extended state (XSAVE).
const EXTENDED_STATE: u32 = 0xd;

/// The place of each component of the extended state in an XSAVE area of the standard format:
/// number, size and offset of each component that programs can have. x87 and SSE are left out,
/// because their places are fixed. The layout differs from processor to processor.
pub fn xsave_layout() -> Vec<(u32, u32, u32)> {
    let whole = __cpuid_count(EXTENDED_STATE, 0);
    let supported = u64::from(whole.eax) | u64::from(whole.edx) << 32;
    let component = |n: u32| {
        let of = __cpuid_count(EXTENDED_STATE, n);
        (n, of.eax, of.ebx)
    };
    (2..63).filter(|n| supported >> n & 1 == 1).map(component).collect()
}
