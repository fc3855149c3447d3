//! The C library's `powf`: glibc 2.28 to 2.41, its build for machines with FMA.
//!
//! It computes in binary64 and rounds once, so that it gives the nearest value except for about one power in 1,500.
//! Later versions may round correctly; [`Rope::one_answer`](crate::rotary::Rope::one_answer) takes that into account.

/// `[1/c, log2 c]` as bits, for sixteen centers `c`.
const CENTERS: [[u64; 2]; 16] = [
    [0x3FF661EC79F8F3BE, 0xBFDEFEC65B963019],
    [0x3FF571ED4AAF883D, 0xBFDB0B6832D4FCA4],
    [0x3FF49539F0F010B0, 0xBFD7418B0A1FB77B],
    [0x3FF3C995B0B80385, 0xBFD39DE91A6DCF7B],
    [0x3FF30D190C8864A5, 0xBFD01D9BF3F2B631],
    [0x3FF25E227B0B8EA0, 0xBFC97C1D1B3B7AF0],
    [0x3FF1BB4A4A1A343F, 0xBFC2F9E393AF3C9F],
    [0x3FF12358F08AE5BA, 0xBFB960CBBF788D5C],
    [0x3FF0953F419900A7, 0xBFAA6F9DB6475FCE],
    [0x3FF0000000000000, 0x0000000000000000],
    [0x3FEE608CFD9A47AC, 0x3FB338CA9F24F53D],
    [0x3FECA4B31F026AA0, 0x3FC476A9543891BA],
    [0x3FEB2036576AFCE6, 0x3FCE840B4AC4E4D2],
    [0x3FE9C2D163A1AA2D, 0x3FD40645F0C6651C],
    [0x3FE886E6037841ED, 0x3FD88E9C2C1B9FF8],
    [0x3FE767DCF5534862, 0x3FDCE0A44EB17BCC],
];

/// Coefficients of `log2(1 + r)`, highest power first.
const LOGARITHM: [u64; 5] =
    [0x3FD27616C9496E0B, 0xBFD71969A075C67A, 0x3FDEC70A6CA7BADD, 0xBFE7154748BEF6C8, 0x3FF71547652AB82B];

/// Coefficients of `2^r`, highest power first, without the constant 1.
const EXPONENTIAL: [u64; 3] = [0x3FAC6AF84B912394, 0x3FCEBFCE50FAC4F3, 0x3FE62E42FF0C52D6];

/// glibc's `powf`.
///
/// *Shape:* a positive normal `base`, a finite `exponent`, a result that is normal.
///
/// *Rounding:* each operation below in binary64, the result to binary32.
///
/// *Source:* `e_powf.c` of glibc 2.28 (Szabolcs Nagy), contracted as GCC does for FMA.
///
/// ```
/// use mantissa_numerics::torch_cpu::glibc::powf;
/// assert_eq!(powf(100.0, 0.5), 10.0);
/// // One of the few that are not nearest: 27^0.375 is one step above it.
/// assert_eq!(powf(27.0, 0.375), (27.0_f64.powf(0.375) as f32).next_up());
/// ```
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "rounding to binary32 is the definition")]
pub fn powf(base: f32, exponent: f32) -> f32 {
    exp2(f64::from(exponent) * log2(base)) as f32
}

/// Whether a `powf` that rounds correctly gives the same.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "rounding to binary32 is the definition")]
pub(crate) fn is_one_answer(base: f32, exponent: f32) -> bool {
    let nearest = libm::pow(f64::from(base), f64::from(exponent)) as f32;
    nearest.to_bits() == powf(base, exponent).to_bits()
}

/// The table is over [0.699, 1.398): the bits of its lower end.
const LOWEST: u32 = 0x3F33_0000;

fn log2(x: f32) -> f64 {
    let offset = x.to_bits().wrapping_sub(LOWEST);
    let [inverse, center] = CENTERS[(offset >> 19 & 15) as usize].map(f64::from_bits);
    let top = offset & 0xFF80_0000;
    let mantissa = f64::from(f32::from_bits(x.to_bits().wrapping_sub(top)));
    let power = f64::from(top.cast_signed() >> 23);
    let [a, b, c, d, e] = LOGARITHM.map(f64::from_bits);
    let r = mantissa.mul_add(inverse, -1.0);
    let square = r * r;
    let low = e.mul_add(r, center + power);
    let middle = c.mul_add(r, d).mul_add(square, low);
    a.mul_add(r, b).mul_add(square * square, middle)
}

fn exp2(x: f64) -> f64 {
    let steps = (x * 32.0).round_ties_even();
    let scale = libm::exp2(steps / 32.0);
    let r = x - steps / 32.0;
    let [a, b, c] = EXPONENTIAL.map(f64::from_bits);
    a.mul_add(r, b).mul_add(r * r, c.mul_add(r, 1.0)) * scale
}
