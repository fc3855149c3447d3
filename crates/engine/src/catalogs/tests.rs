//! Versions side by side, nothing replaced, and what a prediction rests on.

use std::num::NonZeroU16;

use mantissa_numerics::Dtype;
use mantissa_numerics::recipe::LinearSum;
use mantissa_numerics::setup::Attention;

use super::*;
use crate::Serving;
use crate::dispatch::Dispatch;

const SHAPE: Linear = Linear { n: 24, k: 40, bias: false, dtype: Dtype::Bf16 };

/// A file about one product that no built-in catalog has, cut into `parts`.
fn file(cublas: &str, parts: u16) -> String {
    let origin = Origin { cublas: cublas.to_owned(), ..h200().origin().clone() };
    let mut catalog = Catalog::new(origin);
    let parts = NonZeroU16::new(parts).expect("a number of parts");
    let uncut = crate::catalog::uncut(Hardware::H200.architecture(), Dtype::Bf16);
    catalog.add_linear(SHAPE, 3, TensorCoreSum { parts, ..uncut });
    catalog.write()
}

fn h200() -> &'static TargetCatalogs {
    Catalogs::built_in().of(Hardware::H200).expect("a built-in catalog")
}

fn parts(known: Option<&TargetCatalogs>) -> Option<u16> {
    Some(known?.linear(SHAPE, 3)?.recipe.parts.get())
}

#[test]
fn library_versions_stand_side_by_side() {
    let (old, new) = (Stack { cublas: "12.8.4".to_owned() }, Stack { cublas: "13.1.0".to_owned() });
    let both = Catalogs::default().with(&file("12.8.4", 2)).expect("a catalog of another version");
    let both = both.with(&file("13.1.0", 5)).expect("a catalog of the built-in version");
    assert_eq!(parts(both.of_stack(Hardware::H200, &old)), Some(2));
    assert_eq!(parts(both.of_stack(Hardware::H200, &new)), Some(5));
    assert_eq!(parts(Catalogs::built_in().of_stack(Hardware::H200, &new)), None, "a value was changed");
    // Verified recipes are of their own version alone.
    let verified = Linear { n: 128, k: 2048, bias: false, dtype: Dtype::Bf16 };
    let basis = |stack| both.of_stack(Hardware::H200, stack)?.linear(verified, 1).map(|e| e.source.basis());
    assert_eq!((basis(&old), basis(&new)), (None, Some(Basis::Verified)));
    // Which is meant has to be said.
    let refused = both.clone().settled().expect_err("of two versions").to_string();
    assert!(refused.contains("cuBLAS 12.8.4, cuBLAS 13.1.0") && refused.contains("--cublas"), "{refused}");
    for (stack, expected) in [(&old, 2), (&new, 5)] {
        let meant = both.meaning(stack).and_then(Catalogs::settled).expect("a known version");
        assert_eq!(parts(meant.of(Hardware::H200)), Some(expected));
        let dispatch = Dispatch {
            quantized: mantissa_numerics::setup::QuantizedWeights::Keep,
            serving: Serving::default(),
            hardware: Hardware::H200,
            dtype: Dtype::Bf16,
            attention: Attention::SdpaFlash,
            catalogs: &meant,
        };
        let found = dispatch.matmul(3, SHAPE.n, SHAPE.k, false).summation;
        assert!(matches!(found, LinearSum::TensorCore(sum) if sum.parts.get() == expected), "{found:?}");
    }
    assert_ne!(both.meaning(&old).expect("known"), both.meaning(&new).expect("known"));
    assert!(matches!(both.meaning(&Stack { cublas: "1".to_owned() }), Err(CatalogError::Stack { .. })));
    // One file alone says which version is meant.
    let one = Catalogs::default().with(&file("12.8.4", 2)).and_then(Catalogs::settled).expect("one version");
    assert_eq!(parts(one.of(Hardware::H200)), Some(2));
    assert_eq!(one.of(Hardware::H100).expect("built in").ids().next().expect("one").stack, new);
}

