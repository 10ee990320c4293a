//! Plain loops, compiled anew for the vectors of each instruction set.

/// Calls `$body`, an `#[inline(always)]` function of plain loops that returns nothing, compiled for the vectors of `$isa`.
macro_rules! compiled_for {
    ($isa:expr, $body:path, $($argument:ident: $type:ty),+) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn avx2($($argument: $type),+) {
            $body($($argument),+);
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        fn avx512($($argument: $type),+) {
            $body($($argument),+);
        }
        match $isa {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an instruction set is only chosen where the processor has it.
            $crate::kernels::Isa::Avx2 | $crate::kernels::Isa::AvxVnni => unsafe { avx2($($argument),+) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            $crate::kernels::Isa::Avx512Vnni | $crate::kernels::Isa::Amx => unsafe { avx512($($argument),+) },
            // The compiler may use what every processor of the architecture has.
            _ => $body($($argument),+),
        }
    }};
}
pub(super) use compiled_for;
