use super::*;

#[test]
fn every_word_of_every_axis_is_read_back_and_reaches_the_setup_and_its_name() {
    let mut names = std::collections::BTreeSet::new();
    for axis in Axis::ALL {
        assert_eq!(Axis::named(axis.name()), Ok(axis));
        let words = axis.words().unwrap_or_else(|| match axis {
            Axis::Padding => vec!["none", "left:1", "left:1048576", "right:1"],
            _ => vec!["1", "2", "1048576"],
        });
        for word in words {
            let value = axis.parse(word).unwrap();
            assert_eq!((value.axis(), value.to_string().as_str()), (axis, word));
            let setup = Setup::default().with(value);
            assert_eq!(setup.get(axis), value);
            let mut some = SomeAxes::default();
            some.set(value);
            assert_eq!((some.over(Setup::default()), some.values().collect()), (setup, vec![value]));
            assert!(names.insert(setup.to_string()) || setup == Setup::default(), "{setup}");
            let json = serde_json::to_string(&setup).unwrap();
            assert_eq!(serde_json::from_str::<Setup>(&json).unwrap(), setup, "{json}");
        }
        for wrong in ["", "-1", "1048577", "left", "left:", "left:0", "left:1048577", "top:1"] {
            assert!(axis.parse(wrong).is_err(), "{axis:?} {wrong}");
        }
    }
}

#[test]
fn names_of_candidates_are_those_of_earlier_versions() {
    let h200 = Setup { hardware: Hardware::H200, batch_size: 17, ..Setup::default() };
    assert_eq!(h200.to_string(), "h200_bs17_eager_bf16");
    let decoded = Setup { quantization: QuantizedWeights::Dequantize, dtype: Dtype::F32, ..Setup::default() };
    assert_eq!(decoded.to_string(), "cpu_bs1_eager_f32_dequantized");
}

#[test]
fn what_earlier_versions_wrote_is_read_from_files_alone() {
    for (former, now) in [("a100", Hardware::A100), ("l40s", Hardware::L40s)] {
        assert_eq!(Axis::Hardware.parse_stored(former), Ok(Value::Hardware(now)));
        let refused = Axis::Hardware.parse(former).unwrap_err().to_string();
        assert!(refused.ends_with(&format!("use {}", now.name())), "{refused}");
        assert_eq!(serde_json::from_str::<Hardware>(&format!("\"{former}\"")).unwrap(), now);
    }
}