#[test]
fn no_file_replaces_what_is_known() {
    let with = Catalogs::default().with(&file("13.1.0", 5)).expect("a new shape");
    let known = with.of(Hardware::H200).expect("what was given");
    let own = known.linear(SHAPE, 3).expect("the new shape");
    assert_eq!((own.source.basis(), known.ids().count()), (Basis::Measured, h200().ids().count() + 1));
    assert_eq!(own.source.catalog.digest, blake3::hash(file("13.1.0", 5).as_bytes()).to_hex().to_string());
    // The same again adds nothing; something else about the same shape is refused.
    assert_eq!(with.with(&file("13.1.0", 5)).expect("given before"), with);
    let refused = with.with(&file("13.1.0", 4)).expect_err("a contradiction").to_string();
    assert!(refused.starts_with("a product of 3 × 40 with 24 × 40 has another recipe"), "{refused}");
    assert!(refused.contains(&own.source.catalog.digest), "{refused}");

    // Of a built-in catalog: what agrees stays verified, and what does not is refused.
    let text = include_str!("../../../../catalogs/h200-cublas13.1.json");
    assert_eq!(Catalogs::default().with(text).expect("built in"), Catalogs::default());
    let verified = Linear { n: 128, k: 2048, bias: false, dtype: Dtype::Bf16 };
    let entry = h200().linear(verified, 1).expect("verified").recipe;
    let mut copy = Catalog::new(h200().origin().clone());
    copy.add_linear(verified, 1, entry);
    let agrees = Catalogs::default().with(&copy.write()).expect("the same recipe");
    let found = agrees.of(Hardware::H200).and_then(|known| known.linear(verified, 1));
    assert_eq!(found.map(|entry| entry.source.basis()), Some(Basis::Verified));
    let parts = entry.parts.checked_add(1).expect("few parts");
    copy.add_linear(verified, 1, TensorCoreSum { parts, ..entry });
    assert!(matches!(Catalogs::default().with(&copy.write()), Err(CatalogError::Contradiction { .. })));

    let mut elsewhere = copy.clone();
    elsewhere.origin.multiprocessors = 114;
    assert!(matches!(Catalogs::default().with(&elsewhere.write()), Err(CatalogError::Gpu { .. })));

    // Another die of that name is not this one; a catalog that does not say is taken for it, as it was before.
    copy.add_linear(verified, 1, entry);
    let mut unsaid = copy.clone();
    unsaid.origin.active_clusters = Vec::new();
    assert!(Catalogs::default().with(&unsaid.write()).is_ok());
    let mut die = copy;
    die.origin.active_clusters[2] -= 1;
    let refused = Catalogs::default().with(&die.write()).expect_err("another die").to_string();
    assert!(
        refused.contains("clusters 132 66 38 30") && refused.contains("clusters 132 66 39 30"),
        "{refused}"
    );
}

#[test]
fn a_prediction_knows_the_weakest_basis_of_what_it_used() {
    let mut found = CatalogUse::new(Hardware::H200);
    let with = Catalogs::default().with(&file("13.1.0", 5)).expect("a new shape");
    let known = with.of(Hardware::H200).expect("what was given");
    let of = |shape, rows| [known.linear(shape, rows).expect("an entry").source];
    found.add(of(Linear { n: 128, k: 2048, bias: false, dtype: Dtype::Bf16 }, 1));
    assert_eq!((found.basis, found.catalogs.len()), (Basis::Verified, 1));
    found.add(of(SHAPE, 3));
    found.add(of(SHAPE, 3));
    assert_eq!((found.basis, found.catalogs.len()), (Basis::Measured, 2));
    let mut other = CatalogUse::new(Hardware::Cpu);
    other.join(found);
    assert_eq!((other.basis, other.catalogs.len()), (Basis::Measured, 2));
}
