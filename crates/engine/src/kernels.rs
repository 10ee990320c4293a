//! Integer kernels: products of u8 activations with i8 weights, one for each instruction set.
//!
//! What a graph means does not belong here. The unsafe code of this crate is in the files of the instruction sets, each
//! behind a safe function that has checked every bound.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avxvnni;
pub(crate) mod bank;
pub(crate) mod columns;
pub(crate) mod depthwise;
#[cfg(target_arch = "aarch64")]
mod dotprod;
pub(crate) mod exponential;
#[cfg(target_arch = "x86_64")]
pub(crate) mod floats;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
pub(crate) mod product;
pub(crate) mod rounding;
pub(crate) mod rowwise;
mod vectors;

use std::sync::LazyLock;

use vectors::compiled_for;

/// An instruction set that there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    /// 256 bits, multiplication of 16-bit pairs.
    Avx2,
    #[cfg(target_arch = "x86_64")]
    /// 256 bits, products of four bytes at once.
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    /// 512 bits, products of four bytes at once.
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    /// The same, and tiles for products of many rows.
    Amx,
    #[cfg(target_arch = "aarch64")]
    /// 128 bits, multiplication of bytes to 16 bits.
    Neon,
    #[cfg(target_arch = "aarch64")]
    /// 128 bits, products of four bytes at once.
    DotProduct,
    #[cfg(target_arch = "aarch64")]
    /// 128 bits, products of two rows and two columns at once.
    I8mm,
}

impl Isa {
    /// The fastest that this processor has.
    pub(crate) fn best() -> Isa {
        // The last is the fastest, and the first is always there.
        Isa::available().last().copied().unwrap_or(Isa::Portable)
    }

    /// The fastest that this processor has, looked up once.
    pub(crate) fn here() -> Isa {
        static HERE: LazyLock<Isa> = LazyLock::new(Isa::best);
        *HERE
    }

    /// Products of u8 with i8 that this does in a nanosecond, roughly: to tell what is worth it to hand to another thread.
    pub(crate) fn products_per_ns(self) -> f32 {
        match self {
            Isa::Portable => 2.0,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 30.0,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => 90.0,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => 180.0,
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => 400.0,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 10.0,
            #[cfg(target_arch = "aarch64")]
            Isa::DotProduct => 30.0,
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm => 60.0,
        }
    }

    /// What this processor has, the slowest first.
    pub(crate) fn available() -> Vec<Isa> {
        #[cfg(target_arch = "x86_64")]
        let others = [
            (Isa::Avx2, avx2::is_available()),
            (Isa::AvxVnni, avxvnni::is_available()),
            (Isa::Avx512Vnni, avx512::is_available()),
            (Isa::Amx, amx::is_available()),
        ];
        #[cfg(target_arch = "aarch64")]
        let others = [
            (Isa::Neon, true),
            (Isa::DotProduct, dotprod::is_available()),
            (Isa::I8mm, i8mm::is_available()),
        ];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let others: [(Isa, bool); 0] = [];
        let has = others.into_iter().filter_map(|(isa, is_available)| is_available.then_some(isa));
        std::iter::once(Isa::Portable).chain(has).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
